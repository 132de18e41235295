"""The board: sections in order, counts that add up, intervals that hold, several systems on identical rows."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from board import board, hypothesis, rows, scored
from clinical_asr.errors import ScoringError
from clinical_asr.html_report import leaderboard_html
from clinical_asr.keywords import count_keyword
from clinical_asr.leaderboard import leaderboard
from clinical_asr.ranking import Ranking, on_held_out, rank
from clinical_asr.ranking_report import ranking_markdown
from clinical_asr.records import EntityCategory, Hypothesis, IpaSource, Stratum, Term
from clinical_asr.report import leaderboard_markdown
from clinical_asr.scores import score, signature
from clinical_asr.tally import Leaderboard, Score, Signature
from clinical_asr.variants import Variants

SECTIONS = ["by_entity_category", "by_ipa_source", "by_noise_level", "by_term", "by_stratum", "by_voice", "by_context"]


def mixed() -> Leaderboard:
    return board(
        rows(40, 10, terms=8, voice="v1"),
        rows(
            20,
            15,
            terms=4,
            start=100,
            category=EntityCategory.LAB,
            source=IpaSource.MAGPIE_G2P,
            noise="snr_5db",
            voice="v2",
        ),
        rows(
            20, 0, terms=4, start=200, category=EntityCategory.ROLE, source=IpaSource.G2P, noise="snr_15db", voice="v2"
        ),
    )


def test_the_document_has_its_sections_in_order_and_reads_back() -> None:
    found = mixed()
    document = msgspec.json.decode(msgspec.json.encode(found))
    ours = ["false_insertions", "confusions", "numbers", "terms_digest"]
    assert list(document) == ["signature", "headline", *SECTIONS, *ours]
    assert list(document["headline"])[:6] == ["key", "rows", "wer", "cer", "ker", "ser"]
    assert msgspec.json.decode(msgspec.json.encode(found), type=Leaderboard) == found


def test_every_section_adds_up_to_the_headline() -> None:
    found = mixed()
    assert (found.headline.rows, found.headline.misses, found.headline.occurrences) == (80, 25, 80)
    assert found.headline.ker == 25 / 80
    for name in ("by_entity_category", "by_ipa_source", "by_noise_level", "by_term", "by_voice", "by_context"):
        lines = getattr(found, name)
        for count in ("rows", "misses", "occurrences", "words"):
            assert sum(getattr(line, count) for line in lines) == getattr(found.headline, count), (name, count)


def test_lines_stand_in_a_sensible_order() -> None:
    found = mixed()
    assert [line.key for line in found.by_ipa_source] == ["g2p", "override"]  # magpie_g2p is g2p
    assert [line.key for line in found.by_noise_level] == ["clean", "snr_15db", "snr_5db"]
    kers = [line.ker or 0 for line in found.by_term]
    assert kers == sorted(kers, reverse=True) and kers[0] > kers[-1]
    assert found.by_term[0].entity_category == "lab"


def test_noise_levels_stand_from_the_quietest_to_the_loudest_and_unknown_ones_last() -> None:
    """By the number in their name: 10 dB before 5 dB, 0 dB before -5 dB, whatever the alphabet says."""
    levels = ["clean", "snr_20db", "snr_10db", "snr_5db", "snr_0db", "snr_-5db", "ambulance", "ward"]
    found = board([hypothesis(f"r{n}", noise=level) for n, level in enumerate(sorted(levels))])
    assert [line.key for line in found.by_noise_level] == levels


def test_every_interval_holds_its_rate() -> None:
    found = mixed()
    for line in [found.headline, *found.by_entity_category, *found.by_term]:
        for rate in ("ker", "wer", "cer", "ser"):
            low, value, high = (getattr(line, f"{rate}{end}") for end in ("_low", "", "_high"))
            assert low - 1e-12 <= value <= high + 1e-12, (line.key, rate)


def test_fewer_terms_give_a_wider_interval() -> None:
    """The same 200 rows and the same 50 % missed, once 4 terms that share their fate and once 40."""

    def clustered(terms: int) -> float:
        each = 200 // terms
        lines = [
            hypothesis(f"r{t:02d}{i:03d}", heard=t % 2 == 0, term=f"term{t}") for t in range(terms) for i in range(each)
        ]
        line = board(lines).headline
        return (line.ker_high or 0) - (line.ker_low or 0)

    assert clustered(4) > 2 * clustered(40)


def test_strata_come_from_the_split() -> None:
    scores, signature = scored(rows(10, 5))
    strata = {row.id: Stratum.TRAINED if i < 6 else Stratum.NEW_TERM for i, row in enumerate(scores)}
    found = leaderboard(scores, signature, strata)
    assert [(line.key, line.rows) for line in found.by_stratum] == [("trained", 6), ("new term", 4)]
    assert leaderboard(scores, signature).by_stratum == []


def test_confusions_false_insertions_and_numbers_are_told() -> None:
    lines = [
        hypothesis("a", term="cefazolin"),
        hypothesis("b", term="cefoxitin"),
        *(msgspec.structs.replace(hypothesis(f"c{i}"), pred_text="please give cefoxitin now") for i in range(3)),
        msgspec.structs.replace(hypothesis("d"), text="Give cefazolin 2.5 mg", pred_text="give cefazolin 25 mg"),
    ]
    found = board(lines)
    first = found.confusions[0]
    assert (first.term, first.heard, first.count, first.kind) == ("cefazolin", "cefoxitin", 3, "listed drug")
    assert [(f.term, f.count, f.rows) for f in found.false_insertions] == [("cefoxitin", 3, 3)]
    assert found.headline.false_insertions == 3
    values = next(n for n in found.numbers if n.kind == "value")
    assert (values.errors, values.length, values.rows) == (1, 1, 1)


def test_general_speech_without_terms_has_a_board_too() -> None:
    speech = [
        Hypothesis(id=f"{i}", audio_filepath="", text=f"we met {i} friends", pred_text=f"we met {i} friend", duration=1)
        for i in range(6)
    ]
    found = board(speech)
    assert found.headline.ker is None and found.headline.ker_low is None and found.headline.wer == 0.25
    assert found.by_term == [] and found.by_entity_category == []
    assert "No row has a term" in leaderboard_markdown(found)


def test_a_board_without_rows_or_with_other_rows_than_it_signs_is_refused() -> None:
    scores, signature = scored(rows(10, 5))
    for wrong, why in (([], "no rows"), (scores[1:], "signature says 10"), ([*scores, scores[0]], "stands twice")):
        with pytest.raises(ScoringError, match=why):
            leaderboard(wrong, signature)


def a1c(row_id: str, heard: str, said: str = "Check the HbA1c now.") -> Hypothesis:
    row = hypothesis(row_id, term="HbA1c", category=EntityCategory.LAB)
    return msgspec.structs.replace(row, text=said, pred_text=heard)


LISTED = [Term(term="HbA1c", entity_category=EntityCategory.LAB, extra={"variants": "hemoglobin A1c; A1c"})]


def test_variants_stand_beside_strict_ker_and_change_nothing_else() -> None:
    lines = [
        a1c("a", "check the hemoglobin a1c now"),
        a1c("b", "check the happy one now"),
        a1c("c", "check the hba1c now"),
        a1c("d", "also called a1c", said="The HbA1c, also called A1c"),  # said for itself: no hit of HbA1c
        hypothesis("e", heard=False),
    ]
    scores, signature = scored(lines)
    plain, aware = leaderboard(scores, signature), leaderboard(scores, signature, terms=LISTED)
    assert (aware.headline.misses, aware.headline.variant_misses, aware.headline.occurrences) == (4, 3, 5)
    lab = next(line for line in aware.by_entity_category if line.key == "lab")
    assert (lab.ker, lab.variant_ker) == (0.75, 0.5) and (lab.variant_ker_low or 0) < 0.5 < (lab.variant_ker_high or 0)
    assert plain.headline.variant_ker is None and plain.terms_digest == "" != aware.terms_digest
    cleared = dict.fromkeys(("variant_misses", "variant_ker", "variant_ker_low", "variant_ker_high"))
    assert dataclasses.replace(aware.headline, **cleared) == plain.headline
    assert [dataclasses.replace(line, **cleared) for line in aware.by_term] == plain.by_term
    text = leaderboard_markdown(aware)
    assert "KER, variants counted" in text and "KER, variants" not in leaderboard_markdown(plain)
    assert aware.terms_digest in text and "KER, variants" in leaderboard_html(aware, scores)


def test_a_list_of_another_benchmark_is_refused_and_a_list_without_variants_is_strict() -> None:
    scores, signature = scored([a1c("a", "check the a1c now")])
    with pytest.raises(ScoringError, match="holds none of the 1 scored terms"):
        leaderboard(scores, signature, terms=[Term(term="femur", entity_category=EntityCategory.ANATOMY)])
    strict = leaderboard(scores, signature, terms=[Term(term="hba1c", entity_category=EntityCategory.LAB)])
    assert strict.headline.variant_ker == strict.headline.ker == 1.0


def test_variants_are_written_as_the_boards_normaliser_writes_the_rows() -> None:
    """With ``flywheel-v1`` a hyphen stays in its word, on both sides."""
    row = hypothesis("a", term="co-amoxiclav")
    scores = score([msgspec.structs.replace(row, pred_text="please give co-amoxi-clav now")], "flywheel-v1")
    signed = signature([row], normaliser="flywheel-v1")
    listed = [Term(term="co-amoxiclav", entity_category=EntityCategory.DRUG, extra={"variants": "co-amoxi-clav"})]
    found = leaderboard(scores, signed, terms=listed).headline
    assert (found.misses, found.variant_misses) == (1, 0)


def test_rows_that_pass_only_once_give_the_same_board_if_it_is_told_what_they_are_about() -> None:
    scores, signed = scored([*rows(6, 2), *rows(4, 4, start=10, category=EntityCategory.LAB)])
    assert leaderboard(iter(scores), signed, about=scores) == leaderboard(scores, signed)


A1C = st.lists(st.sampled_from(["hba1c", "a1c", "hemoglobin", "x"]), max_size=6)


@given(A1C, A1C)
def test_variants_never_add_a_miss(left: list[str], right: list[str]) -> None:
    said, heard = " ".join(["hba1c", *left]), " ".join(right)
    strict = count_keyword(said, heard, "hba1c")
    assert strict.hits <= Variants(LISTED).hits("HbA1c", said, heard, strict) <= strict.occurrences


def test_a_term_that_moved_is_right_by_the_row() -> None:
    row = hypothesis("a", term="heparin")
    found = board([msgspec.structs.replace(row, text="heparin then rest", pred_text="rest then heparin")])
    assert (found.headline.misses, found.headline.false_insertions) == (0, 0)


# --- several systems ---


def systems(*misses: int) -> list[tuple[str, list, object]]:  # type: ignore[type-arg]
    return [(f"model{m}", *scored(rows(200, m, terms=20, model=f"model{m}", digest=str(m)))) for m in misses]


def test_systems_are_ranked_with_paired_intervals_against_the_best() -> None:
    ranking = rank(systems(100, 20, 21))
    assert [s.name for s in ranking.standings] == ["model20", "model21", "model100"]
    assert [s.place for s in ranking.standings] == [1, 2, 3]
    best, close, far = ranking.standings
    assert best.difference is None
    assert close.low is not None and close.low < 0 < (close.high or 0)
    assert far.difference == pytest.approx(0.4) and far.p_value is not None and far.p_value < 0.001
    assert far.p_holm is not None and far.p_holm >= far.p_value
    text = ranking_markdown(ranking)
    assert text.index("model20") < text.index("model100") and "+40.0" in text


def test_a_ranking_says_in_one_line_what_training_had_of_its_rows() -> None:
    def told(stratum: Stratum | None) -> Ranking:
        labelled = [
            (name, [msgspec.structs.replace(row, stratum=stratum if n < 5 else Stratum.NEW_TERM if stratum else None)
                    for n, row in enumerate(scores)], signed)
            for name, scores, signed in systems(10, 20)
        ]  # fmt: skip
        return rank(labelled)  # type: ignore[arg-type]

    without, held, trained = told(None), told(Stratum.NEW_VOICE), told(Stratum.TRAINED)
    assert [one.trained_rows for one in (without, held, trained)] == [None, 0, 5]
    assert "No split was given" in without.note and "5 rows were trained on" in trained.note
    for one in (without, held, trained):
        assert one.note in ranking_markdown(one) and "\n" not in one.note


def test_with_a_split_only_rows_that_it_holds_out_rank() -> None:
    """The tuned model knows the 150 rows it was trained on by heart, and hears less of what is new."""

    def labelled(name: str, trained_misses: int, held_misses: int) -> tuple[str, list[Score], Signature]:
        told = [*rows(150, trained_misses, terms=20), *rows(50, held_misses, terms=20, start=150)]
        scores, signed = scored([msgspec.structs.replace(row, model=name) for row in told])
        strata = [Stratum.TRAINED] * 150 + [Stratum.NEW_VOICE] * 50
        return name, [msgspec.structs.replace(row, stratum=s) for row, s in zip(scores, strata, strict=True)], signed

    both = [labelled("by heart", 0, 20), labelled("base", 60, 10)]
    assert [s.name for s in rank(both).standings] == ["by heart", "base"]
    kept, left_out = on_held_out(both)
    found = rank(kept, left_out=left_out)
    assert [(s.name, s.rows, s.misses) for s in found.standings] == [("base", 50, 10), ("by heart", 50, 20)]
    assert (found.trained_rows, found.left_out) == (0, 150) and "150 other rows" in found.note
    assert {signed.rows for signed in found.signatures.values()} == {50}
    assert found.note in ranking_markdown(found)
    with pytest.raises(ScoringError, match="model10: has no row that the split holds out"):
        on_held_out(systems(10, 20))


def test_systems_on_other_rows_are_refused() -> None:
    one, two = systems(10, 20)
    shorter = ("short", *scored(rows(199, 20, terms=20)))
    with pytest.raises(ScoringError, match="short: was not scored on the same rows as model10"):
        rank([one, shorter])
    with pytest.raises(ScoringError, match="own name"):
        rank([one, one])
    assert rank([one, two]).standings[0].name == "model10"


# --- Markdown ---


def test_the_markdown_puts_the_headline_first_and_the_signature_last() -> None:
    found = mixed()
    text = leaderboard_markdown(found)
    titles = [
        "## 1. Headline",
        "## 2. KER by entity category",
        "## 3. KER by source",
        "## 4. KER by noise",
        "## 5. KER per term",
        "## 6.",
        "## 7.",
        "## 8.",
        "## 9.",
        "## 10.",
    ]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert "31.2 %" in text and "25 / 80 terms" in text
    assert text.rstrip().splitlines()[-1].startswith("`normaliser clinical-v1 | metrics")
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({len(line) for line in block.splitlines()}) == 1, "columns are not aligned"
