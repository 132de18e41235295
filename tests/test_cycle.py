"""The ledger accounts for every row, a cycle's files have their places, configs refuse by the flag's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinical_asr.config import ComparisonConfig, GateConfig, SplitConfig
from clinical_asr.cycle import Cycle, account, file_digest, is_a_cycles_own, manifest_digest
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.records import EntityCategory, LedgerEntry, Outcome, Stratum, row_id
from clinical_asr.round_trip import suspects_path


def entries(*ids: str, outcome: Outcome = Outcome.SCORED) -> list[LedgerEntry]:
    return [LedgerEntry(id=one, outcome=outcome) for one in ids]


def test_every_row_leaves_exactly_once() -> None:
    found = account("x", ["a", "b", "c"], [*entries("a", "b"), *entries("c", outcome=Outcome.FAILED)])
    assert found == {Outcome.SCORED: 2, Outcome.FAILED: 1}


@pytest.mark.parametrize(
    ("left", "why"),
    [
        (["a"], r"1 lost \['b'\], 0 too many"),
        (["a", "b", "b"], r"0 lost \[\], 1 too many \['b'\]"),
        (["a", "z"], "1 lost"),
    ],
)
def test_a_lost_a_doubled_and_a_stray_row_are_named(left: list[str], why: str) -> None:
    with pytest.raises(FlywheelError, match=why):
        account("x", ["a", "b"], entries(*left))


def test_the_tuned_model_is_the_next_cycle() -> None:
    cycle = Cycle(Path("c"), 3)
    assert cycle.leaderboard("before", "json").as_posix() == "c/cycle3/leaderboard_cycle3.json"
    assert cycle.leaderboard("after", "md").as_posix() == "c/cycle3/leaderboard_cycle4.md"


def test_every_file_of_the_layout_is_known_as_a_cycles_own(tmp_path: Path) -> None:
    cycle = Cycle(tmp_path)
    single = [getattr(cycle, name) for name, of in vars(Cycle).items() if isinstance(of, property)]
    files = [path for path in single if path.suffix]
    for when in ("before", "after"):
        files += [cycle.hypotheses(when), cycle.guard_hypotheses(when), cycle.scores(when)]
        files += [cycle.leaderboard(when, "html"), cycle.ledger(f"hypotheses_{when}")]
    files += [cycle.comparison("md"), cycle.ladder("json"), cycle.rung("base", 0.5, "held"), suspects_path(cycle)]
    files += [cycle.general_manifest("guard"), cycle.audio / "clip.wav"]
    assert len(files) > 30 and not any(map(is_a_cycles_own, files)), "no cycle was started here"
    cycle.folder.mkdir()
    cycle.request.write_text("{}")
    assert all(map(is_a_cycles_own, files))
    for mine in (cycle.folder / "mine.json", cycle.folder / "boards" / "gate.json", tmp_path / "gate.json"):
        assert not is_a_cycles_own(mine)


def test_digests_follow_content_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a").startswith("ba7816bf8f01cfea")
    assert manifest_digest(["a", "b"]) != manifest_digest(["ab"])
    assert len({row_id("d", "t", "x"), row_id("d", "tx"), row_id("e", "t", "x"), row_id("d", "t", "y")}) == 4


def test_the_vocabularies_are_closed() -> None:
    assert len(EntityCategory) == 6
    assert [s.held_out for s in Stratum] == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("make", "flag"),
    [
        (lambda: GateConfig(priority_categories=()), "--priority"),
        (lambda: GateConfig(tune_above=0.05), "--tune-above"),
        (lambda: SplitConfig(validation_fraction=0), "--validation-fraction"),
        (lambda: SplitConfig(hold_out_sentences=1.0), "--hold-out-sentences"),
        (lambda: SplitConfig(hold_out_voices=-1), "--hold-out-voices"),
        (lambda: ComparisonConfig(keep_reduction=0.01), "--keep-reduction"),
        (lambda: ComparisonConfig(guard_margin=0.5), "--guard-margin"),
    ],
)
def test_a_config_that_cannot_be_used_names_its_flag(make: object, flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        make()  # type: ignore[operator]
