"""What gate and triage say and show: every reason in full, every gap at its edge, boards that lack something."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from board import board, rows
from clinical_asr.config import GateConfig
from clinical_asr.firmness import _firmness_note, firmness_of, pooled_ker
from clinical_asr.gaps import pronunciation_gap, robustness_gap
from clinical_asr.gate import gate
from clinical_asr.records import EntityCategory, IpaSource
from clinical_asr.tally import Leaderboard
from clinical_asr.triage import triage

G2P, BOOK = IpaSource.G2P, IpaSource.MERRIAM_WEBSTER
BOTH = GateConfig(priority_categories=(EntityCategory.DRUG, EntityCategory.LAB))


def drugs(n: int, misses: int, terms: int = 20) -> Leaderboard:
    return board(rows(n, misses, terms=terms))


def test_an_open_gate_shows_every_condition_met_and_sends_nobody_back() -> None:
    found = gate(drugs(100, 40))
    assert found.evidence["conditions"] == [
        {"condition": name, "number": number, "needed": needed, "ok": True, "go_back_to": "", "missing": ""}
        for name, number, needed in [
            ("priority KER", 0.4, "> 0.3"),
            ("rows", 100, ">= 100"),
            ("drug rows", 100, ">= 5"),
            ("no pronunciation gap", None, "g2p not bad where the rest is good"),
        ]
    ]
    assert found.reason == f"priority KER 0.400 is above 0.3 on 100 rows; {found.evidence['firmness']['note']}"
    assert found.evidence["priority_categories"] == ["drug"]


def test_a_closed_gate_says_all_that_is_missing_in_one_line() -> None:
    found = gate(drugs(4, 1))
    assert found.reason == "priority KER is 0.250, not above 0.3; 4 rows, 100 needed; 4 drug rows, 5 needed"


def test_a_priority_category_without_a_row_cannot_be_measured_and_is_not_firm() -> None:
    others = board(rows(200, 100, terms=20, category=EntityCategory.ROLE))
    found = gate(others)
    assert found.reason == "priority KER cannot be measured, not above 0.3; 0 drug rows, 5 needed"
    assert found.evidence["firmness"] == {
        "ker": None, "low": None, "high": None, "occurrences": 0, "terms": 0, "intracluster_correlation": None,
        "effective_n": None, "note": "no row of a priority category was scored",
    }  # fmt: skip
    led = triage(others, 1)
    assert (led.verdict, led.next_stage, led.exit_code) == ("grow", "build", 3)
    assert led.reason.startswith("the priority categories have no rows (")


def test_a_board_without_its_terms_has_a_ker_of_unknown_firmness() -> None:
    """Boards of other tools may list no terms: the KER stands, how far it can be trusted does not."""
    firmness = firmness_of(replace(drugs(100, 40), by_term=[]), GateConfig())
    assert (firmness.ker, firmness.low, firmness.occurrences, firmness.terms) == (0.4, None, 0, 0)
    assert firmness.note == "how firm is not known without its terms"


def test_firmness_looks_at_the_terms_of_the_priority_categories_only() -> None:
    labs = rows(50, 0, terms=5, start=1000, category=EntityCategory.LAB)
    mixed = board(rows(100, 40, terms=10), [row for row in labs if row.term not in {f"term{i}" for i in range(10)}])
    assert asdict(firmness_of(mixed, GateConfig())) == asdict(firmness_of(drugs(100, 40, 10), GateConfig()))


@pytest.mark.parametrize(
    ("n", "misses", "terms", "says"),
    [
        (400, 320, 40, "firm, the interval crosses no threshold"),
        (100, 12, 20, "not firm, the interval holds 0.1; add terms"),
        (100, 35, 20, "nearly a coin toss, the interval holds 0.3; add terms"),
        (20, 4, 4, "nearly a coin toss, the interval holds 0.1 and 0.3; add terms"),
    ],
)
def test_firmness_names_the_thresholds_that_the_interval_holds(n: int, misses: int, terms: int, says: str) -> None:
    firmness = firmness_of(drugs(n, misses, terms), GateConfig())
    shown = f"KER {misses / n:.3f} [{firmness.low:.3f}, {firmness.high:.3f}] on {terms} terms"
    assert firmness.note == f"{shown}: {says}"
    held = [limit for limit in (0.1, 0.3) if (firmness.low or 0) <= limit <= (firmness.high or 0)]
    assert all(f"{limit:g}" in says for limit in held) and ("firm, the interval crosses" in says) is (not held)


def test_a_term_of_two_priority_categories_is_one_term_with_all_its_rows() -> None:
    labs = rows(100, 30, terms=20, start=100, category=EntityCategory.LAB)
    twice, once = (
        board(rows(100, 40, terms=20), labs),
        board(rows(100, 40, terms=20), rows(100, 30, terms=20, start=100)),
    )
    found, same = firmness_of(twice, BOTH), firmness_of(once, GateConfig())
    assert found == same and (found.terms, found.occurrences) == (20, 200)


@pytest.mark.parametrize(("low", "high", "says"), [
    (0.1, 0.2, "not firm, the interval holds 0.1;"), (0.2, 0.3, "nearly a coin toss, the interval holds 0.3;"),
    (0.11, 0.29, "firm, the interval crosses no threshold"),
])  # fmt: skip
def test_an_interval_holds_its_own_ends(low: float, high: float, says: str) -> None:
    assert says in _firmness_note(0.2, low, high, 20, GateConfig())


def spoken(verified: int, guessed: int, n: int = 60) -> Leaderboard:
    return board(rows(n, verified, terms=12, source=BOOK), rows(n, guessed, terms=12, start=1000, source=G2P))


def test_a_pronunciation_gap_is_named_before_everything_else_that_is_missing() -> None:
    found = gate(spoken(0, 20, n=20))
    assert found.next_stage == "pronunciations"
    assert found.reason == (
        "pronunciation gap: KER 1.000 on 20 g2p rows but 0.000 on 20 merriam-webster/override rows: "
        "the audio is wrong, not the model; 40 rows, 100 needed"
    )
    last = found.evidence["conditions"][-1]
    assert (last["condition"], last["number"], last["ok"]) == ("no pronunciation gap", 1.0, False)
    assert last["go_back_to"] == "pronunciations" and last["missing"].startswith("pronunciation gap")
    assert found.evidence["pronunciation_gap"] == {
        "good": "merriam-webster/override", "good_rows": 20, "good_ker": 0.0,
        "bad": "g2p", "bad_rows": 20, "bad_ker": 1.0, "found": True,
    }  # fmt: skip
    assert triage(spoken(0, 20, n=20), 1).reason.startswith(f"{last['missing']}; correct them and listen again (KER ")


def test_both_verified_sources_are_one_side_of_the_gap() -> None:
    """Three rows of the dictionary and two of a person make the five that are needed."""
    two = [rows(3, 0, source=BOOK), rows(2, 0, start=10, source=IpaSource.OVERRIDE), rows(5, 5, start=20, source=G2P)]
    gap = pronunciation_gap(board(*two), GateConfig())
    assert (gap.found, gap.good_rows, gap.bad_rows) == (True, 5, 5)
    assert not pronunciation_gap(board(two[0], two[2]), GateConfig()).found


def test_a_source_without_rows_has_no_ker_and_no_gap_even_where_none_are_needed() -> None:
    config = GateConfig(min_rows_per_source=0)
    for source in (BOOK, G2P):
        gap = pronunciation_gap(board(rows(10, 10, source=source)), config)
        assert not gap.found and None in (gap.good_ker, gap.bad_ker)


def noisy(**misses: int) -> Leaderboard:
    """20 rows at each noise level, so many of them missed."""
    return board(*(rows(20, n, start=100 * i, noise=level.replace("minus_", "-"))
                   for i, (level, n) in enumerate(misses.items())))  # fmt: skip


def test_the_noisiest_level_is_the_one_of_the_lowest_snr_below_zero_too() -> None:
    gap = robustness_gap(noisy(clean=0, snr_5db=20, snr_minus_3db=8, snr_15db=0, ward=20), GateConfig())
    assert (gap.good, gap.good_rows, gap.good_ker) == ("clean", 20, 0.0)
    assert (gap.bad, gap.bad_rows, gap.bad_ker, gap.found) == ("snr_-3db", 20, 0.4, True)
    silent = robustness_gap(noisy(clean=0, snr_5db=20, snr_0db=0), GateConfig())
    assert (silent.bad, silent.found) == ("snr_0db", False)
    assert robustness_gap(noisy(clean=0, snr_1db=0, snr_0db=20), GateConfig()).bad == "snr_0db"


def test_without_noise_there_is_no_robustness_gap() -> None:
    gap = robustness_gap(noisy(clean=0, ward=20), GateConfig())
    assert (gap.bad, gap.bad_rows, gap.bad_ker, gap.found) == ("snr_5db", 0, None, False)
    assert (gap.good, gap.good_rows, gap.good_ker) == ("clean", 20, 0.0)


def test_each_way_of_the_route_says_why_and_how_firm() -> None:
    told = {
        (100, 5, 1): "priority KER 0.050 is under 0.1: there is little left to tune; "
        "add voices, noise, contexts, adversarial terms",
        (100, 20, 1): "priority KER 0.200 lies between 0.1 and 0.3 in the first evaluation: expand the term list",
        (100, 20, 2): "priority KER 0.200 on 100 rows",
        (50, 20, 2): "priority KER 0.400 calls for fine-tuning, but 50 rows, 100 needed",
        (4, 2, 2): "priority KER 0.500 calls for fine-tuning, but 4 rows, 100 needed; 4 drug rows, 5 needed",
    }
    for (n, misses, cycle), reason in told.items():
        found = triage(drugs(n, misses), cycle)
        assert found.reason == f"{reason} ({found.evidence['firmness']['note']})"
        assert found.next_stage == ("gate" if (n, misses, cycle) == (100, 20, 2) else "build")
        assert found.evidence["cycle"] == cycle and found.evidence["priority_categories"] == ["drug"]
        assert not found.evidence["robustness_gap"]["found"] and not found.evidence["pronunciation_gap"]["found"]


def test_a_robustness_gap_says_both_rates() -> None:
    found = triage(noisy(clean=0, snr_5db=20), 2)
    assert (found.verdict, found.next_stage, found.exit_code) == ("add noise diversity", "build", 3)
    assert found.reason.startswith(
        "robustness gap: KER 0.000 clean but 1.000 at snr_5db: more noise levels and kinds (KER 0.500 ["
    )
    assert found.evidence["robustness_gap"]["found"] is True


@pytest.mark.parametrize(("verified", "guessed", "real"), [(40, 40, True), (18, 50, False), (50, 18, False)])
def test_a_real_model_gap_is_bad_on_both_sides(verified: int, guessed: int, real: bool) -> None:
    """Of 60 rows a side, 18 are exactly 0.3: not yet bad."""
    found = triage(spoken(verified, guessed), 2)
    cause = "; verified and guessed pronunciations are both heard badly: a real model gap" if real else ""
    shown = f"priority KER {(verified + guessed) / 120:.3f} on 120 rows{cause} ({found.evidence['firmness']['note']})"
    assert (found.verdict, found.reason) == ("fine-tune", shown)


def test_several_priority_categories_are_pooled_by_their_occurrences() -> None:
    both = board(rows(100, 0, terms=20), rows(50, 50, start=1000, category=EntityCategory.LAB),
                 rows(50, 50, start=2000, category=EntityCategory.ROLE))  # fmt: skip
    found = gate(both, BOTH)
    names = [(c["condition"], c["number"]) for c in found.evidence["conditions"]]
    assert names[0] == ("priority KER", 50 / 150) and names[2:4] == [("drug rows", 100), ("lab rows", 50)]
    assert found.evidence["priority_categories"] == triage(both, 1, BOTH).evidence["priority_categories"]
    assert found.evidence["priority_categories"] == ["drug", "lab"] and pooled_ker([]) is None
