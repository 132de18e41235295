"""A tally's rates are each their own count over their own length; what a row or a board does not say is empty."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from board import board, hypothesis
from clinical_asr.error_count import ErrorCount
from clinical_asr.keywords import KeywordCount
from clinical_asr.tally import Leaderboard, Score, Subject, Tally


def test_each_rate_divides_its_own_count_by_its_own_length() -> None:
    tally = Tally(4, 3, ErrorCount(1, 1, 1, 8, 10), ErrorCount(2, 3, 4, 35, 40), KeywordCount(5, 3, 9), row_rates=1.4)
    assert (tally.wer, tally.cer, tally.ker, tally.ser) == (3 / 10, 9 / 40, 2 / 5, 3 / 4)
    assert tally.wer_row_mean == 1.4 / 4
    nothing = Tally.zero()
    assert {nothing.wer, nothing.cer, nothing.ker, nothing.ser, nothing.wer_row_mean} == {None}


def test_what_was_counted_stays_as_it_is() -> None:
    score = Score(id="a", tally=Tally.zero(), reference="", hypothesis="")
    for value, field in ((Tally.zero(), "rows"), (score, "id"), (Subject("a"), "term")):
        with pytest.raises(AttributeError):
            setattr(value, field, "other")


def test_the_many_texts_of_a_score_are_told_apart_by_name() -> None:
    with pytest.raises(TypeError):
        Score("a", Tally.zero(), "said", "heard")  # type: ignore[misc]


def test_a_row_that_says_nothing_of_a_term_or_a_voice_is_about_none() -> None:
    tally = Tally(1, 0, ErrorCount(0, 0, 0, 2, 2), ErrorCount(0, 0, 0, 3, 3), KeywordCount.zero())
    row = msgspec.json.decode(
        msgspec.json.encode({"id": "a", "tally": tally, "reference": "a b", "hypothesis": "a b"}), type=Score
    )
    assert {row.term, row.noise_level, row.voice_id, row.context_type, row.audio_filepath} == {""}
    assert row.entity_category is row.ipa_source is row.stratum is None
    assert Subject("a") == Subject("a", "", None)


def without(document: Any, names: set[str]) -> Any:
    if isinstance(document, list):
        return [without(one, names) for one in document]
    if not isinstance(document, dict):
        return document
    return {name: without(value, names) for name, value in document.items() if name not in names}


def test_a_board_that_was_written_without_categories_and_variants_reads_back_with_these_empty() -> None:
    """Later releases add fields; boards of earlier ones stay comparable."""
    heard = msgspec.structs.replace(hypothesis("b", term="heparin"), pred_text="please give cefazolin now")
    written = msgspec.to_builtins(board([hypothesis("a"), heard]))
    added = {"entity_category", "variant_misses", "variant_ker", "variant_ker_low", "variant_ker_high", "terms_digest"}
    found = msgspec.convert(without(written, added), Leaderboard)
    assert found.confusions and found.false_insertions and found.terms_digest == ""
    lines = [found.headline, *found.by_term]
    assert {one.entity_category for one in (*lines, *found.confusions, *found.false_insertions)} == {""}
    assert {(one.variant_misses, one.variant_ker, one.variant_ker_low, one.variant_ker_high) for one in lines} == {
        (None, None, None, None)
    }
