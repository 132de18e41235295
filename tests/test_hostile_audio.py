"""Recordings and paths that are not what they say: each row by itself is refused with its reason, the others go on."""

from __future__ import annotations

import json
import os
import shlex
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from clinical_asr import speech, wav
from clinical_asr.cycle import account
from clinical_asr.engines.runners.staging import stage
from clinical_asr.errors import AudioError, FlywheelError
from clinical_asr.manifest import check, rewrite
from clinical_asr.records import Utterance
from clinical_asr.speech import read_speech
from clinical_asr.training import Example

RNG = np.random.default_rng(4)
SPEECH = (0.2 * np.sin(np.arange(16_000) * 0.05) + 0.02 * RNG.standard_normal(16_000)).astype(np.float32)


def sound(path: Path, samples: Any = SPEECH, rate: int = 16_000, **form: Any) -> None:
    soundfile.write(path, samples, rate, **{"subtype": "PCM_16", "format": "WAV", **form})


def spoilt(path: Path, change: Callable[[bytearray], None], **form: Any) -> None:
    sound(path, **form)
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def cut(content: bytearray) -> None:
    del content[len(content) // 2 :]


def lies(at: int, value: int) -> Callable[[bytearray], None]:
    return lambda content: struct.pack_into("<I", content, at, value)


def garbage(content: bytearray) -> None:
    content[len(content) // 3 : len(content) // 3 + 900] = RNG.bytes(900)


def ten_hours(path: Path) -> None:
    """A WAV of ten hours that takes no room: its samples are a hole."""
    size = 10 * 3600 * 16_000 * 2
    head = (
        b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    )
    path.write_bytes(head + b"data" + struct.pack("<I", size))
    os.truncate(path, size + 44)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda p: spoilt(p, cut), "cut off"),
    "no samples": (lambda p: sound(p, SPEECH[:0]), "holds no samples; record or synthesise it again"),
    "empty": (lambda p: p.write_bytes(b""), "cannot be decoded (Format not recognised.)"),
    "header alone": (lambda p: spoilt(p, lambda c: c.__delitem__(slice(44, None))), "cut off"),
    "stereo": (lambda p: sound(p, np.stack([SPEECH] * 2, 1)), "2 channels"),
    "8 kHz": (lambda p: sound(p, rate=8000), "8000 Hz"),
    "24 bit": (lambda p: sound(p, subtype="PCM_24"), "PCM_24"),
    "float": (lambda p: sound(p, subtype="FLOAT"), "FLOAT"),
    "float with NaN": (lambda p: sound(p, np.full(16_000, np.nan, np.float32), subtype="FLOAT"), "FLOAT"),
    "says more than it has": (lambda p: spoilt(p, lies(40, 10**8)), "cut off"),
    "says less than it has": (lambda p: spoilt(p, lies(40, 1000)), "duration"),
    "says 4 GiB": (lambda p: spoilt(p, lies(40, 2**32 - 2)), "cut off"),
    "says 0 Hz": (lambda p: spoilt(p, lies(24, 0)), "."),
    "says 2 GHz": (lambda p: spoilt(p, lies(24, 2**31 - 1)), "."),
    "says 65535 channels": (lambda p: spoilt(p, lambda c: struct.pack_into("<H", c, 22, 65535)), "."),
    "chunk without end": (lambda p: spoilt(p, lies(16, 2**32 - 1)), "."),
    "silent": (lambda p: sound(p, SPEECH * 0), "silent"),
    "clipped": (lambda p: sound(p, np.clip(SPEECH * 50, -1, 1)), "clipped"),
    "ten hours": (ten_hours, "10.0 hours"),
    "FLAC, corrupt": (lambda p: spoilt(p, garbage, format="FLAC"), "."),
    "FLAC, cut": (lambda p: spoilt(p, cut, format="FLAC"), "."),
    "MP3 called .wav": (lambda p: sound(p, format="MP3", subtype="MPEG_LAYER_III"), "MPEG_LAYER_III"),
    "text": (lambda p: p.write_text("#!/bin/sh\ntouch owned\n"), "cannot be decoded"),
    "noise": (lambda p: p.write_bytes(RNG.bytes(5000)), "cannot be decoded"),
    "a pipe": (os.mkfifo, "pipe or a device"),
    "a folder": (lambda p: p.mkdir(), "is not a file"),
    "a link out": (lambda p: p.symlink_to("/etc/passwd"), "outside the data root"),
    "a link to itself": (lambda p: p.symlink_to(p.name), "."),
    "a link to a device": (lambda p: p.symlink_to("/dev/zero"), "outside the data root"),
    "missing": (lambda p: None, "does not exist"),
}


def manifest(folder: Path, names: list[str], **more: Any) -> Path:
    rows = [
        {"audio_filepath": name, "text": f"row {n} is said", "duration": 1.0, **more} for n, name in enumerate(names)
    ]
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def batch(folder: Path) -> tuple[Path, list[str]]:
    """Every broken recording, with a good one before, between and after."""
    names = []
    for number, (make, _) in enumerate(BROKEN.values()):
        sound(folder / f"good{number}.wav", SPEECH * (0.5 + number / 100))
        make(folder / f"bad{number}.wav")
        names += [f"good{number}.wav", f"bad{number}.wav"]
    return manifest(folder, names), names


def test_each_broken_recording_is_refused_alone_and_the_ledger_adds_up(tmp_path: Path) -> None:
    path, names = batch(tmp_path)
    report = check(path, Utterance)
    account("manifest check", report.declared, report.entries)
    fates = dict(zip(names, report.entries, strict=True))
    for number, (name, (_, why)) in enumerate(BROKEN.items()):
        assert fates[f"good{number}.wav"].outcome.value == "passed", (name, fates[f"good{number}.wav"])
        said = " ".join(f"{p}" for p in report.problems if p.line == 2 * number + 2)
        assert fates[f"bad{number}.wav"].outcome.value == "failed" and said, name
        assert why in said and "\n" not in said and "0x" not in said, (name, said)
    assert len(report.rows) == len(BROKEN) and len(report.problems) >= len(BROKEN)


def test_how_a_recording_is_converted_can_be_typed_as_it_is_printed(tmp_path: Path) -> None:
    (tmp_path / "my clips").mkdir()
    sound(tmp_path / "my clips" / "stereo.wav", np.stack([SPEECH] * 2, 1))
    (problem,) = check(manifest(tmp_path, ["my clips/stereo.wav"]), Utterance).problems
    words = shlex.split(problem.mend.removeprefix("convert it: "))
    assert words[0] == "sox" and Path(words[1]).samefile(tmp_path / "my clips" / "stereo.wav")


def test_the_reader_of_speech_refuses_or_reads(tmp_path: Path) -> None:
    """What the recognisers decode with, which takes more forms: never a hang, a trace or ten hours in memory."""
    outcome = {}
    for number, (name, (make, _)) in enumerate(BROKEN.items()):
        path = tmp_path / f"{number}.wav"
        make(path)
        if "device" in name or "link out" in name:
            path = path.resolve()
        try:
            outcome[name] = read_speech(path).size
        except AudioError as error:
            outcome[name] = 0
            assert "\n" not in str(error)
    read = {name for name, size in outcome.items() if size}
    assert read >= {"8 kHz", "24 bit", "float", "MP3 called .wav"}, outcome
    assert not read & {"stereo", "ten hours", "a pipe", "float with NaN", "empty", "a folder", "missing", "text"}


# --- files of many makers: read as the decoder would, or by the decoder -----------------------------------------------

PCM = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
EXTENSIBLE = struct.pack("<HHIIHH", 0xFFFE, 1, 16_000, 32_000, 2, 16) + struct.pack("<HHI", 22, 16, 4) + bytes.fromhex(
    "0100000000001000800000aa00389b71"
)  # fmt: skip
FORMS = [
    PCM, PCM + bytes(2), PCM[:14], EXTENSIBLE, struct.pack("<HHIIHH", 1, 2, 16_000, 64_000, 4, 16),
    struct.pack("<HHIIHH", 1, 1, 8_000, 16_000, 2, 16), struct.pack("<HHIIHH", 1, 1, 16_000, 16_000, 1, 8),
    struct.pack("<HHIIHH", 1, 1, 16_000, 0, 2, 16), struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32),
]  # fmt: skip
MAKER = b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0"
LISTS = [MAKER, MAKER + b"ICMT", MAKER[:-2], b"INFOdata" + bytes(4), b"adtl", b"exif" + bytes(range(17)), b""]


def chunk(name: bytes, body: bytes, declared: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if declared is None else declared) + body + bytes(len(body) % 2)


@st.composite
def waves(draw: st.DrawFn) -> bytes:
    """WAVs as programs, bad lines and bad people write them; about a third are read without a decoder."""
    mostly = lambda usual, others: draw(st.sampled_from([usual] * 6 * len(others) + others))  # noqa: E731
    others = st.tuples(st.sampled_from([b"LIST", b"LIST", b"fact", b"fmt ", b"JUNK"]), st.sampled_from(LISTS))
    between = [chunk(*one) for one in mostly([], [[(b"LIST", MAKER)], draw(st.lists(others, max_size=3))])]
    audio = draw(st.sampled_from([0, 1, 799, 800, 1000])) * 2 * b"\1" + mostly(b"", [b"\2"])
    audio = bytes(np.frombuffer(audio, np.uint8) * np.arange(len(audio), dtype=np.uint8))
    declared = mostly(None, [0, 2, len(audio) + 2, len(audio) + 1, 2**31, 2**32 - 1])
    after = mostly(b"", [chunk(b"LIST", MAKER), chunk(b"data", b"abcd"), b"\0", b"more"])
    body = b"WAVE" + chunk(b"fmt ", mostly(PCM, FORMS)) + b"".join(between) + chunk(b"data", audio, declared) + after
    content = b"RIFF" + struct.pack("<I", mostly(len(body), [0, 8, 2**32 - 1, len(body) - 2])) + body
    return content[: mostly(len(content), [draw(st.integers(0, len(content)))])]


def outcome_of(read: Callable[[Path], Any], path: Path) -> tuple[str, bytes] | str:
    try:
        samples = read(path)
    except AudioError as error:
        return str(error)
    return samples.dtype.str, samples.tobytes()


@settings(max_examples=400)
@given(content=waves())
def test_whoever_made_a_file_it_is_read_as_its_decoder_reads_it(content: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.wav"
    path.write_bytes(content)
    assert outcome_of(read_speech, path) == outcome_of(speech._decoded, path)


@pytest.mark.parametrize("before", [b"", chunk(b"LIST", MAKER)])
def test_plain_speech_is_not_converted_on_its_way(before: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sound(path)
    content = path.read_bytes()
    path.write_bytes(content[:36] + before + content[36:])
    stored = speech.read_stored(path)
    assert stored.dtype == np.int16 and not stored.flags.owndata
    assert np.array_equal(stored, soundfile.read(path, dtype="int16")[0])
    read = read_speech(path)
    assert read.dtype == np.float32 and read.tobytes() == soundfile.read(path, dtype="float32")[0].tobytes()
    assert read.flags.writeable


def test_an_hour_and_a_little_is_refused_whoever_reads_it(tmp_path: Path) -> None:
    size = 32_000 * 3600 + 1000  # bytes; the file as a whole is still one that is read at once
    head = b"RIFF" + struct.pack("<I", size + 36) + b"WAVE" + chunk(b"fmt ", PCM) + b"data" + struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(head)
    os.truncate(tmp_path / "a.wav", size + 44)
    refused = outcome_of(read_speech, tmp_path / "a.wav")
    assert "1.0 hours" in refused and refused == outcome_of(speech._decoded, tmp_path / "a.wav")


def test_ten_hours_take_no_memory(tmp_path: Path) -> None:
    from test_hostile_readers import in_a_narrow_house

    ten_hours(tmp_path / "a.wav")
    sound(tmp_path / "b.wav")
    path = manifest(tmp_path, ["a.wav", "b.wav"])
    code = (
        "from pathlib import Path\nfrom clinical_asr.manifest import check\n"
        "from clinical_asr.records import Utterance\n"
        "import soundfile\n"
        "found = check(Path(sys.argv[1]), Utterance); print([e.outcome.value for e in found.entries])"
    )
    done, peak = in_a_narrow_house(code, str(path), mib=900)
    assert "['failed', 'passed']" in done.stdout, (done.stdout, done.stderr[-500:])
    assert peak < 60, f"{peak} MiB"


def test_a_recording_that_vanishes_or_changes_after_the_check(tmp_path: Path) -> None:
    """Between check and use: a row that fails, or another recording's samples; never the whole batch."""
    from clinical_asr.hypotheses import transcribe_rows

    for name in ("a", "b", "c", "d"):
        sound(tmp_path / f"{name}.wav", SPEECH * (0.5 + ord(name) / 500))
    rows = check(manifest(tmp_path, ["a.wav", "b.wav", "c.wav", "d.wav"]), Utterance).require()
    (tmp_path / "b.wav").unlink()
    (tmp_path / "c.wav").unlink()
    os.mkfifo(tmp_path / "c.wav")
    spoilt(tmp_path / "d.wav", lambda c: c.__delitem__(slice(30, None)))

    class Reader:
        name, digest, batch_size = "reader", "0" * 16, 8

        def transcribe(self, audio: dict[str, Path]) -> dict[str, Any]:
            heard: dict[str, Any] = {}
            for row_id, path in audio.items():
                try:
                    heard[row_id] = f"{read_speech(path).size}"
                except AudioError as error:
                    heard[row_id] = error
            return heard

    entries = transcribe_rows(rows, tmp_path, Reader(), tmp_path / "h.jsonl", tmp_path / "l.jsonl")  # type: ignore[arg-type]
    assert [entry.outcome.value for entry in entries] == ["scored", "failed", "failed", "failed"]


@pytest.mark.nemo
def test_the_commands_go_through_the_whole_batch(tiny_nemo: Path, tmp_path: Path) -> None:
    path, _ = batch(tmp_path)
    output = tmp_path / "h.jsonl"
    words = ["hypotheses", "--manifest", str(path), "--model", str(tiny_nemo), "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "clinical_asr", "manifest", "check", str(path)], capture_output=True,
                          text=True, timeout=120, env=environment)  # fmt: skip
    assert done.returncode == 2 and f"{len(BROKEN)} passed + {len(BROKEN)} failed" in done.stdout, done
    assert "Traceback" not in done.stderr
    manifest(
        tmp_path,
        [
            name
            for number, key in enumerate(BROKEN)
            for name in (f"good{number}.wav", f"bad{number}.wav")
            if "link" not in key
        ],
    )  # fmt: skip - a way out of the data root is a fault of the row
    done = subprocess.run([sys.executable, "-m", "clinical_asr", *words], capture_output=True, text=True, timeout=300,
                          env=environment)  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, (done.stdout, done.stderr[-2000:])
    links = sum("link" in key for key in BROKEN)
    assert len(output.read_text().splitlines()) == len(BROKEN) - links
    ledger = [json.loads(line) for line in (tmp_path / "h.ledger.jsonl").read_text().splitlines()]
    assert len(ledger) == 2 * (len(BROKEN) - links)
    assert sum(row["outcome"] == "failed" and bool(row["reason"]) for row in ledger) == len(BROKEN) - links


# --- containment ------------------------------------------------------------------------------------------------------

WAYS_OUT = [
    "pipe:cat /etc/passwd", "pipe: touch owned |", " pipe:id", "PIPE:id", "https://example.org/a.wav", "s3://b/a.wav",
    "file:///etc/passwd", "ais://b/a.wav", "FILE:/etc/passwd", "/etc/passwd", "/dev/zero", "/dev/stdin",
    "/proc/self/environ",
    "../secret.wav", "a/../../secret.wav", "..\\secret.wav", "link/secret.wav", "out.wav", "~/a.wav", "a\0b.wav", "",
    ".",
    "..", "//etc/passwd", "a" * 5000, "//", "/dev/fd/0", "hard/../../../x", "‥/secret.wav",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_path_leads_out(way: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    sound(tmp_path / "secret.wav")
    (root / "link").symlink_to(tmp_path)
    (root / "out.wav").symlink_to(tmp_path / "secret.wav")
    path = manifest(root, [way])
    report = check(path, Utterance)
    assert not report.ok and not report.rows and any(p.field == "audio_filepath" for p in report.problems), report
    assert not (root / "owned").exists() and not Path("owned").exists()


@pytest.mark.parametrize(
    "field",
    ["text_filepath", "audio_filename", "audio_file", "video_filepath", "context_filepath", "rttm_filepath",
     "feature_filename", "offset", "_skipme", "sampling_rate"],
)  # fmt: skip
def test_no_field_leads_nemo_elsewhere(field: str, tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    value: Any = {"offset": 0.5, "_skipme": True, "sampling_rate": 8000}.get(field, "/etc/passwd")
    path = manifest(tmp_path, ["a.wav"], **{field: value})
    assert [problem.field for problem in check(path, Utterance).problems] == [field]
    with pytest.raises(FlywheelError, match=field):
        rewrite(path, tmp_path / "moved.jsonl", ".", "/workspace")
    assert not (tmp_path / "moved.jsonl").exists()
    example = Example("0123456789abcdef", tmp_path / "a.wav", "row", 1.0, {field: value})
    with pytest.raises(AudioError, match=field):
        stage(tmp_path / "a.wav", {"train": [example]}, tmp_path / "staged", Path("/workspace"))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "", "..", "a\0", "x" * 300])
def test_no_id_leads_out_of_the_staged_folder(name: str, tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    example = Example(name, tmp_path / "a.wav", "row", 1.0, {})
    with pytest.raises(AudioError, match="no file name"):
        stage(tmp_path / "a.wav", {"train": [example]}, tmp_path / "s" / "staged", Path("/w"))  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()


def test_a_rewritten_manifest_takes_no_way_out_along(tmp_path: Path) -> None:
    for way in ("pipe:id", "/data/../etc/passwd", "https://x/a.wav"):
        path = manifest(tmp_path, [way])
        with pytest.raises(FlywheelError, match="audio_filepath"):
            rewrite(path, tmp_path / "moved.jsonl", "/data", "/workspace")


@pytest.mark.parametrize("command", [
    ["split", "M"], ["finetune", "--train", "M"], ["finetune", "--train", "G", "--validation", "M"],
    ["finetune", "--train", "G", "--replay", "M"],
    ["hypotheses", "--manifest", "M", "--model", "mini", "--output", "h.jsonl"],
])  # fmt: skip
def test_every_command_that_takes_a_manifest_looks_first(command: list[str], tmp_path: Path) -> None:
    sound(tmp_path / "g.wav")
    manifest(tmp_path, ["g.wav"]).rename(tmp_path / "G.jsonl")
    manifest(tmp_path, ["/etc/passwd"]).rename(tmp_path / "M.jsonl")
    words = [f"{word}.jsonl" if word in ("M", "G") else word for word in command]
    done = subprocess.run([sys.executable, "-m", "clinical_asr", *words], cwd=tmp_path, capture_output=True, text=True,
                          timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done
    assert "outside the data root" in done.stderr or "term" in done.stderr, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["G.jsonl", "M.jsonl", "g.wav"]


def test_the_limit_of_a_recording_is_an_hour() -> None:
    assert wav.LONGEST == 3600 and wav.LARGEST > 3600 * 32_000
