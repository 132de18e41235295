"""Rows taken for others: trained ones for held-out ones, another manifest's for this one's, noise for none."""

from __future__ import annotations

import hashlib
import json
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import board
from clinical_asr.config import GateConfig
from clinical_asr.errors import AudioError
from clinical_asr.gaps import robustness_gap
from clinical_asr.hypotheses import Heard, transcribe_rows
from clinical_asr.jsonl import write_rows
from clinical_asr.manifest import check
from clinical_asr.records import Hypothesis, Utterance
from commands import Run

Fields = dict[str, Any]


def write_lines(path: Path, rows: list[Fields]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# --- trained and held out ---------------------------------------------------------------------------------------------


def split_of(folder: Path, train: list[str], held_out: list[str]) -> Path:
    """A split folder of these ids."""
    write_rows(folder / "train.jsonl", [board.utterance(one) for one in train])
    write_rows(folder / "validation.jsonl", [board.utterance(one, stratum="new sentence") for one in held_out])
    return folder


def compared(folder: Path, *split: object) -> list[object]:
    """Arguments of a comparison in which 60 rows were missed before and are heard after."""
    write_rows(folder / "before.jsonl", board.rows(60, 60))
    write_rows(folder / "after.jsonl", board.rows(60, 0, model="tuned", digest="bb"))
    return ["comparison", "--before", folder / "before.jsonl", "--after", folder / "after.jsonl", *split]


IDS = [f"r{n:05d}" for n in range(60)]
TWICE = "'r00059' stands in {train} too: what was trained on is not held out; split the manifest again: "


@pytest.mark.parametrize("by_folder", [True, False])
def test_a_comparison_refuses_a_held_out_row_that_was_trained_on(by_folder: bool, tmp_path: Path, run: Run) -> None:
    folder = split_of(tmp_path / "split", IDS[59:], IDS)
    sides = [folder / "train.jsonl", folder / "validation.jsonl"]
    given = ["--split-folder", folder] if by_folder else ["--train", sides[0], "--validation", sides[1]]
    code, _, err = run(*compared(tmp_path, *given))
    assert code == 2 and f"{sides[1]} line 60, id: {TWICE.format(train=sides[0])}clinical-asr split" in err
    assert not (tmp_path / "decision.json").exists()


@pytest.mark.parametrize("systems", [1, 2])
def test_a_leaderboard_by_strata_refuses_it_too(systems: int, tmp_path: Path, run: Run) -> None:
    compared(tmp_path)
    folder = split_of(tmp_path / "split", [f"other{n}" for n in range(5000)] + IDS[59:], IDS)
    given = [tmp_path / "before.jsonl", tmp_path / "after.jsonl"][:systems]
    code, _, err = run("leaderboard", *given, "--split-folder", folder, "--output-folder", tmp_path / "out")
    assert code == 2 and f"validation.jsonl line 60, id: {TWICE.format(train=folder / 'train.jsonl')}" in err
    assert not (tmp_path / "out").exists()


def test_sides_without_a_common_row_are_compared_as_ever(tmp_path: Path, run: Run) -> None:
    code, out, err = run(*compared(tmp_path, "--split-folder", split_of(tmp_path / "split", IDS[40:], IDS[:40])))
    assert code == 4 and "held out" in out and not err


# --- the output of another manifest -----------------------------------------------------------------------------------


class Ear:
    """Hears every sentence, but cannot decode what is called ``broken``."""

    name, batch_size = "ear", 8

    def __init__(self, model: Path) -> None:
        self.digest = hashlib.sha256(model.read_bytes()).hexdigest()[:16]

    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, Heard]:
        refused = AudioError("cannot be decoded")
        return {key: refused if path.stem == "broken" else "give it now" for key, path in audio.items()}


NAMES = ("a", "b", "broken")


def recorded(folder: Path, loudness: int = 900, **fields: str) -> list[Fields]:
    """Rows about heparin and the recordings that they name."""
    rows = []
    for number, name in enumerate(NAMES, 1):
        path = folder / "audio" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes((number * loudness).to_bytes(2, "little") * 16_000)
        told = {"audio_filepath": f"audio/{name}.wav", "text": f"give heparin to bed {number}", "duration": 1.0}
        clinical = {"entity_category": "drug", "ipa_source": "g2p", "context_type": "dictation"}
        rows.append({**told, "term": "heparin", **clinical, "voice_id": "v", "noise_level": "clean", **fields})
    return rows


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "ear.nemo"
    path.write_bytes(b"only its digest is asked for: what is complete loads no model")
    return path


def heard(manifest: Path, model: Path, output: Path) -> Path:
    """The finished output of a manifest, its last row failed."""
    rows = check(manifest).rows
    assert len(rows) == len(NAMES)
    transcribe_rows(rows, manifest.parent, Ear(model), output, output.with_name(f"{output.stem}.ledger.jsonl"))
    return output


def asked(manifest: Path, model: Path, output: Path) -> list[object]:
    return ["hypotheses", "--manifest", manifest, "--model", model, "--output", output]


@pytest.mark.parametrize("where", ["", "elsewhere"])
@pytest.mark.parametrize("given", ["", "theirs"])
def test_the_output_of_the_same_manifest_is_complete(
    given: str, where: str, tmp_path: Path, model: Path, run: Run
) -> None:
    rows = [{**row, "id": f"{given}{n}" if given else ""} for n, row in enumerate(recorded(tmp_path / "bench"))]
    manifest = write_lines(tmp_path / "bench" / "manifest.jsonl", rows)
    output = heard(manifest, model, tmp_path / "bench" / where / "h.jsonl")
    before = output.read_bytes()
    code, out, err = run(*asked(manifest, model, output))
    assert (code, out) == (2, f"{output}: rows that failed are tried again: 1\n") and str(model) in err, "no real model"
    assert output.read_bytes() == before, "what was heard stays, whatever comes of hearing the rest"
    write_lines(output.with_name("h.ledger.jsonl"), [{"id": str(n), "outcome": "scored"} for n, _ in enumerate(rows)])
    assert run(*asked(manifest, model, output)) == (0, f"{output}: complete already\n", "")


def test_rows_with_ids_are_known_wherever_their_audio_lies(tmp_path: Path, model: Path, run: Run) -> None:
    manifest = write_lines(tmp_path / "bench" / "manifest.jsonl", recorded(tmp_path / "bench"))
    output = heard(manifest, model, tmp_path / "h.jsonl")
    (tmp_path / "h.ledger.jsonl").unlink()  # it says that a row failed, which would be heard again
    moved = [{**row, "audio_filepath": f"moved/{row['audio_filepath']}"} for row in recorded(tmp_path / "bench")]
    ids = [row.id for row in check(manifest).rows]
    named = write_lines(tmp_path / "named.jsonl", [{**row, "id": one} for row, one in zip(moved, ids, strict=True)])
    assert run(*asked(named, model, output)) == (0, f"{output}: complete already\n", "")


FOREIGN = {
    "another text": lambda row: {**row, "text": row["text"].replace("give", "stop")},
    "another term": lambda row: {**row, "term": "bed"},
    "audio of the same name in another folder": lambda row: {**row, "audio_filepath": f"x/{row['audio_filepath']}"},
    "an id of its own, so other audio": lambda row: {**row, "id": "0123456789abcdef"},
}


@pytest.mark.parametrize("with_ledger", [True, False])
@pytest.mark.parametrize("change", FOREIGN)
def test_the_output_of_another_manifest_is_refused(
    change: str, with_ledger: bool, tmp_path: Path, model: Path, run: Run
) -> None:
    rows = recorded(tmp_path)
    output = heard(write_lines(tmp_path / "manifest.jsonl", rows), model, tmp_path / "h.jsonl")
    if not with_ledger:
        (tmp_path / "h.ledger.jsonl").unlink()
    other = write_lines(tmp_path / "other.jsonl", [rows[0], FOREIGN[change](rows[1]), rows[2]])
    told = f"{other} has no row of audio/b.wav with its text and term"
    why = f"error: {output}: is the work of another manifest ({told}); name another output, or delete it\n"
    assert run(*asked(other, model, output)) == (2, "", why)


def test_another_row_that_failed_is_another_manifests_too(tmp_path: Path, model: Path, run: Run) -> None:
    rows = recorded(tmp_path)
    output = heard(write_lines(tmp_path / "manifest.jsonl", rows), model, tmp_path / "h.jsonl")
    other = write_lines(tmp_path / "other.jsonl", [*rows[:2], {**rows[2], "audio_filepath": "audio/c.wav"}])
    code, _, err = run(*asked(other, model, output))
    assert code == 2 and f"another manifest ({other} has no row of audio/broken.wav, which failed)" in err


def test_three_rows_of_heparin_are_not_three_of_warfarin(tmp_path: Path, model: Path, run: Run) -> None:
    """With a ledger that knows no audio paths, and ids and digests that somebody else wrote."""
    rows = recorded(tmp_path)
    done = [{**row, "id": f"r{n}", "pred_text": "give heparin", "model": "ear", "model_digest": Ear(model).digest}
            for n, row in enumerate(rows)]  # fmt: skip
    output = write_lines(tmp_path / "h.jsonl", done)
    write_lines(tmp_path / "h.ledger.jsonl", [{"id": row["id"], "outcome": "scored"} for row in done])
    told = [{**row, "term": "warfarin", "text": row["text"].replace("heparin", "warfarin")} for row in rows]
    code, out, err = run(*asked(write_lines(tmp_path / "other.jsonl", told), model, output))
    assert (code, out) == (2, "") and "another manifest" in err and err.count("\n") == 1
    assert run(*asked(write_lines(tmp_path / "same.jsonl", rows), model, output))[0] == 0


@pytest.mark.parametrize("count", [2, 4])
def test_a_finished_output_says_how_many_rows_the_manifest_has_now(
    count: int, tmp_path: Path, model: Path, run: Run
) -> None:
    rows = recorded(tmp_path)
    output = heard(write_lines(tmp_path / "manifest.jsonl", rows), model, tmp_path / "h.jsonl")
    changed = write_lines(tmp_path / "changed.jsonl", [*rows, {**rows[0], "text": "give heparin"}][:count])
    code, _, err = run(*asked(changed, model, output))
    assert code == 2 and f"accounts for 3 rows, the manifest has {count}; name another output, or delete it" in err


def test_an_unfinished_output_goes_on_with_a_manifest_that_has_grown(tmp_path: Path, model: Path) -> None:
    recorded(tmp_path)
    rows = [Utterance(audio_filepath=f"audio/{name}.wav", text=f"t {name}", duration=1.0, id=name) for name in NAMES]
    begun = {"pred_text": "heard before", "model": "ear", "model_digest": Ear(model).digest}
    write_rows(tmp_path / "h.jsonl.part", [Hypothesis(audio_filepath="audio/a.wav", text="t a", duration=1.0, id="a",
                                                      **begun)])  # fmt: skip
    transcribe_rows(rows, tmp_path, Ear(model), tmp_path / "h.jsonl", tmp_path / "h.ledger.jsonl")
    found = [json.loads(line)["pred_text"] for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert found == ["heard before", "give it now"]


# --- noise in a room or on the telephone ------------------------------------------------------------------------------


def at(misses: Mapping[str, int], each: int = 60) -> list[Hypothesis]:
    """Rows at each noise level, so many of them missed."""
    counted = enumerate(misses.items())
    return [row for n, (level, missed) in counted for row in board.rows(each, missed, start=1000 * n, noise=level)]


@pytest.mark.parametrize("level", ["snr_5db", "telephone+snr_5db", "room_0.4s+snr_5db", "room_0.4s+telephone+snr_-3db"])
def test_noise_that_is_heard_badly_leads_to_more_noise_whatever_it_came_through(
    level: str, tmp_path: Path, run: Run
) -> None:
    write_rows(tmp_path / "h.jsonl", at({"clean": 0, level: 45}))
    code, out, _ = run("leaderboard", tmp_path / "h.jsonl")
    assert (
        code == 0 and "ADD NOISE DIVERSITY" in out and f"KER 0.000 clean but 0.750 at {level}" in " ".join(out.split())
    )
    known = ["--priority-ker", 0.375, "--rows", 120, "--rows-per-category", "drug=120"]
    code, out, _ = run("advise", *known, "--ker-by-noise", f"clean=0:60,{level}=0.75:60")
    assert code == 3 and "ADD NOISE DIVERSITY" in out


@pytest.mark.parametrize(
    ("misses", "bad", "found"),
    [
        ({"snr_5db": 0, "telephone+snr_10db": 45}, "telephone+snr_10db", True),  # neither hides the other
        ({"snr_10db": 45, "telephone+snr_5db": 0}, "snr_10db", True),
        ({"snr_5db": 45, "telephone+snr_5db": 45, "room_0.4s+snr_0db": 45}, "room_0.4s+snr_0db", True),
        ({"telephone+snr_15db": 45, "telephone+snr_5db": 0}, "telephone+snr_5db", False),  # the noisiest of its kind
        ({"snr_15db": 0, "telephone+snr_5db": 0}, "telephone+snr_5db", False),
        ({"telephone": 45, "room_0.4s": 45, "ward": 45, "15": 45, "snr_nandb": 45}, "snr_5db", False),  # no SNR
    ],
)
def test_the_noisiest_level_of_each_kind_counts(misses: dict[str, int], bad: str, found: bool) -> None:
    rows = at({"clean": 0, **misses})
    gap = robustness_gap(board.board(rows), GateConfig())
    assert (gap.bad, gap.found) == (bad, found)


def test_noise_levels_are_told_in_one_order() -> None:
    order = ["clean", "snr_15db", "snr_-3db", "room_0.4s+snr_15db", "telephone+snr_10db", "telephone+snr_2.5db",
             "room_0.4s", "snr_nandb", "telephone", "ward"]  # fmt: skip
    found = board.board(at(dict.fromkeys(reversed(order), 1), each=5))
    assert [line.key for line in found.by_noise_level] == order
