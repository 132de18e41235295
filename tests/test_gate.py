"""Route and gate: every row of the table, every threshold on both sides, the pronunciation gap above all."""

from __future__ import annotations

import pytest

from board import board, rows
from clinical_asr.config import GateConfig
from clinical_asr.gate import gate
from clinical_asr.records import EntityCategory, IpaSource
from clinical_asr.tally import Leaderboard
from clinical_asr.triage import triage


def drugs(n: int, misses: int, **fields: object) -> Leaderboard:
    return board(rows(n, misses, terms=20, **fields))


@pytest.mark.parametrize(
    ("misses", "cycle", "verdict", "next_stage"),
    [
        (31, 1, "fine-tune", "gate"),
        (30, 1, "expand terms", "build"),  # exactly 0.3
        (30, 2, "fine-tune", "gate"),
        (10, 1, "expand terms", "build"),  # exactly 0.1
        (10, 2, "fine-tune", "gate"),
        (9, 1, "harden benchmark", "build"),
        (9, 2, "harden benchmark", "build"),
        (0, 1, "harden benchmark", "build"),
    ],
)
def test_the_route_follows_the_priority_ker(misses: int, cycle: int, verdict: str, next_stage: str) -> None:
    found = triage(drugs(100, misses), cycle)
    assert (found.verdict, found.next_stage) == (verdict, next_stage)
    assert found.exit_code == (0 if verdict == "fine-tune" else 3)
    assert found.evidence["priority_ker"] == misses / 100


def test_a_high_ker_on_a_small_manifest_grows_it_first() -> None:
    assert triage(drugs(99, 60), 1).verdict == "grow"
    assert "99 rows" in triage(drugs(99, 60), 1).reason
    assert triage(drugs(100, 60), 1).verdict == "fine-tune"


def test_no_rows_of_the_priority_category_grow() -> None:
    assert triage(drugs(100, 50, category=EntityCategory.ROLE), 1).verdict == "grow"


def sources(verified: int, guessed: int, n: int = 60, source: IpaSource = IpaSource.MERRIAM_WEBSTER) -> Leaderboard:
    """``n`` rows of either source, so many of them missed."""
    return board(
        rows(n, verified, terms=12, source=source), rows(n, guessed, terms=12, start=1000, source=IpaSource.MAGPIE_G2P)
    )


@pytest.mark.parametrize("source", [IpaSource.MERRIAM_WEBSTER, IpaSource.OVERRIDE])
def test_a_pronunciation_gap_goes_to_the_pronunciations_and_never_to_fine_tuning(source: IpaSource) -> None:
    spoken = sources(6, 60, source=source)  # 0.1 and 1.0: pooled 0.55, far above the gate
    for cycle in (1, 2):
        assert triage(spoken, cycle).verdict == "fix pronunciations"
        assert triage(spoken, cycle).next_stage == "pronunciations"
    found = gate(spoken)
    assert (found.verdict, found.exit_code, found.next_stage) == ("go back", 3, "pronunciations")
    assert "the audio is wrong, not the model" in found.reason
    assert [c["condition"] for c in found.evidence["conditions"] if not c["ok"]] == ["no pronunciation gap"]


@pytest.mark.parametrize(
    ("verified", "guessed", "gap"),
    [(6, 19, True), (7, 60, False), (6, 18, False), (60, 60, False), (0, 0, False)],
)
def test_the_pronunciation_gap_has_both_its_edges(verified: int, guessed: int, gap: bool) -> None:
    """Of 60 rows: 6 are 0.1, 18 are 0.3."""
    assert (triage(sources(verified, guessed), 2).verdict == "fix pronunciations") is gap


@pytest.mark.parametrize(("n", "gap"), [(4, False), (5, True)])
def test_a_pronunciation_gap_needs_five_rows_a_side(n: int, gap: bool) -> None:
    assert gate(sources(0, n, n=n)).evidence["pronunciation_gap"]["found"] is gap


def test_both_sources_bad_is_a_real_model_gap() -> None:
    found = triage(sources(40, 50), 1)
    assert found.verdict == "fine-tune"
    assert "real model gap" in found.reason


def test_clean_good_and_noisy_bad_is_a_robustness_gap() -> None:
    def noisy(misses: int) -> Leaderboard:
        return board(
            rows(60, 6, terms=12), rows(60, 10, terms=12, start=1000, noise="snr_15db"),
            rows(60, misses, terms=12, start=2000, noise="snr_5db"),
        )  # fmt: skip

    found = triage(noisy(19), 1)
    assert (found.verdict, found.next_stage) == ("add noise diversity", "build")
    assert "0.317 at snr_5db" in found.reason
    assert triage(noisy(18), 1).verdict == "expand terms"


@pytest.mark.parametrize(
    ("n", "misses", "passes"),
    [(100, 31, True), (100, 30, False), (99, 60, False), (1000, 301, True), (1000, 300, False)],
)
def test_the_gate_needs_the_ker_and_the_rows(n: int, misses: int, passes: bool) -> None:
    found = gate(drugs(n, misses))
    assert (found.verdict, found.exit_code) == (("pass", 0) if passes else ("go back", 3))
    assert found.next_stage == ("split" if passes else "build")


def test_the_gate_needs_five_rows_in_each_priority_category() -> None:
    config = GateConfig(priority_categories=(EntityCategory.DRUG, EntityCategory.LAB))

    def with_labs(n: int) -> Leaderboard:
        return board(rows(200, 100, terms=20), rows(n, n, start=1000, category=EntityCategory.LAB))

    assert gate(with_labs(5), config).verdict == "pass"
    found = gate(with_labs(4), config)
    assert found.verdict == "go back"
    assert "4 lab rows, 5 needed" in found.reason


def test_the_evidence_names_each_condition_its_number_and_what_is_needed() -> None:
    conditions = gate(drugs(50, 5)).evidence["conditions"]
    assert [(c["condition"], c["number"], c["needed"], c["ok"]) for c in conditions[:3]] == [
        ("priority KER", 0.1, "> 0.3", False),
        ("rows", 50, ">= 100", False),
        ("drug rows", 50, ">= 5", True),
    ]
    assert all(c["missing"] and c["go_back_to"] == "build" for c in conditions if not c["ok"])


def test_firmness_says_coin_toss_where_the_interval_holds_the_threshold() -> None:
    shaky = gate(board(rows(100, 35, terms=3))).evidence["firmness"]
    assert shaky["low"] < 0.3 < shaky["high"] and "coin toss" in shaky["note"]
    firm = gate(board(rows(400, 320, terms=40))).evidence["firmness"]
    assert firm["low"] > 0.3 and "firm, the interval crosses no threshold" in firm["note"]
    assert firm["terms"] == 40 and firm["occurrences"] == 400


def test_rows_of_one_term_that_share_their_fate_are_worth_one_row() -> None:
    """Ten terms, all rows of four of them missed: the ICC is 1 and ten rows' worth is known."""
    lines = [one for t in range(10) for one in rows(10, 10 if t < 4 else 0, terms=1, start=t * 10)]
    import msgspec

    named = [
        msgspec.structs.replace(
            r, term=f"t{i // 10}", text=f"t{i // 10} now", pred_text=f"t{i // 10} now" if i >= 40 else "now"
        )
        for i, r in enumerate(lines)
    ]
    firmness = gate(board(named)).evidence["firmness"]
    assert firmness["intracluster_correlation"] == pytest.approx(1)
    assert firmness["effective_n"] == pytest.approx(10)


def test_other_categories_do_not_open_the_gate() -> None:
    others = rows(200, 200, terms=20, start=1000, category=EntityCategory.ROLE)
    assert gate(board(rows(100, 5, terms=20), others)).verdict == "go back"
