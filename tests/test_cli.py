"""Every command as a person meets it: exit codes, one-line errors, files, counts that add up."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

import board
from clinical_asr.cli import main
from clinical_asr.errors import ModelError
from clinical_asr.jsonl import read_rows, write_rows
from clinical_asr.records import EntityCategory, Hypothesis, LedgerEntry, Outcome, Utterance

TERMS = "term,entity_category\ncefazolin,drug\nheparin,drug\ntroponin,lab\n"
WAIVER = "a test, nobody will rely on this audio"


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


def call(*words: object) -> int:
    """The command in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["clinical-asr", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
    return int(stop.value.code or 0)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = call(*words)
        return Ran(code, *capsys.readouterr())

    return run


def process(*words: object) -> list[str]:
    """The command line of a real process."""
    return [sys.executable, "-m", "clinical_asr", *map(str, words)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small benchmark, spoken by eSpeak NG through the commands; treat it as read-only."""
    here = tmp_path_factory.mktemp("built")
    (here / "terms.csv").write_text(TERMS, encoding="utf-8")
    said, heard = here / "sentences.jsonl", here / "pronunciations.jsonl"
    assert call("sentences", "--terms", here / "terms.csv", "--output", said, "--contexts-per-term", 3) == 0
    assert call("pronunciations", "--terms", here / "terms.csv", "--output", heard) == 0
    assert call(*audio(here), "--waive-audition", WAIVER) == 0
    return here


def audio(here: Path, folder: Path | None = None) -> list[object]:
    said, heard = here / "sentences.jsonl", here / "pronunciations.jsonl"
    return ["audio", "--sentences", said, "--pronunciations", heard, "--output-folder", folder or here]


@pytest.fixture
def bench(built: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    return Path(shutil.copytree(built, tmp_path / "bench"))


def hypotheses(path: Path, *groups: list[Hypothesis]) -> Path:
    write_rows(path, [row for group in groups for row in group])
    return path


# --- wrong input: exit 2, one line ----------------------------------------------------------------------------------

H = "{tmp}/h.jsonl"
CYCLE = ["cycle", "--base", "mini", "--terms", "{tmp}/terms.csv", "--out", "{tmp}/c"]
RECIPES = {"lora": "epochs: 3\nlora_rank: 8\n", "unknown": "epochz: 3\n", "range": "epochs: 0\n",
           "rate": "learning_rate: 1e-4\n", "bad": "epochs: 3\nname: a: b\n"}  # fmt: skip
WRONG = [
    (["terms", "check", "{tmp}/wrong.csv"], "line 2, entity_category: 'Medication' is not a category; write drug"),
    (["terms", "check", "{tmp}/semicolons.csv"],
     "the header is: term,entity_category; this file has semicolons or tabs between its columns: save it with commas "
     "(Excel: make the comma the list separator in the system's region settings, then save as CSV UTF-8;"),
    (["terms", "list", "{tmp}/none.csv"], "none.csv: no such file or directory; check the path"),
    (["sentences", "--terms", "{tmp}/terms.csv", "--output", "{tmp}/s", "--contexts-per-term", "2"],
     "--contexts-per-term: must be at least 3"),
    (["sentences", "--terms", "{tmp}/terms.csv", "--output", "{tmp}/s", "--style", "loud"],
     "--style: 'loud' is no style; use lower or written"),
    (["sentences", "--terms", "{tmp}/terms.csv", "--output", "{tmp}/terms.csv"],
     "is also what is read; write to another file"),
    (["sentences", "--terms", "{tmp}/terms.csv", "--output", "/proc/none/s.jsonl"], "check the path, its rights"),
    (["pronunciations", "--terms", "{tmp}/terms.csv", "--output", "{tmp}/p", "--overrides", "{tmp}/none.csv"],
     "none.csv: no such file; check the path, or leave --overrides out"),
    (["pronunciations", "--terms", "{tmp}/terms.csv", "--output", "{tmp}/p", "--allow", "websters"],
     "--allow: 'websters' is no service; one of nvcf, merriam-webster"),
    (["sentences", "--terms", "{tmp}/terms.csv", "--output", "{tmp}/s", "--allow", "gpt"],
     "--allow: 'gpt' is no service; one of nvcf"),
    (["audio", "--sentences", H, "--pronunciations", H, "--output-folder", "{tmp}", "--allow", "everyone"],
     "--allow: 'everyone' is no service; one of nvcf"),
    (["comparison", "--parity", H, "{tmp}/none.jsonl"], "none.jsonl: no such file or directory; check the path"),
    (["audio", "--sentences", H, "--pronunciations", H, "--output-folder", "{tmp}", "--voices", "nobody"],
     "'nobody' is no voice id; write it like en-us+f3-r165-p50"),
    (["audio", "--sentences", H, "--pronunciations", H, "--output-folder", "{tmp}", "--voices", "xx-r100-p50"],
     "--voices: 'xx-r100-p50' has the unknown language 'xx'; one of en-029"),
    (["audio", "--sentences", H, "--pronunciations", H, "--output-folder", "{tmp}", "--noise-levels", "clean,loud"],
     "--noise-levels: 'loud' is no noise level; write clean, or parts of room_<s>s, telephone, snr_<n>db"),
    (["cycle", "--base", "mini", "--terms", "{tmp}/terms.csv", "--out", "{tmp}/c", "--noise-levels", "snr_5"],
     "--noise-levels: 'snr_5' is no noise level"),
    (["audio", "--sentences", "{tmp}/empty", "--pronunciations", H, "--output-folder", "{tmp}"],
     "empty: holds no sentences; run: clinical-asr sentences"),
    (["general", "--sentences", "{tmp}/terms.csv", "--rows", "9999", "--output-folder", "{tmp}"],
     "general speech: 9999 rows cannot be drawn; 4 sentences and 4 voices give 16 pairs"),
    (["general", "--sentences", "{tmp}/none", "--output-folder", "{tmp}"],
     "none: no such file or directory; check the path"),
    (["general", "--sentences", "{tmp}", "--output-folder", "{tmp}"], "is a directory; check the path"),
    (["general", "--sentences", "{tmp}/empty", "--output-folder", "{tmp}"],
     "empty: holds no sentences; write one sentence a line"),
    (["general", "--sentences", "{tmp}/terms.csv", "--rows", "2", "--output-folder", "{tmp}/empty"],
     "empty: is a file, and a folder is needed there; name another"),
    (["cycle", "--base", "mini", "--terms", "{tmp}/terms.csv", "--out", "{tmp}/c", "--voices", "foo"],
     "'foo' is no voice id; write it like en-us+f3-r165-p50"),
    (["suspects", "clear", "{tmp}/empty", "0", "--by", "me"],
     "'0' is no suspect; the file lists none: there is nothing to clear"),
    (["suspects", "find", "{tmp}/heard.jsonl"], "`pred_text`; transcribe it: clinical-asr hypotheses"),
    (["parity", "{tmp}/heard.jsonl", H], "`pred_text`; transcribe it: clinical-asr hypotheses"),
    (["split", "{tmp}/heard.jsonl", "--data-root", "{tmp}/none"], "none: no such folder; check --data-root"),
    (["pronunciations", "--terms", "{tmp}/terms.csv", "--output", "{tmp}/p", "--overrides", "{tmp}/empty"],
     "empty: is empty; write the header term,ipa,"),
    (["advise", "{tmp}/empty"], "empty: is empty; one JSON document is needed: is this the right file?"),
    (["comparison", "--before", H, "--after", H, "--train", "{tmp}/heard.jsonl",
      "--validation", "{tmp}/held.jsonl", "--previous", "{tmp}/terms.csv"],
     "terms.csv: cannot be read (JSON is malformed: invalid character (byte 4)); one JSON document is needed"),
    (["manifest", "check", "{tmp}/m.jsonl", "--kind", "odd"], "--kind: 'odd' is no kind of manifest; use auto"),
    (["manifest", "rewrite", H, "--from", "a", "--to", "b", "--output", H], "would overwrite the manifest it reads"),
    (["hypotheses", "--manifest", H, "--model", "none", "--output", "{tmp}/o.jsonl"],
     "--model: no base 'none'; give mini, a .nemo path or a Hugging Face id"),
    (["hypotheses", "--manifest", H, "--model", "mini", "--output", "{tmp}/o.jsonl", "--precision", "fp8"],
     "--precision: is auto, fp32 or bf16"),
    (["scores"], "scores: cannot tell which transcripts are meant; give one H.jsonl, or both --reference and"),
    (["scores", H, "--normaliser", "mine"], "'mine'"),
    (["leaderboard", "{tmp}/none.jsonl"], "none.jsonl: no such file or directory; check the path"),
    (["leaderboard", H, "{tmp}/other.jsonl"], "was not scored on the same rows as h: manifest_digest"),
    (["gate", H, "--priority", "Medication"], "--priority: 'Medication' is not a category; write drug for Medication"),
    (["gate", H, "--priority", ","], "--priority: ',' holds nothing; separate by commas"),
    (["gate", H, "--tune-above", "7"], "--tune-above: needs 0 <= saturated <= tune <= 1"),
    (["gate", H, "--min-rows", "-3"], "--min-rows: must be at least 0"),
    (["gate", H, "--min-rows-per-category", "-3"], "--min-rows-per-category: must be at least 0"),
    ([*CYCLE, "--min-rows", "-1"], "--min-rows: must be at least 0"),
    ([*CYCLE, "--guard-rows", "-5"], "--guard-rows: must be at least 0"),
    ([*CYCLE, "--normaliser", "foo"], "--normaliser: 'foo' is no normaliser; use one of: clinical-v1, flywheel-v1"),
    ([*CYCLE, "--hold-out-voices", "4"], "--hold-out-voices: there are only 4 voices; keep one to train on"),
    ([*CYCLE, "--hold-out-terms", "2"], "--hold-out-terms: only 1 terms can be held out and still leave each category"),
    ([*CYCLE, "--replay", "{tmp}/empty"], "empty: holds no rows; write one JSON object a line"),
    ([*CYCLE, "--guard", "{tmp}/empty"], "empty: holds no rows; write one JSON object a line"),
    (["hypotheses", "--manifest", H, "--model", "mini", "--output", "{tmp}/o.jsonl", "--boost-strength", "3"],
     "--boost-strength: boosts nothing without --boost; name the terms: --boost terms.csv"),
    (["advise", "--rows-per-category", "drugs=60"], "--rows-per-category: 'drugs' is not a category; "),
    (["advise", "--rows", "50", "--rows-per-category", "drug=40,lab=20"],
     "--rows-per-category: are 60 rows together, of 50 in all; correct it or --rows"),
    (["suspects", "find", "{tmp}/empty"], "empty: holds no rows; transcribe a manifest first: clinical-asr hypotheses"),
    (["doctor", "--folder", "{tmp}/none"], "none is no folder; make it first, or check the path"),
    (["doctor", "--folder", "{tmp}/terms.csv"], "terms.csv is no folder; make it first, or check the path"),
    (["split", "{tmp}/none.jsonl"], "no such file or directory; check the path"),
    (["split", "{tmp}/none.jsonl", "--validation-fraction", "2"], "--validation-fraction: must lie between 0 and 1"),
    (["finetune", "--train", H, "--validation", H, "--recipe", "none"], "--recipe: no recipe 'none'; use one of keep"),
    (["finetune", "--train", H, "--validation", H, "--recipe", "{tmp}/lora.yaml"],
     "lora_rank: LoRA on transducer decoders gives NaN tensors; leave it out"),
    (["finetune", "--train", H, "--recipe", "{tmp}"],
     "cannot be read (is a directory); name the YAML file of a recipe"),
    (["finetune", "--train", H, "--recipe", "{tmp}/empty"],
     "empty: is not a recipe (it is empty); write one `key: value`"),
    (["finetune", "--train", H, "--recipe", "{tmp}/unknown.yaml"],
     "unknown.yaml, epochz: is no key of a recipe; did you mean epochs?"),
    (["finetune", "--train", H, "--recipe", "{tmp}/range.yaml"], "range.yaml, epochs: must lie in [1, 10000]"),
    (["finetune", "--train", H, "--recipe", "{tmp}/rate.yaml"],
     "rate.yaml, learning_rate: is not a recipe (expected `float`, got `str`); write it with a point: 1.0e-4"),
    (["finetune", "--train", H, "--recipe", "{tmp}/bad.yaml"],
     "bad.yaml: is not a recipe (line 2: mapping values are not allowed here); write one `key: value` a line"),
    (["finetune", "--train", H, "--validation", H, "--base", "nvidia/nemotron-speech-streaming-en-0.6b"],
     "is a cache-aware streaming base: fine-tuning collapses it"),
    (["finetune", "--train", H, "--learning-curve", "--runner", "torchrun:2"],
     "--learning-curve: listens to each epoch here, which --runner torchrun:2 cannot; leave --runner out"),
    (["comparison", "--before", H, "--after", H], "comparison: cannot tell what was held out; give --split-folder"),
    (["comparison", "--before", H, "--after", H, "--train", H, "--validation", H],
     "h.jsonl too: what was trained on is not held out; split the manifest again: clinical-asr split"),
]  # fmt: skip


OVER_A_CYCLE = [
    (["leaderboard", "{c}/baseline_hyps.jsonl"], "leaderboard_cycle1.json", "--output-folder"),
    (["leaderboard", "{c}/h.jsonl", "--cycle", "2"], "leaderboard_cycle2.json", "--output-folder"),
    (["gate", "{c}/baseline_hyps.jsonl"], "gate.json", "--output"),
    (["gate", H, "--output", "{c}/decision.json"], "decision.json", "--output"),
    (["scores", H, "--output", "{c}/offline_scores.jsonl"], "offline_scores.jsonl", "--output"),
    (["scores", H, "--json", "{c}/comparison.json"], "comparison.json", "--json"),
    (["suspects", "find", "{c}/baseline_hyps.jsonl"], "suspects.jsonl", "--output"),
    (["suspects", "find", H, "--kept", "{c}/offline_hyps.jsonl"], "offline_hyps.jsonl", "--kept"),
    (["hypotheses", "--manifest", H, "--model", "mini", "--output", "{c}/offline_hyps.jsonl"],
     "offline_hyps.jsonl", "--output"),
    (["manifest", "rewrite", H, "--from", "a", "--to", "b", "--output", "{c}/manifest.jsonl", "--force"],
     "manifest.jsonl", "--output"),
    (["general", "--sentences", "{tmp}/terms.csv", "--output-folder", "{c}/general"], "manifest.jsonl",
     "--output-folder"),
    (["audio", "--sentences", H, "--pronunciations", H, "--output-folder", "{c}"], "manifest.jsonl",
     "--output-folder"),
    (["finetune", "--train", H, "--output", "{c}/mine.nemo"], "training_run_info.json", "--output"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "name", "flag"), OVER_A_CYCLE, ids=[" ".join(w[:2]) for w, *_ in OVER_A_CYCLE])
def test_what_a_cycle_wrote_is_read_and_never_written(
    words: list[str], name: str, flag: str, tmp_path: Path, cli: Cli
) -> None:
    cycle = tmp_path / "cycle1"
    cycle.mkdir()
    (cycle / "request.json").write_text("{}", encoding="utf-8")
    (tmp_path / "terms.csv").write_text(TERMS, encoding="utf-8")
    for path in (tmp_path / "h.jsonl", cycle / "h.jsonl", cycle / "baseline_hyps.jsonl"):
        hypotheses(path, board.rows(120, 60, terms=12))
    before = {path: path.read_bytes() for path in cycle.iterdir()}
    ran = cli(*(word.replace("{c}", str(cycle)).replace("{tmp}", str(tmp_path)) for word in words))
    assert ran.code == 2 and f"{name}: is a cycle's own file, and stays as the cycle wrote it" in ran.err
    assert ran.err.endswith(f"write outside the cycle's folder with {flag}\n")
    assert {path: path.read_bytes() for path in cycle.iterdir()} == before


def test_a_board_of_a_cycles_transcripts_is_written_elsewhere(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "request.json").write_text("{}", encoding="utf-8")
    heard = hypotheses(tmp_path / "baseline_hyps.jsonl", board.rows(120, 60, terms=12))
    assert cli("leaderboard", heard, "--output-folder", tmp_path / "boards").code == 0
    assert cli("gate", heard, "--output", tmp_path / "boards" / "gate.json").code == 0
    assert cli("gate", heard, "--output", tmp_path / "stricter.json").code == 0


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[f"{n}-{words[0]}" for n, (words, _) in enumerate(WRONG)])
def test_wrong_input_is_one_line_and_exit_2(words: list[str], message: str, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "terms.csv").write_text(TERMS, encoding="utf-8")
    (tmp_path / "wrong.csv").write_text(TERMS.replace("drug", "Medication", 1), encoding="utf-8")
    (tmp_path / "semicolons.csv").write_text(TERMS.replace(",", ";"), encoding="utf-8")
    (tmp_path / "empty").touch()
    for name, text in RECIPES.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    write_lines(tmp_path / "heard.jsonl", [{**_fields(board.utterance(f"r{n}")), "voice_id": "v"} for n in range(2)])
    write_lines(tmp_path / "held.jsonl", [{**_fields(board.utterance("r9")), "stratum": "new term"}])
    hypotheses(tmp_path / "h.jsonl", board.rows(3, 1))
    hypotheses(tmp_path / "other.jsonl", board.rows(3, 1, start=10))
    ran = cli(*(word.replace("{tmp}", str(tmp_path)) for word in words))
    assert ran.code == 2
    assert ran.err.startswith("error: ") and message in ran.err
    assert ran.err.count("\n") == 1 and ran.out == ""
    assert not (tmp_path / "c").exists(), "no folder is bound to a request that cannot be met"


@pytest.mark.parametrize("words", [["gate"], ["nonsense"], ["gate", "h", "--min-rows", "many"], ["split", "--loud"]])
def test_usage_errors_exit_2(words: list[str], cli: Cli) -> None:
    ran = cli(*words)
    assert ran.code == 2 and "Traceback" not in ran.err


def test_a_word_processors_quotes_are_left_out_with_a_warning(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "terms.csv").write_text("term,entity_category\n“apixaban”,drug\n", encoding="utf-8")
    ran = cli("terms", "check", tmp_path / "terms.csv", "--strict")
    assert ran.code == 2 and "quotes: apixaban: stands in typographic quotes, which are left out" in ran.out
    assert "1 warning: 1 quotes" in ran.out


def test_who_asks_for_nothing_gets_the_help(cli: Cli) -> None:
    bare, asked = cli(), cli("--help")
    assert (bare.code, bare.err) == (2, "") and bare.out == asked.out and "audition" in bare.out


def test_a_fault_of_the_program_is_one_line_and_exit_1(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError("of a\nbug")

    monkeypatch.setattr("clinical_asr.terms.read_terms", broken)
    ran = cli("terms", "check", tmp_path)
    assert ran.code == 1
    assert ran.err == (
        "error: ZeroDivisionError: of a bug; this is a fault of the program: run it again with --debug and report it\n"
    )
    monkeypatch.setattr(sys, "argv", ["clinical-asr", "terms", "check", str(tmp_path), "--debug"])
    with pytest.raises(ZeroDivisionError):  # wherever --debug stands
        main()


# --- real processes -------------------------------------------------------------------------------------------------


def test_exit_codes_reach_the_shell(tmp_path: Path) -> None:
    few = hypotheses(tmp_path / "few.jsonl", board.rows(6, 6))
    sent_back = subprocess.run(process("gate", few), capture_output=True, text=True, cwd=tmp_path)
    wrong = subprocess.run(process("gate", tmp_path / "none"), capture_output=True, text=True, cwd=tmp_path)
    assert (sent_back.returncode, sent_back.stderr) == (3, "")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: ") and wrong.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_whoever_closes_an_output_gets_the_files_all_the_same(tmp_path: Path, closed: str) -> None:
    """And nothing in them that was meant for a terminal: a closed number would be the next file's."""
    heard = hypotheses(tmp_path / "heard.jsonl", board.rows(100, 40))
    words = shlex.join(map(str, process("leaderboard", heard, "--output-folder", tmp_path / "closed")))
    assert subprocess.run(["sh", "-c", f"{words} {closed}"], cwd=tmp_path, capture_output=True).returncode == 0
    open_ = process("leaderboard", heard, "--output-folder", tmp_path / "open")
    subprocess.run(open_, cwd=tmp_path, capture_output=True, check=True)
    written = {path.name: path.read_bytes() for path in (tmp_path / "closed").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "open").iterdir()} != {}


@pytest.mark.nemo
@pytest.mark.parametrize(
    ("set_by_hand", "spins"), [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "0")]
)
def test_threads_that_wait_for_each_other_soon_sleep(set_by_hand: dict[str, str], spins: str) -> None:
    """What OpenMP itself says it took, in the process that a command runs in; who sets it is not overruled."""
    command = "import clinical_asr.cli, sys\nsys.argv[1:] = ['--version']\ntry: clinical_asr.cli.main()"
    program = f"{command}\nfinally: import torch"
    mine = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**mine, **set_by_hand, "OMP_DISPLAY_ENV": "verbose"}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr


def test_an_interrupted_command_continues(tmp_path: Path) -> None:
    said = tmp_path / "said.txt"
    said.write_text("".join(f"this is everyday sentence number {n} of many\n" for n in range(250)), encoding="utf-8")
    command = process("general", "--sentences", said, "--rows", 250, "--output-folder", tmp_path / "g")
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "g").glob("audio/*.wav")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted: the same command again continues" in err and "Traceback" not in err
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "g" / "audio").glob("*.wav")}
    assert 0 < len(kept) < 250 and not (tmp_path / "g" / "manifest.jsonl").exists()
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(lines(tmp_path / "g" / "manifest.jsonl")) == 250
    assert all((tmp_path / "g" / "audio" / name).stat().st_mtime_ns == at for name, at in kept.items())


# --- build ----------------------------------------------------------------------------------------------------------


def test_terms_are_counted_and_listed(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "t.csv").write_text(TERMS + "[x] ray,procedure\n", encoding="utf-8")
    assert "4 terms: 2 drug, 1 lab, 1 procedure" in cli("terms", "check", tmp_path / "t.csv").out
    shown = cli("terms", "list", tmp_path / "t.csv").out
    assert "cefazolin, heparin" in shown and "[x] ray" in shown


def test_the_build_commands_make_a_manifest_that_passes(built: Path, cli: Cli) -> None:
    rows = lines(built / "manifest.jsonl")
    assert len(rows) == 3 * 3 * 2  # terms, contexts, voices per sentence
    assert {row["noise_level"] for row in rows} == {"clean", "snr_15db", "snr_5db"}
    assert WAIVER in (built / "cycle_notes.md").read_text(encoding="utf-8")
    ran = cli("manifest", "check", built / "manifest.jsonl")
    assert ran.code == 0 and "18 rows = 18 passed + 0 failed" in ran.out


def test_a_cycle_is_spoken_in_the_noise_it_was_asked_for(
    bench: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    asked: list[Any] = []

    def turn(at: Any, request: Any, trainer: Any) -> None:
        asked.append(request)
        raise ModelError("far enough", "here")

    monkeypatch.setattr("clinical_asr.cli.wheel._turn", turn)
    order = ["cycle", "--base", "mini", "--terms", bench / "terms.csv", "--out", bench / "cycles"]
    assert cli(*order).code == cli(*order, "--noise-levels", "clean, telephone+snr_10db").code == 2
    kept = [request.fingerprint()["synthesis"]["noise_levels"] for request in asked]
    assert list(map(list, kept)) == [["clean", "snr_15db", "snr_5db"], ["clean", "telephone+snr_10db"]]


def test_nothing_is_spoken_before_somebody_listened(bench: Path, tmp_path: Path, cli: Cli) -> None:
    silent = tmp_path / "silent"
    refused = cli(*audio(bench, silent))
    assert refused.code == 2 and "nobody has listened to 3 terms: cefazolin, heparin, troponin" in refused.err
    assert not silent.exists()
    assert cli(*audio(bench, silent), "--audition-only").code == 0
    assert [row["term"] for row in lines(silent / "audition.jsonl")] == ["cefazolin", "heparin", "troponin"]
    given = {"cefazolin": "good", "heparin": "drop", "troponin": "good"}
    verdicts = write_lines(tmp_path / "a.jsonl", [{"term": term, "verdict": given[term]} for term in given])
    ran = cli(*audio(bench, silent), "--auditions", verdicts)
    assert ran.code == 0 and "1 terms were dropped by the listener" in ran.out
    assert {row["term"] for row in lines(silent / "manifest.jsonl")} == {"cefazolin", "troponin"}
    assert not (silent / "cycle_notes.md").exists()


def test_clips_that_exist_are_kept(bench: Path, cli: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in (bench / "audio").glob("*.wav")}
    wanted = (bench / "manifest.jsonl").read_bytes()
    assert cli(*audio(bench), "--waive-audition", WAIVER).code == 0
    assert {path: path.stat().st_mtime_ns for path in (bench / "audio").glob("*.wav")} == before
    assert (bench / "manifest.jsonl").read_bytes() == wanted


def test_a_check_lists_everything_that_is_wrong(bench: Path, cli: Cli) -> None:
    rows = lines(bench / "manifest.jsonl")
    rows[0]["entity_category"] = "medication"
    rows[1]["duration"] = None
    (bench / rows[2]["audio_filepath"]).write_bytes(b"no audio")
    spoiled = write_lines(bench / "spoiled.jsonl", rows)
    ran = cli("manifest", "check", spoiled, "--output", bench / "o.jsonl", "--ledger", bench / "l.jsonl")
    assert ran.code == 2 and "18 rows = 15 passed + 3 failed, 3 problems" in ran.out
    assert [line.split(": ")[0] for line in ran.err.splitlines()] == ["problem"] * 3
    assert "spoiled.jsonl line 1, entity_category:" in ran.err and "line 2, duration: is null" in ran.err
    assert not (bench / "o.jsonl").exists()
    fates = [entry.outcome for entry in read_rows(bench / "l.jsonl", LedgerEntry)]
    assert fates == [Outcome.FAILED] * 3 + [Outcome.PASSED] * 15


def test_a_flood_of_problems_is_cut_and_counted(tmp_path: Path, cli: Cli) -> None:
    write_lines(tmp_path / "m.jsonl", [{"audio_filepath": f"{n}.wav", "text": "a", "duration": 1} for n in range(60)])
    ran = cli("manifest", "check", tmp_path / "m.jsonl")
    assert ran.code == 2 and "60 rows = 0 passed + 60 failed, 60 problems" in ran.out
    assert len(ran.err.splitlines()) == 51 and ran.err.endswith("and 10 more problems\n")


def test_a_checked_manifest_may_lie_elsewhere(bench: Path, tmp_path: Path, cli: Cli) -> None:
    copy = tmp_path / "other" / "checked.jsonl"
    assert cli("manifest", "check", bench / "manifest.jsonl", "--output", copy).code == 0
    assert cli("manifest", "check", copy, "--data-root", tmp_path).code == 0
    outside = cli("manifest", "check", copy)
    assert outside.code == 2 and "(--data-root)" in outside.err


def test_a_manifest_moves_into_a_new_file(bench: Path, cli: Cli) -> None:
    manifest, moved = bench / "manifest.jsonl", bench / "moved.jsonl"
    before = manifest.read_bytes()
    words = ["manifest", "rewrite", manifest, "--from", "audio", "--to", "/w/audio", "--output", moved]
    assert "18 rows = 18 rewritten + 0 unchanged" in cli(*words).out
    assert all(row["audio_filepath"].startswith("/w/audio/") for row in lines(moved))
    assert manifest.read_bytes() == before
    assert cli(*words).code == 2 and cli(*words, "--force").code == 0
    nothing = cli("manifest", "rewrite", manifest, "--from", "/x", "--to", "/w", "--output", bench / "n.jsonl")
    assert nothing.code == 2 and nothing.err == f"error: {manifest}: no audio path begins with /x; check --from\n"
    assert not (bench / "n.jsonl").exists(), "the right command is not told that it exists already"
    mine = moved.read_bytes()
    words[words.index("audio")] = "/x"
    assert cli(*words, "--force").code == 2 and moved.read_bytes() == mine


# --- evaluate -------------------------------------------------------------------------------------------------------


def test_scores_of_folders_with_a_list_of_terms(tmp_path: Path, cli: Cli) -> None:
    for side, text in (("ref", "Give cefazolin, then heparin."), ("hyp", "heparin give cefa zolin then heparin")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "visit.txt").write_text(text, encoding="utf-8")
    (tmp_path / "t.csv").write_text(TERMS, encoding="utf-8")
    sides = ("--reference", tmp_path / "ref", "--hypothesis", tmp_path / "hyp")
    ran = cli("scores", *sides, "--terms", tmp_path / "t.csv", "--json", tmp_path / "s.json")
    assert ran.code == 0 and "50.0 %" in ran.out
    found = json.loads((tmp_path / "s.json").read_text())
    assert {"wer", "cer", "ser", "ker", "rows", "words", "terms", "by_category", "by_term"} <= found.keys()
    assert (found["ker"], found["terms"]["false_insertions"], found["terms"]["precision"]) == (0.5, 1, 0.5)
    assert found["by_term"]["cefazolin"]["misses"] == 1


@pytest.mark.parametrize(
    ("said", "heard", "message"),
    [
        (b"a b\nc d\n", b"a b\n", "{r} / {h}: 2 and 1 lines: they are not aligned"),
        (b"a\n\n", b"a\nb\n", "{r} line 2: is empty, but something was heard"),
        (b"a\ncaf\xe9\n", b"a\nb\n", "{r} line 2: is not UTF-8"),
        (b'{"id": "x", "text": "a"}\n' * 2, b'{"id": "x", "text": "a"}\n', "{r} line 2, id: x stands twice"),
        (b'{"id": "x", "text": "a"}', b'{"id": "y", "text": "a"}', "{h}: lacks 1 of the other side's rows: x"),
        (b'{"id": "x", "text": "a", "term": "b"}', b'{"id": "x", "text": "a"}', "{r}, row x: term 'b' is not in its"),
        (b'{"id": "x", "text": "..."}', b'{"id": "x", "text": "a"}', "{r}, row x: reference is empty"),
    ],
)
def test_transcripts_that_cannot_be_scored_are_named_with_their_place(
    said: bytes, heard: bytes, message: str, tmp_path: Path, cli: Cli
) -> None:
    suffix = ".jsonl" if said.startswith(b"{") else ".txt"
    r, h = tmp_path / f"r{suffix}", tmp_path / f"h{suffix}"
    r.write_bytes(said)
    h.write_bytes(heard)
    ran = cli("scores", "--reference", r, "--hypothesis", h)
    assert ran.code == 2 and ran.err.count("\n") == 1 and ran.out == ""
    assert ran.err.startswith(f"error: {message.format(r=r, h=h)}")


def test_a_ranking_names_the_file_whose_row_is_wrong(tmp_path: Path, cli: Cli) -> None:
    good = hypotheses(tmp_path / "good.jsonl", board.rows(3, 1))
    *right, wrong = board.rows(3, 1)
    bad = hypotheses(tmp_path / "bad.jsonl", [*right, msgspec.structs.replace(wrong, term="b")])
    ran = cli("leaderboard", good, bad)
    assert ran.code == 2 and ran.err.startswith(f"error: {bad}, row r00002")


def test_scores_written_once_are_read_like_hypotheses(tmp_path: Path, cli: Cli) -> None:
    path = hypotheses(tmp_path / "h.jsonl", board.rows(120, 60, terms=12))
    kept = tmp_path / "kept" / "scores.jsonl"
    assert cli("scores", path, "--output", kept, "--normaliser", "flywheel-v1").code == 0
    assert lines(kept)[0]["audio_filepath"] == str(tmp_path / "audio" / "r00000.wav")
    assert cli("gate", kept).code == cli("gate", path, "--normaliser", "flywheel-v1").code == 0
    assert (tmp_path / "kept" / "gate.json").read_bytes() == (tmp_path / "gate.json").read_bytes()
    other = cli("gate", kept, "--normaliser", "clinical-v1")
    assert other.code == 2 and "was scored with flywheel-v1, not clinical-v1" in other.err


def test_a_leaderboard_of_one_and_of_several(tmp_path: Path, cli: Cli) -> None:
    one = hypotheses(tmp_path / "one.jsonl", board.rows(120, 60, terms=12))
    two = hypotheses(tmp_path / "two.jsonl", board.rows(120, 6, terms=12, model="tuned", digest="bb"))
    ran = cli("leaderboard", one, "--cycle", 2, "--output-folder", tmp_path / "board")
    assert ran.code == 0 and "FINE-TUNE" in ran.out and "next stage: gate" in ran.out
    page = (tmp_path / "board" / "leaderboard_cycle2.md").read_text(encoding="utf-8")
    sections = [line[3] for line in page.splitlines() if line.startswith("## ")]
    assert sections[:5] == list("12345")
    found = json.loads((tmp_path / "board" / "leaderboard_cycle2.json").read_text())
    assert list(found)[:2] == ["signature", "headline"] and found["headline"]["ker"] == 0.5
    assert "<html" in (tmp_path / "board" / "leaderboard_cycle2.html").read_text(encoding="utf-8")
    listed = tmp_path / "listed.csv"
    listed.write_text("term,entity_category,variants\nterm1,drug,something\n", encoding="utf-8")
    ranked = cli("leaderboard", one, two, "--terms", listed)
    assert ranked.code == 0 and ranked.out.index("tuned") < ranked.out.index("base")
    first, second = json.loads((tmp_path / "ranking.json").read_text())["standings"]
    assert first["name"] == "tuned" and second["variant_ker"] < second["ker"] == 0.5
    assert "KER, variants" in (tmp_path / "ranking.md").read_text(encoding="utf-8")
    assert "<html" in (tmp_path / "ranking.html").read_text(encoding="utf-8")


def test_a_leaderboard_with_a_split_shows_what_training_has_seen(tmp_path: Path, cli: Cli) -> None:
    sides(tmp_path, 120, 12)
    ran = cli("leaderboard", tmp_path / "before.jsonl", "--split-folder", tmp_path)
    assert ran.code == 0, ran.err
    strata = json.loads((tmp_path / "leaderboard_cycle1.json").read_text())["by_stratum"]
    assert sorted((line["key"], line["rows"]) for line in strata) == [("new sentence", 160), ("trained", 80)]
    other = tmp_path / "other"
    other.mkdir()
    write_rows(other / "train.jsonl", [board.utterance("x1")])
    write_lines(other / "validation.jsonl", [{**_fields(board.utterance("x2")), "stratum": "new term"}])
    refused = cli("leaderboard", tmp_path / "before.jsonl", "--split-folder", other)
    assert refused.code == 2 and "knows none of the scored rows" in refused.err


def test_scores_as_json_have_the_promised_names(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "h").mkdir()
    (tmp_path / "r" / "visit.txt").write_text("The HbA1c is high. Give cefazolin, not heparin.", encoding="utf-8")
    (tmp_path / "h" / "visit.txt").write_text("the A one C is high give cefazolin not heparin heparin")
    terms = tmp_path / "terms.csv"
    terms.write_text("term,entity_category,variants\ncefazolin,drug,\nheparin,drug,\nHbA1c,lab,A one C\n")
    sides = ("--reference", tmp_path / "r", "--hypothesis", tmp_path / "h")
    ran = cli("scores", *sides, "--terms", terms, "--json", tmp_path / "out.json")
    assert ran.code == 0, ran.err
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found) >= {"wer", "cer", "ser", "ker", "rows", "words", "terms", "by_category", "by_term"}
    counts = {"occurrences", "hits", "misses", "false_insertions", "precision"}
    for one in (found["terms"], *found["by_category"].values(), *found["by_term"].values()):
        assert set(one) >= counts
    assert [found["terms"][name] for name in ("occurrences", "hits", "misses", "false_insertions")] == [3, 2, 1, 1]
    assert found["by_term"]["heparin"]["precision"] == 0.5
    assert found["terms"]["variant_ker"] == 0.0 and "KER with variants" in ran.out


@pytest.mark.parametrize(("misses", "code", "verdict"), [(60, 0, "pass"), (2, 3, "go back")])
def test_the_gate_decides_and_says_where_to_go(misses: int, code: int, verdict: str, tmp_path: Path, cli: Cli) -> None:
    path = hypotheses(tmp_path / "h.jsonl", board.rows(120, misses, terms=12))
    ran = cli("gate", path, "--output", tmp_path / "decision.json")
    decision = json.loads((tmp_path / "decision.json").read_text())
    assert ran.code == decision["exit_code"] == code and decision["verdict"] == verdict
    assert verdict.upper() in ran.out and f"next stage: {decision['next_stage']}" in ran.out


# --- split and comparison -------------------------------------------------------------------------------------------


def test_a_split_is_kept_unless_it_is_forced(bench: Path, cli: Cli) -> None:
    manifest = bench / "manifest.jsonl"
    ran = cli("split", manifest, "--hold-out-voices", 1)
    train, held = lines(bench / "train.jsonl"), lines(bench / "validation.jsonl")
    assert ran.code == 0
    assert f"18 rows = {len(train)} to train on + {len(held)} held out" in ran.out
    assert not {row["id"] for row in train} & {row["id"] for row in held}
    assert len(train) + len(held) == 18 and "new voice" in {row["stratum"] for row in held}
    assert cli("split", manifest, "--hold-out-voices", 1).code == 0
    other = cli("split", manifest, "--seed", 7)
    assert other.code == 2 and "holds another split" in other.err
    assert cli("split", manifest, "--seed", 7, "--force").code == 0


def test_a_split_elsewhere_names_the_data_root_that_the_next_command_needs(bench: Path, cli: Cli) -> None:
    ran = cli("split", bench / "manifest.jsonl", "--output-folder", bench.parent / "halves")
    assert ran.code == 0 and ran.out.endswith(f"give finetune --data-root {bench.parent.resolve()}\n")
    told = ("--data-root", bench.parent.resolve())
    assert cli("manifest", "check", bench.parent / "halves" / "train.jsonl", *told).code == 0
    ran = cli("split", bench.parent / "halves" / "train.jsonl", "--output-folder", bench.parent / "again")
    assert ran.code == 2 and ran.err.count("\nproblem: ") == 9 and "see: clinical-asr manifest check" in ran.err


def test_too_few_priority_rows_go_back(bench: Path, cli: Cli) -> None:
    ran = cli("split", bench / "manifest.jsonl", "--priority", "procedure")
    assert ran.code == 3 and "procedure has 0" in ran.err and ran.err.count("\n") == 1
    assert not (bench / "train.jsonl").exists()


def test_a_broken_manifest_stops_a_stage(bench: Path, cli: Cli) -> None:
    rows = lines(bench / "manifest.jsonl")
    rows[4]["term"] = rows[5]["term"] = "warfarin"
    ran = cli("split", write_lines(bench / "m.jsonl", rows))
    assert ran.code == 2 and "line 5, term: 'warfarin' does not occur" in ran.err
    assert ran.err.splitlines()[-1].endswith("mend the lines above")


def sides(folder: Path, before: int, after: int, n: int = 240, terms: int = 24) -> list[object]:
    """Arguments of a comparison with so many misses; a third of the rows was trained on."""
    hypotheses(folder / "before.jsonl", board.rows(n, before, terms=terms))
    hypotheses(folder / "after.jsonl", board.rows(n, after, terms=terms, model="tuned", digest="bb"))
    rows = [board.utterance(row.id) for row in board.rows(n, 0, terms=terms)]
    held = [row for place, row in enumerate(rows) if place % 3]
    write_rows(folder / "train.jsonl", [row for place, row in enumerate(rows) if not place % 3])
    write_lines(folder / "validation.jsonl", [{**_fields(row), "stratum": "new sentence"} for row in held])
    return ["comparison", "--before", folder / "before.jsonl", "--after", folder / "after.jsonl",
            "--split-folder", folder]  # fmt: skip


def _fields(row: Utterance) -> dict[str, Any]:
    return {"id": row.id, "audio_filepath": row.audio_filepath, "text": row.text, "duration": row.duration}


def guard(path: Path, errors: int) -> Path:
    said = [f"one two three four five six seven eight nine word{n}" for n in range(400)]
    heard = [text.replace("three", "tree") if n < errors else text for n, text in enumerate(said)]
    rows = [{"id": f"g{n}", "audio_filepath": f"{n}.wav", "duration": 1.0, "text": text, "pred_text": heard[n]}
            for n, text in enumerate(said)]  # fmt: skip
    return write_lines(path, rows)


@pytest.mark.parametrize(
    ("after", "worse", "code", "verdict"),
    [(24, 0, 0, "promote"), (24, 200, 5, "not promoted"), (230, 0, 5, "overfit")],
)
def test_a_comparison_ends_in_a_decision(
    after: int, worse: int, code: int, verdict: str, tmp_path: Path, cli: Cli
) -> None:
    guards = [
        "--guard-before",
        guard(tmp_path / "g0.jsonl", 4),
        "--guard-after",
        guard(tmp_path / "g1.jsonl", 4 + worse),
    ]
    ran = cli(*sides(tmp_path, 180, after), *guards, "--output-folder", tmp_path / "out")
    decision = json.loads((tmp_path / "out" / "decision.json").read_text())
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (ran.code, decision["verdict"], found["verdict"]) == (code, verdict, verdict), ran.out
    assert found["held_out"]["rows"] + found["trained_on"]["rows"] == 240 and found["guard"]["rows"] == 400
    assert verdict.upper() in ran.out
    assert {path.suffix for path in (tmp_path / "out").glob("comparison.*")} == {".md", ".json", ".html"}


def test_too_few_terms_are_inconclusive_and_twice_nothing_is_stop(tmp_path: Path, cli: Cli) -> None:
    guards = ["--guard-before", guard(tmp_path / "g0.jsonl", 4), "--guard-after", guard(tmp_path / "g1.jsonl", 4)]
    few = cli(*sides(tmp_path, 6, 3, n=12, terms=3), *guards)
    assert few.code == 4 and "INCONCLUSIVE" in few.out
    first = cli(*sides(tmp_path, 180, 180), *guards, "--output-folder", tmp_path / "first")
    assert first.code in (4, 5) and "NO CHANGE" in first.out
    again = cli(*sides(tmp_path, 180, 180), *guards, "--previous", tmp_path / "first" / "decision.json")
    assert again.code == 5 and "STOP" in again.out


def test_only_the_command_line_knows_the_hub_of_the_environment(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None, str | None]] = []

    def download(base: str, *, endpoint: str | None = None, token: str | None = None) -> Path:
        asked.append((base, endpoint, token))
        raise ModelError("is not here", base, "look elsewhere")

    monkeypatch.setattr("clinical_asr.engines.hub.download", download)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    ran = cli("hypotheses", "--manifest", tmp_path / "m", "--model", "org/model", "--output", tmp_path / "h.jsonl")
    assert asked == [("org/model", "http://127.0.0.1:9", "secret-token")]
    said = "org/model: taken from the model hub, or from what was downloaded before; only its name is sent\n"
    assert (ran.code, ran.err) == (2, f"{said}error: org/model: is not here; look elsewhere\n")


# --- with a real, tiny model ----------------------------------------------------------------------------------------

THINGS = ("the chart", "a glass of water", "the morning report", "her medicine", "fifty milligrams", "two numbers")


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clinical manifest of tones: what the tiny model can be trained on."""
    from tiny_model import SENTENCES, write_tones

    folder = tmp_path_factory.mktemp("clinical")
    rows = lines(write_tones(folder, SENTENCES[:12]))
    for row in rows:
        thing = next(thing for thing in THINGS if thing in row["text"])
        named = {"term": thing, "entity_category": EntityCategory.DRUG, "ipa_source": "g2p"}
        row.update(**named, noise_level="clean", context_type="dictation")
        del row["id"]
    write_lines(folder / "manifest.jsonl", rows)
    yield folder


@pytest.mark.nemo
def test_from_manifest_to_decision_on_a_tiny_model(tones: Path, tiny_nemo: Path, tmp_path: Path, cli: Cli) -> None:
    manifest, out = tones / "manifest.jsonl", tmp_path / "h0.jsonl"
    transcribe = ["hypotheses", "--manifest", manifest, "--batch-size", 4]
    ran = cli(*transcribe, "--model", tiny_nemo, "--output", out)
    assert ran.code == 0 and ran.out == f"{out}: 12 rows = 12 scored\n"
    assert {row["model"] for row in lines(out)} == {tiny_nemo.stem}
    assert cli(*transcribe, "--model", tiny_nemo, "--output", out).out == f"{out}: complete already\n"
    assert cli("split", manifest, "--output-folder", tmp_path, "--data-root", tones.parent).code == 0
    recipe = tmp_path / "one.yaml"
    recipe.write_text("name: one\nepochs: 1\n", encoding="utf-8")
    tuned, parts = tmp_path / "adapted_model.nemo", [tmp_path / "train.jsonl", tmp_path / "validation.jsonl"]
    tune = ["finetune", "--train", parts[0], "--validation", parts[1], "--base", tiny_nemo,
            "--data-root", tones.parents[1], "--output", tuned, "--recipe"]  # fmt: skip
    ran = cli(*tune, recipe)
    assert ran.code == 0 and tuned.is_file() and tuned.with_name("adapted_model.nemo.sha256").is_file(), ran.err
    story = json.loads((tmp_path / "training_run_info.json").read_text())
    assert story["data"]["train"]["rows"] == len(lines(parts[0])) == len(lines(tmp_path / "adapted_model.ledger.jsonl"))
    assert cli(*tune, recipe).out == f"{tuned}: complete already\n"
    other = cli(*tune, "smoke")
    assert other.code == 2 and "was made with another recipe" in other.err
    other = cli(*tune, recipe, "--selection-guard", manifest)
    assert other.code == 2 and "was made with other selection guard rows" in other.err
    beside = [tmp_path / "sibling.nemo" if word == tuned else word for word in tune]
    second = cli(*beside, recipe)
    assert second.code == 2 and "training_run_info.json: tells how adapted_model.nemo was made" in second.err
    assert "name another folder for sibling.nemo" in second.err and not (tmp_path / "sibling.nemo").exists()
    refused = cli(*transcribe, "--model", tuned, "--output", out)
    assert refused.code == 2 and "is the work of another model" in refused.err
    assert cli(*transcribe, "--model", tuned, "--output", tmp_path / "h1.jsonl").code == 0
    ran = cli("comparison", "--before", out, "--after", tmp_path / "h1.jsonl", "--split-folder", tmp_path)
    assert ran.code in (4, 5) and (tmp_path / "decision.json").is_file()
    assert "not proven" not in ran.out, "the story that lies beside is this model's"
    other = ["split", manifest, "--output-folder", tmp_path / "other", "--data-root", tones.parent, "--seed", "7"]
    assert cli(*other).code == 0
    ran = cli("comparison", "--before", out, "--after", tmp_path / "h1.jsonl", "--split-folder", tmp_path / "other")
    assert ran.code == 2 and "was trained on other rows than this split's" in ran.err


@pytest.mark.nemo
def test_what_is_trained_on_cannot_judge(tones: Path, tiny_nemo: Path, tmp_path: Path, cli: Cli) -> None:
    manifest, tuned = tones / "manifest.jsonl", tmp_path / "adapted_model.nemo"
    ran = cli("finetune", "--train", manifest, "--validation", manifest, "--base", tiny_nemo, "--recipe", "smoke",
              "--output", tuned)  # fmt: skip
    assert ran.code == 2 and ran.err.startswith(f"error: --validation {manifest}: row ")
    assert f" stands in --train {manifest} as well; take it out of one of the two" in ran.err
    assert not tuned.exists()


@pytest.mark.nemo
def test_interrupted_training_says_so(
    tones: Path, tiny_nemo: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_ctrl_c(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("clinical_asr.cli.tune.steps", lambda what: press_ctrl_c)
    manifest, tuned = tones / "manifest.jsonl", tmp_path / "adapted_model.nemo"
    ran = cli("finetune", "--train", manifest, "--base", tiny_nemo, "--recipe", "smoke", "--output", tuned)
    assert ran.code == 130 and "interrupted: the same command again continues" in ran.err
    assert not tuned.exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.nemo
def test_rows_that_cannot_be_heard_are_failed_and_the_rest_is_done(
    tones: Path, tiny_nemo: Path, tmp_path: Path, cli: Cli
) -> None:
    folder = Path(shutil.copytree(tones, tmp_path / "tones"))
    (folder / "003.wav").write_bytes(b"RIFF no audio")
    (folder / "004.wav").unlink()
    out = tmp_path / "h.jsonl"
    words = ["hypotheses", "--manifest", folder / "manifest.jsonl", "--model", tiny_nemo, "--output", out]
    ran = cli(*words)
    assert ran.code == 0 and ran.out == f"{out}: 12 rows = 10 scored + 2 failed\n"
    assert "failed: 003.wav: " in ran.err and "failed: 004.wav: " in ran.err
    fates = read_rows(tmp_path / "h.ledger.jsonl", LedgerEntry)
    assert sorted(entry.audio_filepath for entry in fates if entry.reason) == ["003.wav", "004.wav"]
    away = "still without a recording that can be used"
    assert cli(*words).out == f"{out}: complete already; {away}: 2\n"
    before = lines(out)
    shutil.copy(tones / "004.wav", folder)
    other = Path(shutil.copy(tiny_nemo, tmp_path / "other.nemo"))
    with other.open("ab") as file:
        file.write(bytes(512))
    ran = cli(*words[:4], other, *words[5:])
    assert ran.code == 2 and "is the work of another model" in ran.err and lines(out) == before
    ran = cli(*words)
    told = f"{out}: rows that failed are tried again: 1; {away}: 1\n"
    assert ran.code == 0 and ran.out == f"{told}{out}: 12 rows = 11 scored + 1 failed\n"
    assert [row for row in lines(out) if not row["audio_filepath"].endswith("004.wav")] == before
    shutil.copy(tones / "003.wav", folder)
    assert cli(*words).out.endswith(f"{out}: 12 rows = 12 scored\n")
    assert cli(*words).out == f"{out}: complete already\n"
    rows = lines(folder / "manifest.jsonl")
    rows[5]["entity_category"] = "medication"
    write_lines(folder / "manifest.jsonl", rows)
    stopped = cli(*words[:-1], tmp_path / "other.jsonl")
    assert stopped.code == 2 and "line 6, entity_category" in stopped.err
    assert not (tmp_path / "other.jsonl").exists()
