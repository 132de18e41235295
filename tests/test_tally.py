"""Tallies add like the counts they hold, whatever the order; signatures name what forbids a comparison."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from clinical_asr.error_count import ErrorCount
from clinical_asr.keywords import KeywordCount
from clinical_asr.tally import Signature, Tally

small = st.integers(0, 20)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    def count() -> ErrorCount:
        s, d, i, h = (draw(small) for _ in range(4))
        return ErrorCount(s, d, i, h, s + d + h)

    hits = draw(small)
    keywords = KeywordCount(hits + draw(small), hits, draw(small))
    return Tally(draw(small), draw(small), count(), count(), keywords, float(draw(small)))


@given(tallies(), tallies(), tallies())
def test_addition_is_associative_commutative_and_has_a_zero(a: Tally, b: Tally, c: Tally) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Tally.zero() == a


@given(tallies())
def test_rates_are_counts_over_counts_or_none(tally: Tally) -> None:
    assert tally.wer == (tally.words.errors / tally.words.length if tally.words.length else None)
    assert tally.ker == (tally.keywords.misses / tally.keywords.occurrences if tally.keywords.occurrences else None)
    assert (tally.ser is None) == (tally.wer_row_mean is None) == (tally.rows == 0)


def test_only_yardstick_and_rows_forbid_a_comparison() -> None:
    one = Signature("clinical-v1", "1", "base", "aa", "m", 10)
    assert one.differences(replace(one, model="tuned", model_digest="bb")) == []
    for field, value in {"normaliser": "x", "metric_version": "2", "manifest_digest": "n", "rows": 9}.items():
        assert one.differences(replace(one, **{field: value})) == [f"{field}: {getattr(one, field)} / {value}"]
