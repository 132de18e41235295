"""The ladder: which strength is chosen by which rows, which rung is the cheapest, and a climb that was cut short."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clinical_asr.climb import BatchSpeed
from clinical_asr.config import ComparisonConfig, GateConfig, SplitConfig, TrainingConfig
from clinical_asr.cycle import Cycle, file_digest
from clinical_asr.errors import AudioError, ConfigError, FlywheelError, ScoringError
from clinical_asr.flywheel import turn
from clinical_asr.jsonl import iter_objects, read_json, read_rows, write_rows
from clinical_asr.ladder import (
    BASE,
    BASE_BOOSTED,
    RUNGS,
    STRENGTHS,
    TUNED,
    TUNED_BOOSTED,
    Choice,
    Climbed,
    Ladder,
    Trial,
    choose_strength,
    ladder,
)
from clinical_asr.ladder_report import ladder_markdown, notes
from clinical_asr.records import EntityCategory, Hypothesis, Stratum
from clinical_asr.scores import score, signature
from clinical_asr.training import Margins
from test_cli import Cli, cli
from tiny_model import OBJECTS
from wheel import KilledError, Works, engines, request

__all__ = ["cli"]
KEEPS = TrainingConfig(name="fake", epochs=1, replay_ratio=0.5, selection_fraction=0.2)


def run(folder: Path, works: Works, **changes: Any) -> tuple[Any, Cycle, list[str]]:
    cycle, told = Cycle(folder / "cycles"), list[str]()
    order = {"ladder": True, "recipe": KEEPS, "selection_voices": ("s1",), "selection_rows": 30} | changes
    return turn(cycle, request(folder, **order), engines(works, cycle, told)), cycle, told


def board(cycle: Cycle) -> Ladder:
    found: Ladder = read_json(cycle.ladder("json"), Ladder)
    return found


# --- the board --------------------------------------------------------------------------------------------------------

TERMS = {"cefazolin": "drug", "apixaban": "drug", "warfarin": "drug", "troponin": "lab", "heparin": "drug"}
STRATA = {f"{term}{n}": Stratum.NEW_TERM if term == "heparin" else Stratum.NEW_SENTENCE for term in TERMS
          for n in range(4)}  # fmt: skip


def rung(name: str, misses: int, insertions: int = 0, errors: int = 0, **more: Any) -> Climbed:
    """Of each term's four rows ``misses`` missed; ``insertions`` guard rows hear a drug, ``errors`` another word."""
    rows = [
        Hypothesis(id=f"{term}{n}", audio_filepath=f"{term}{n}.wav", duration=1.0,
                   text=f"please give {term} number {n}", term=term, entity_category=EntityCategory(category),
                   pred_text=f"please give {'nothing' if n < misses else term} number {n}", model=name)
        for term, category in TERMS.items() for n in range(4)
    ]  # fmt: skip
    guard = [
        Hypothesis(id=f"g{n}", audio_filepath=f"g{n}.wav", duration=1.0, text=f"the weather is fine on day {n} of ten",
                   pred_text=f"the {'wetter' if n < errors else 'weather'} is fine on day {n} of "
                             f"{'warfarin' if n < insertions else 'ten'}", model=name)
        for n in range(100)
    ]  # fmt: skip
    return Climbed(name, score(rows), score(guard), signature(rows), **more)


def laid(*rungs: Climbed, missing: Mapping[str, str] | None = None, **more: Any) -> Ladder:
    return ladder(rungs, missing or {}, STRATA, rungs[0].rows, {}, ComparisonConfig(), 0.3, **more)


FOUR = (rung(BASE, 4), rung(BASE_BOOSTED, 2, strength=0.5), rung(TUNED, 1, training=120), rung(TUNED_BOOSTED, 0))


def test_the_cheapest_rung_inside_the_target_is_named_and_not_the_best() -> None:
    found = laid(*FOUR)
    assert [one.name for one in found.rungs] == list(RUNGS) and found.cheapest == TUNED
    assert [one.ker for one in found.rungs] == [1.0, 0.5, 0.25, 0.0]
    assert [one.meets for one in found.rungs] == [False, False, True, True]
    assert "KER 50.0 % is above 30.0 %" in found.rungs[1].because and "cheapest" in found.reason
    assert found.rungs[2].training_minutes == 2.0


def test_only_taught_priority_rows_decide_and_the_others_stand_beside_them() -> None:
    found = laid(*FOUR).rungs[1]
    assert (found.rows, found.terms, found.misses) == (12, 3, 6), "no lab, no term that was never taught"
    assert (found.ker_taught, found.ker_never_taught) == (0.5, 0.5) and found.against_base is not None
    assert (found.against_base.mean_difference, found.against_base.n_terms) == (-0.5, 3)


def test_a_rung_that_costs_too_much_general_speech_does_not_meet_the_target() -> None:
    found = laid(rung(BASE, 4), rung(BASE_BOOSTED, 0, errors=40), rung(TUNED, 4), rung(TUNED_BOOSTED, 4))
    assert found.cheapest == "" and not found.rungs[1].meets
    assert "general WER rises by 4.44 points, allowed 0.30 points" in found.rungs[1].because
    assert "no rung meets the target" in ladder_markdown(found).lower()


def test_without_a_guard_set_no_rung_meets_the_target() -> None:
    bare = [unguarded(one) for one in FOUR]
    found = laid(*bare)
    assert found.cheapest == "" and "no guard set" in found.rungs[3].because


def unguarded(one: Climbed) -> Climbed:
    return Climbed(one.name, one.rows, [], one.signature)


def test_terms_nobody_said_are_counted_and_said() -> None:
    found = laid(rung(BASE, 4), rung(BASE_BOOSTED, 0, insertions=3), missing={TUNED: "no", TUNED_BOOSTED: "no"})
    assert found.rungs[1].guard_false_insertions == 3 and found.rungs[0].guard_false_insertions == 0
    assert any("nobody said (+0 in held-out rows, +3 in general speech" in note for note in notes(found))
    assert " 0 + 3 " in ladder_markdown(found)


def test_a_rung_that_was_not_tried_says_why() -> None:
    found = laid(FOUR[0], missing=dict.fromkeys(RUNGS[1:], "a CTC base"))
    assert [one.tried for one in found.rungs] == [True, False, False, False]
    assert ladder_markdown(found).count("not available, a CTC base") == 3


def test_other_rows_are_refused() -> None:
    less = Climbed(TUNED, FOUR[2].rows[1:], FOUR[2].guard, signature_of(FOUR[2], 1))
    with pytest.raises(ScoringError, match="not on the rows of base"):
        laid(FOUR[0], less, missing={BASE_BOOSTED: "", TUNED_BOOSTED: ""})
    with pytest.raises(ScoringError, match="guard set"):
        laid(FOUR[0], unguarded(FOUR[2]), missing={BASE_BOOSTED: "", TUNED_BOOSTED: ""})


def signature_of(one: Climbed, without: int) -> Any:
    ids = {row.id for row in one.rows[without:]}
    rows = [Hypothesis(id=key, audio_filepath="", duration=1.0, text="a", pred_text="a", model=one.name) for key in ids]
    return signature(rows)


def test_json_holds_all_of_it(tmp_path: Path) -> None:
    choice = choose_strength([Trial(0.5, {"ker": 0.5, "wer": 0.1})], {"ker": 1.0}, 20, 30, Margins())
    found = ladder(FOUR, {}, STRATA, FOUR[0].rows, {BASE_BOOSTED: choice}, ComparisonConfig(), 0.3)
    assert msgspec.convert(json.loads(msgspec.json.encode(found)), Ladder) == found


@pytest.mark.parametrize(
    ("rises", "chosen"),
    [((0.0, 0.001, 0.002), 1.0), ((0.0, 0.001, 0.02), 0.5), ((0.02, 0.03, 0.04), 0.25)],
    ids=["all inside", "the strongest costs too much", "none inside: what costs least"],
)
def test_a_strength_is_chosen_by_the_margins(rises: tuple[float, ...], chosen: float) -> None:
    told = zip(STRENGTHS, (0.8, 0.6, 0.4), rises, strict=True)
    trials = [Trial(s, {"ker": ker, "wer": 0.1, "guard_rise": rise}) for s, ker, rise in told]
    assert choose_strength(trials, {}, 20, 30, Margins()).strength == chosen


# --- a whole cycle with fakes -----------------------------------------------------------------------------------------


def test_a_cycle_ends_with_four_rungs_on_the_same_rows(tmp_path: Path) -> None:
    decision, cycle, told = run(tmp_path, Works(knows=0.9))
    found = board(cycle)
    assert decision.exit_code == 0 and told[-1].startswith("ladder")
    assert [one.tried for one in found.rungs] == [True] * 4
    compared = read_json(cycle.comparison("json"))["held_out"]
    assert [found.rungs[0].ker, found.rungs[2].ker] == [compared["ker_before"], compared["ker_after"]]
    assert {one.rows for one in found.rungs} == {compared["rows"]}
    assert found.rungs[0].ker == 1.0 > found.rungs[1].ker > found.rungs[3].ker  # type: ignore[operator]
    assert len({one.model_digest for one in found.rungs}) == 4
    page = cycle.ladder("html").read_text()
    assert found.reason in page and all(name in page for name in RUNGS)
    assert found.reason[1:] in cycle.ladder("md").read_text() and found.listed_terms == 14


def ids_of(cycle: Cycle, part: str) -> set[str]:
    """Rows that some rung heard as this part."""
    paths = (cycle.folder / "ladder").glob(f"*_{part}.jsonl")
    return {row["id"] for path in paths for _, row in iter_objects(path)}


def test_no_held_out_or_guard_row_chooses(tmp_path: Path) -> None:
    _, cycle, _ = run(tmp_path, Works())
    held = {row["id"] for _, row in iter_objects(cycle.validation)}
    guard = {row["id"] for _, row in iter_objects(cycle.general_manifest("guard"))}
    trained = {row["id"] for _, row in iter_objects(cycle.ledger("finetune")) if row["outcome"] == "trained"}
    parts = {part: ids_of(cycle, part) for part in ("choosing", "general", "held_out", "guard")}
    assert parts["choosing"] and not parts["choosing"] & (held | guard | trained)
    assert parts["general"] and not parts["general"] & (held | guard)
    assert parts["held_out"] == held and parts["guard"] == guard
    chosen = board(cycle).choices[BASE_BOOSTED].strength
    listened = {path.name for path in (cycle.folder / "ladder").glob("base_*_held_out.jsonl")}
    assert listened == {f"base_boost{chosen:g}_held_out.jsonl"}, "at the chosen strength and no other"


def test_the_strength_that_invents_terms_is_not_chosen(tmp_path: Path) -> None:
    _, cycle, _ = run(tmp_path, Works(knows=0.5))
    choice = board(cycle).choices[BASE_BOOSTED]
    told = {trial.strength: trial.metrics for trial in choice.trials}
    assert told[1.0]["ker"] < told[0.5]["ker"], "strength 1 hears more"  # type: ignore[operator]
    assert choice.strength == 0.5 and told[1.0]["guard_rise"] > 0.003  # type: ignore[operator]


def test_every_rung_has_its_ledger(tmp_path: Path) -> None:
    _, cycle, _ = run(tmp_path, Works())
    files = [path for path in (cycle.folder / "ladder").glob("*_boost*.jsonl") if not path.stem.endswith(".ledger")]
    assert len(files) == 2 * (2 + 2 * len(STRENGTHS)) + 4
    for path in files:
        ids = {row["id"] for _, row in iter_objects(path)}
        ledger = path.with_name(f"{path.stem}.ledger.jsonl")
        assert ids == {row["id"] for _, row in iter_objects(ledger)}


def test_where_training_took_every_row_the_tuned_model_takes_the_bases_strength(tmp_path: Path) -> None:
    everything = TrainingConfig(name="fake", epochs=1, replay_ratio=0.5)
    _, cycle, _ = run(tmp_path, Works(knows=0.5), recipe=everything)
    choices = board(cycle).choices
    assert choices[TUNED_BOOSTED].borrowed and not choices[BASE_BOOSTED].borrowed
    assert choices[TUNED_BOOSTED].strength == choices[BASE_BOOSTED].strength == 0.5
    assert "takes the base's strength" in cycle.ladder("md").read_text()


def test_the_gate_leaves_two_rungs(tmp_path: Path) -> None:
    works = Works()
    decision, cycle, _ = run(tmp_path, works, gate=GateConfig(min_rows=200))
    found = board(cycle)
    assert decision.exit_code == 3 and "train" not in works.calls and not cycle.train.exists()
    assert [one.tried for one in found.rungs] == [True, True, False, False]
    assert "nothing was trained" in found.rungs[2].because and cycle.ladder("html").is_file()


def test_too_few_rows_to_hold_any_out_leave_no_ladder(tmp_path: Path) -> None:
    words = {"drug": ("cefazolin",), "lab": ("troponin", "ferritin")}
    gate = GateConfig(min_rows=1, min_rows_per_category=1)
    split = SplitConfig(min_rows_per_category=50)
    decision, cycle, told = run(tmp_path, Works(), words=words, gate=gate, split=split)
    assert decision.exit_code == 3 and not cycle.ladder("json").exists()
    assert told[-1].startswith("ladder       none, for nothing can be held out")


def test_a_base_that_cannot_be_boosted_has_two_plain_rungs(tmp_path: Path) -> None:
    works = Works()
    works.unboostable = "has no transducer decoder to boost"
    decision, cycle, _ = run(tmp_path, works)
    found = board(cycle)
    assert decision.exit_code == 0 and [one.tried for one in found.rungs] == [True, False, True, False]
    assert found.rungs[1].because == found.rungs[3].because == works.unboostable
    assert works.unboostable in cycle.ladder("md").read_text() and works.unboostable in cycle.ladder("html").read_text()


def test_stopped_by_the_gate_and_not_to_be_boosted_there_is_one_rung_and_no_page(tmp_path: Path) -> None:
    works = Works()
    works.unboostable = "has no transducer decoder to boost"
    _, cycle, _ = run(tmp_path, works, gate=GateConfig(min_rows=200))
    assert [one.tried for one in board(cycle).rungs] == [True, False, False, False]
    assert cycle.ladder("md").is_file() and not cycle.ladder("html").exists()


@pytest.mark.parametrize(
    "at",
    [("boosted", 9), ("boosted", 20), ("transcribe", 17)],
    ids=lambda at: f"{at[0]} {at[1]}",
)
def test_killed_on_the_ladder_the_same_command_goes_on(tmp_path: Path, at: tuple[str, int]) -> None:
    whole = Works(knows=0.9)
    expected, finished, _ = run(tmp_path / "whole", whole)
    assert whole.calls[at[0]] >= at[1]
    first, second = Works(at, knows=0.9), Works(knows=0.9)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", first)
    decision, cycle, _ = run(tmp_path / "cut", second)
    assert decision == expected and timeless(board(cycle)) == timeless(board(finished))
    boosted = first.calls.get("boosted", 0) + second.calls.get("boosted", 0)
    assert boosted == whole.calls["boosted"] + (at[0] == "boosted")
    assert not list(cycle.folder.rglob("*.part"))


def timeless(found: Ladder) -> Any:
    plain = msgspec.to_builtins(found)
    for one in plain["rungs"]:
        assert one.pop("speed") > 0 and one.pop("cpu_speed") is not None
    return plain


def test_a_finished_cycle_is_given_its_ladder_later_and_once(tmp_path: Path) -> None:
    expected, cycle, _ = run(tmp_path, Works(), ladder=False)
    assert not cycle.ladder("json").exists() and "ladder" not in read_json(cycle.request)
    later = Works()
    decision, _, told = run(tmp_path, later)
    assert decision == expected and "train" not in later.calls and [line.split()[0] for line in told[-1:]] == ["ladder"]
    assert read_json(cycle.request)["ladder"] is True
    again = Works()
    run(tmp_path, again)
    run(tmp_path, again, ladder=False)
    assert again.calls == {}


def test_another_request_is_still_refused_with_the_ladder(tmp_path: Path) -> None:
    run(tmp_path, Works(), ladder=False)
    with pytest.raises(ConfigError, match=r"seed: 42 then, 43 now"):
        run(tmp_path, Works(), seed=43)
    assert "ladder" not in read_json(Cycle(tmp_path / "cycles").request)


def test_a_plain_decodes_file_is_not_taken_for_a_boosted_one(tmp_path: Path) -> None:
    _, cycle, _ = run(tmp_path, Works())
    cycle.ladder("json").unlink()
    boosted, plain = cycle.rung("base", 0.5, "choosing"), cycle.rung("base", 0.0, "choosing")
    write_rows(boosted, read_rows(plain, Hypothesis))
    with pytest.raises(ConfigError, match="another model or another list of terms"):
        run(tmp_path, Works())
    assert {row.model_digest for row in read_rows(plain, Hypothesis)} == {file_digest(tmp_path / "base.nemo")[:16]}


def test_a_rung_that_hears_nothing_is_refused_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings that are away are no finding about a rung, and leave no file that would be taken for one."""

    def deaf(_self: Any, audio: Mapping[str, Path]) -> Mapping[str, Any]:
        return {key: AudioError("does not exist", str(path), "check the path") for key, path in audio.items()}

    expected, cycle, _ = run(tmp_path / "whole", Works())
    with monkeypatch.context() as away:
        away.setattr("wheel.Boosted.transcribe", deaf)
        for _ in range(2):
            with pytest.raises(FlywheelError, match=r"choosing.ledger.jsonl: none of \d+ rows was heard; the first, "):
                run(tmp_path / "cut", Works())
    decision, finished, _ = run(tmp_path / "cut", Works())
    assert decision == expected and timeless(board(finished)) == timeless(board(cycle))
    heard = [[(one.file, one.audio) for one in read_rows(of.rung_speeds, BatchSpeed)] for of in (cycle, finished)]
    assert heard[0] == heard[1], "what was not heard took no time"


def test_a_choice_that_was_borrowed_survives_json() -> None:
    choice = Choice(0.5, (Trial(0.5, {"ker": None}),), {"ker": 0.9}, 3, 4, borrowed=True)
    assert msgspec.convert(json.loads(msgspec.json.encode(choice)), Choice) == choice


# --- for real, with tiny models --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones as a clinical benchmark, and as general speech in two sets."""
    from tiny_model import SENTENCES, write_tones

    folder = tmp_path_factory.mktemp("speech")
    named = {"entity_category": "drug", "ipa_source": "g2p", "noise_level": "clean", "context_type": "dictation"}
    told = [json.loads(line) for line in write_tones(folder / "clinical", SENTENCES[:12]).read_text().splitlines()]
    rows = [{**row, **named, "term": next(thing for thing in OBJECTS if thing in row["text"])} for row in told]
    lines = "".join(json.dumps({k: v for k, v in row.items() if k != "id"}) + "\n" for row in rows)
    (folder / "clinical" / "manifest.jsonl").write_text(lines)
    terms = sorted({str(row["term"]) for row in rows})
    (folder / "terms.csv").write_text("term,entity_category\n" + "".join(f"{term},drug\n" for term in terms))
    write_tones(folder / "guard", SENTENCES[20:26], seed=4)
    write_tones(folder / "selection", SENTENCES[30:34], seed=5)
    (folder / "quick.yaml").write_text("epochs: 1\nbatch_size: 4\nlearning_rate: 3.0e-4\n")
    return folder


def cycle_of(speech: Path, base: Path, out: Path) -> list[object]:
    return [
        "cycle", "--manifest", speech / "clinical" / "manifest.jsonl", "--base", base, "--out", out, "--ladder",
        "--guard", speech / "guard" / "manifest.jsonl", "--selection", speech / "selection" / "manifest.jsonl",
        "--recipe", speech / "quick.yaml", "--min-rows", 5,
    ]  # fmt: skip


@pytest.mark.nemo
def test_four_rungs_of_a_tiny_transducer(speech: Path, tiny_nemo: Path, tmp_path: Path, cli: Cli) -> None:
    ran = cli(*cycle_of(speech, tiny_nemo, tmp_path))
    found = board(Cycle(tmp_path))
    assert ran.code in (0, 4, 5) and "Ladder: " in ran.out and found.rungs[0].because in ran.out
    assert [one.tried for one in found.rungs] == [True] * 4
    assert len({one.model_digest for one in found.rungs}) == 4
    assert {one.guard.rows for one in found.rungs if one.guard} == {6} and all(one.speed for one in found.rungs)
    assert found.rungs[2].training_minutes > 0 == found.rungs[1].training_minutes
    assert found.choices[TUNED_BOOSTED].borrowed, "the recipe keeps no row apart"
    again = cli(*cycle_of(speech, tiny_nemo, tmp_path))
    assert again.code == ran.code and found.rungs[0].because in again.out


@pytest.mark.nemo
def test_a_ctc_base_has_no_boosted_rung_and_says_why(speech: Path, tiny_ctc: Path, tmp_path: Path, cli: Cli) -> None:
    ran = cli(*cycle_of(speech, tiny_ctc, tmp_path))
    assert ran.code in (0, 4, 5), ran.err
    assert [one.tried for one in board(Cycle(tmp_path)).rungs] == [True, False, True, False]
    for name in (BASE_BOOSTED, TUNED_BOOSTED):
        assert f"{name}: not available, has no transducer decoder to boost" in ran.out


@pytest.mark.nemo
def test_boosted_transcripts_are_never_taken_for_plain_ones(
    speech: Path, tiny_nemo: Path, tiny_ctc: Path, tmp_path: Path, cli: Cli
) -> None:
    plain, boosted = tmp_path / "plain.jsonl", tmp_path / "boosted.jsonl"
    hear = ["hypotheses", "--manifest", speech / "clinical" / "manifest.jsonl", "--model"]
    lean = ["--boost", speech / "terms.csv", "--boost-strength"]
    assert cli(*hear, tiny_nemo, "--output", plain).code == 0
    assert cli(*hear, tiny_nemo, "--output", boosted, *lean, 0.5).code == 0
    one, other = (read_rows(path, Hypothesis)[0] for path in (plain, boosted))
    assert one.model_digest != other.model_digest and other.model.startswith(f"{tiny_nemo.stem} + boosting 0.5 of ")
    assert "complete already" in cli(*hear, tiny_nemo, "--output", boosted, *lean, 0.5).out
    for words in ([*lean, 1.0], []):
        ran = cli(*hear, tiny_nemo, "--output", boosted, *words)
        assert ran.code == 2 and "is the work of another model" in ran.err
    ran = cli(*hear, tiny_ctc, "--output", tmp_path / "ctc.jsonl", *lean, 0.5)
    assert ran.code == 2 and ran.err.startswith("error: has no transducer decoder to boost")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--model", "mini", "--boost", "{0}/terms.csv", "--boost-strength", "0"],
            "--boost-strength: 0 boosts nothing",
        ),
        (["--model", "mini", "--boost", "{0}/terms.csv", "--boost-strength", "nan"], "nan boosts nothing"),
        (["--model", "mini", "--boost", "{0}/none.csv"], "none.csv: no such file"),
        (["--endpoint", "127.0.0.1:1", "--boost", "{0}/terms.csv"], "a service's decoder is not boosted from here"),
    ],
)
def test_what_boosts_nothing_is_refused(words: list[str], said: str, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "terms.csv").write_text("term,entity_category\ncefazolin,drug\n")
    (tmp_path / "m.jsonl").write_text("")
    order = [word.format(tmp_path) for word in words]
    ran = cli("hypotheses", "--manifest", tmp_path / "m.jsonl", "--output", tmp_path / "h.jsonl", *order)
    assert ran.code == 2 and said in ran.err and len(ran.err.splitlines()) == 1
    assert not (tmp_path / "h.jsonl").exists()
