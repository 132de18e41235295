"""Pre-flight: every fault is named with its line and field, and nothing that is read becomes a stack trace."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinical_asr import audio, manifest
from clinical_asr.config import SynthesisConfig
from clinical_asr.cycle import account
from clinical_asr.errors import FlywheelError, ManifestError
from clinical_asr.jsonl import read_rows, write_rows
from clinical_asr.pronunciations import resolve
from clinical_asr.records import ClinicalUtterance, EntityCategory, Outcome, Term, Utterance
from clinical_asr.rendering import render
from clinical_asr.sentences import build_sentences

Fields = dict[str, Any]


def tone(path: Path, seconds: float = 1.0, rate: int = 16_000, channels: int = 1, subtype: str = "PCM_16") -> None:
    """A recording whose samples depend on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(np.arange(round(seconds * rate)) * (0.05 + 0.001 * (sum(path.name.encode()) % 50)))
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate, subtype=subtype)


def row(**changes: Any) -> Fields:
    """A faultless row, changed; a value of ``...`` removes the field."""
    fields = {
        "audio_filepath": "audio/a.wav",
        "text": "give cefazolin one gram before surgery",
        "duration": 1.0,
        "term": "cefazolin",
        "entity_category": "drug",
        "ipa_source": "g2p",
        "voice_id": "v1",
        "noise_level": "clean",
        "context_type": "dictation",
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tone(tmp_path / "audio" / "a.wav")
    tone(tmp_path / "audio" / "b.wav")
    return tmp_path


def check(folder: Path, *rows: Fields | str | bytes, **options: Any) -> manifest.ManifestReport:
    lines = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in rows]
    (folder / "m.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    report = manifest.check(folder / "m.jsonl", **options)
    assert sum(account("manifest", report.declared, report.entries).values()) == len([r for r in lines if r.strip()])
    return report


def faults(report: manifest.ManifestReport) -> list[tuple[int | None, str]]:
    return [(problem.line, problem.field) for problem in report.problems]


# --- a manifest that holds --------------------------------------------------------------------------------------------


def test_a_good_manifest_passes_and_gets_its_ids(folder: Path) -> None:
    report = check(folder, row(), "", row(audio_filepath="audio/b.wav", ward="4B"))
    assert report.ok and not report.warnings and report.require() == report.rows
    assert [len(r.id) for r in report.rows] == [16, 16] and report.rows[1].extra == {"ward": "4B"}
    again = folder / "again.jsonl"
    write_rows(again, report.rows)
    assert manifest.check(again).rows == report.rows
    assert report.counts["entity_category=drug"] == 2 and report.counts["failed"] == 0


def test_a_manifest_that_was_built_passes_its_check(tmp_path: Path) -> None:
    terms = [Term(term="Cefazolin", entity_category=EntityCategory.DRUG)]
    plans = audio.plan(build_sentences(terms), resolve(terms), SynthesisConfig(voices=("v", "w", "x")))

    def speak(text: str, voice: str) -> Any:
        generator = np.random.default_rng(len(text) + ord(voice))
        return (0.1 * generator.standard_normal(4000 * len(text.split()))).astype(np.float32)

    receipts = render(plans, tmp_path / "audio", speak)
    rows = manifest.build(plans, receipts, tmp_path / "audio", tmp_path)
    write_rows(tmp_path / "m.jsonl", rows)
    report = manifest.check(tmp_path / "m.jsonl")
    assert report.ok and report.rows == rows == read_rows(tmp_path / "m.jsonl", ClinicalUtterance)
    for built in rows:
        info = soundfile.info(tmp_path / built.audio_filepath)
        assert built.duration == info.frames / info.samplerate and not Path(built.audio_filepath).is_absolute()
        assert built.extra["sentence_source"] == "template" and "suspect" not in built.extra
        assert ("measured_snr" in built.extra) == (built.noise_level != "clean")
    tone(tmp_path / rows[0].audio_filepath, seconds=5)
    changed = manifest.build(plans, receipts, tmp_path / "audio", tmp_path)
    assert changed[0].extra["suspect"] == "file differs from its receipt" and changed[0].id != rows[0].id


@pytest.mark.parametrize(
    ("text", "term", "loses"),
    [("give a heparin-lock now", "heparin lock", "flywheel-v1"), ("give ivpo now", "IV/PO", "clinical-v1")],
)
def test_a_term_must_stand_in_its_text_for_whoever_counts_it(folder: Path, text: str, term: str, loses: str) -> None:
    """Those who score count with the normaliser that is asked for, those who choose an epoch with the default."""
    told = "" if loses == "clinical-v1" else f" ({loses})"
    said = row(text=text, term=term)
    assert check(folder, said).ok is (loses != "clinical-v1")
    found = check(folder, said, normaliser="flywheel-v1").problems
    assert [problem.why for problem in found] == [f"{term!r} does not occur in the text{told}"]
    with pytest.raises(FlywheelError, match="unknown normaliser 'clinical-v9'"):
        check(folder, said, normaliser="clinical-v9")


def test_general_speech_needs_no_clinical_fields(folder: Path) -> None:
    bare = {"audio_filepath": "audio/a.wav", "text": "good morning", "duration": 1.0}
    assert check(folder, bare, kind=Utterance).ok
    assert {field for _, field in faults(check(folder, bare))} == {
        "term", "entity_category", "ipa_source", "voice_id", "noise_level", "context_type",
    }  # fmt: skip


# --- fields -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"duration": None}, "duration", "is null"),
        ({"duration": -1}, "duration", "is -1"),
        ({"duration": 0}, "duration", "is 0"),
        ({"duration": "1.0"}, "duration", "expected `float`"),
        ({"duration": True}, "duration", "expected `float`"),
        ({"duration": 1.0011}, "duration", "the file lasts 1.0000 s"),
        ({"text": ...}, "text", "is missing"),
        ({"text": " "}, "text", "is empty"),
        ({"text": ["a"]}, "text", "expected `str`"),
        ({"text": "give cefazolin\u0000 now"}, "text", "control character"),
        ({"text": "give cefa zolin now"}, "term", "does not occur"),
        ({"text": "give cefazolinum now"}, "term", "does not occur"),
        ({"term": "one surgery"}, "term", "does not occur"),
        ({"term": "..."}, "term", "has no word"),
        ({"term": ""}, "term", "is empty"),
        ({"entity_category": "medication"}, "entity_category", "drug, procedure, anatomy, condition, lab, role"),
        ({"ipa_source": "guess"}, "ipa_source", "override, merriam-webster, g2p"),
        ({"noise_level": "loud"}, "noise_level", "snr_<n>db"),
        ({"voice_id": ""}, "voice_id", "is empty"),
        ({"context_type": " "}, "context_type", "is empty"),
        ({"id": "0123456789abcdef"}, "id", "was changed"),
    ],
)
def test_one_fault_is_named_with_its_field(folder: Path, changes: Fields, field: str, says: str) -> None:
    report = check(folder, row(audio_filepath="audio/b.wav"), row(**changes))
    assert faults(report) == [(2, field)] and says in str(report.problems[0])
    assert report.entries[1].outcome is Outcome.FAILED and len(report.rows) == 1


def test_the_term_is_sought_under_the_normaliser(folder: Path) -> None:
    assert check(folder, row(text="Give the patient's Beta-Blocker, now.", term="beta blocker")).ok
    assert check(folder, row(ipa_source="magpie_g2p")).rows[0].ipa_source.value == "magpie_g2p"  # type: ignore[attr-defined]


def test_all_faults_of_all_lines_are_collected(folder: Path) -> None:
    report = check(
        folder, row(duration=None, noise_level=3, term=...), "{", row(text="", audio_filepath="no.wav"), row()
    )
    assert faults(report) == [
        (1, "duration"), (1, "noise_level"), (1, "term"), (2, ""), (3, "text"), (3, "audio_filepath"),
    ]  # fmt: skip
    assert len(report.rows) == 1 and report.counts["failed"] == 3
    with pytest.raises(ManifestError, match=r"m\.jsonl line 1, .*and 5 more problems"):
        report.require()


def test_a_foreign_id_is_kept_beside_ours(folder: Path) -> None:
    report = check(folder, row(id="utt-7"))
    assert report.ok and report.rows[0].extra == {"source_id": "utt-7"} and len(report.warnings) == 1


# --- repeated rows and styles -----------------------------------------------------------------------------------------


def test_the_same_row_twice_and_one_recording_with_two_texts(folder: Path) -> None:
    (folder / "audio" / "copy.wav").write_bytes((folder / "audio" / "a.wav").read_bytes())
    report = check(folder, row(), row(audio_filepath="audio/copy.wav"), row(text="cefazolin was given at noon"))
    assert faults(report) == [(2, "id"), (3, "text")] and report.duplicates == [(1, 2)]
    assert "line 1" in str(report.problems[0]) and "line 1" in str(report.problems[1])


def test_one_recording_may_carry_two_terms_of_one_text(folder: Path) -> None:
    assert check(folder, row(), row(term="surgery", entity_category="procedure")).ok


def test_two_styles_are_a_warning_at_the_first_of_the_few(folder: Path) -> None:
    tone(folder / "audio" / "c.wav")
    rows = [row(), row(audio_filepath="audio/b.wav"), row(audio_filepath="audio/c.wav", text="Give Cefazolin now.")]
    report = check(folder, *rows)
    assert report.ok and [(w.line, w.field) for w in report.warnings] == [(3, "text")]


# --- audio ------------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1001])


def silence(path: Path) -> None:
    soundfile.write(path, np.zeros(16_000), 16_000, subtype="PCM_16")


def clipped(path: Path) -> None:
    soundfile.write(path, np.clip(4 * np.sin(np.arange(16_000) / 9), -1, 1), 16_000, subtype="PCM_16")


def overstated(path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = content.find(b"data") + 4
    content[at : at + 4] = (40_000).to_bytes(4, "little")
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: tone(p, rate=8000), "has 8000 Hz"),
        (lambda p: tone(p, channels=2), "has 2 channels"),
        (lambda p: tone(p, subtype="FLOAT"), "is FLOAT"),
        (cut, "is cut off"),
        (overstated, "is cut off"),
        (silence, "is silent"),
        (clipped, "is clipped"),
        (lambda p: p.write_bytes(b""), "cannot be decoded"),
        (lambda p: p.write_bytes(os.urandom(3000)), "cannot be decoded"),
        (lambda p: p.write_bytes(b"RIFF\0\0\0\0WAVEdata"), "cannot be decoded"),
        (lambda p: p.unlink(), "does not exist"),
        (lambda p: (p.unlink(), p.mkdir()), "is not a file"),
        (lambda p: (p.unlink(), os.mkfifo(p)), "is not a file"),
    ],
    ids=[
        "rate",
        "stereo",
        "float",
        "cut",
        "overstated",
        "silent",
        "clipped",
        "empty",
        "random",
        "stub",
        "missing",
        "folder",
        "fifo",
    ],
)
def test_audio_that_is_not_what_it_should_be(folder: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(folder / "audio" / "b.wav")
    report = check(folder, row(), row(audio_filepath="audio/b.wav"))
    assert (2, "audio_filepath") in faults(report) and all(line == 2 for line, _ in faults(report))
    assert any(says in str(problem) for problem in report.problems)


def test_what_follows_the_sound_in_a_wav_is_no_fault(folder: Path) -> None:
    path = folder / "audio" / "a.wav"
    path.write_bytes(path.read_bytes() + b"LIST\x04\x00\x00\x00INFO")
    assert check(folder, row()).ok


@pytest.mark.parametrize("subtype", ["FLAC"])
def test_sixteen_bit_flac_is_taken(folder: Path, subtype: str) -> None:
    soundfile.write(folder / "audio" / "a.flac", 0.3 * np.sin(np.arange(16_000) / 9), 16_000, subtype="PCM_16")
    assert check(folder, row(audio_filepath="audio/a.flac")).ok


# --- where audio may lie ----------------------------------------------------------------------------------------------


def test_nothing_outside_the_data_root_is_opened(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data" / "set", tmp_path / "private"
    tone(outside / "a.wav")
    tone(inside / "audio" / "a.wav")
    (inside / "audio" / "link.wav").symlink_to(outside / "a.wav")
    (inside / "linked").symlink_to(outside)
    paths = ("../../private/a.wav", "audio/../audio/a.wav", str(outside / "a.wav"), "audio/link.wav", "linked/a.wav")
    report = check(inside, *[row(audio_filepath=path) for path in paths])
    assert faults(report) == [(line, "audio_filepath") for line in range(1, 6)]
    assert all("outside the data root" in str(p) or "holds '..'" in str(p) for p in report.problems)


def test_an_absolute_path_inside_the_data_root_is_taken(folder: Path) -> None:
    assert check(folder, row(audio_filepath=str(folder / "audio" / "a.wav"))).ok
    elsewhere = folder / "lists"
    elsewhere.mkdir()
    given = row(audio_filepath=str(folder / "audio" / "a.wav"))
    assert not check(elsewhere, given).ok
    assert check(elsewhere, given, data_root=folder).ok


# --- nothing becomes a stack trace ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"\x00", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 100_000, b"null", b"[]", b'"text"', b"7",
        b'{"duration": NaN}', b'{"duration": Infinity}', b'{"duration": 1e999}', b'{"text": "\\ud800"}',
        b'{"text": "' + b"x" * 3_000_000 + b'"}', b'{"extra": {"extra": 1}}', b'{"audio_filepath": "a\\u0000b"}',
    ],
    ids=range(16),
)  # fmt: skip
def test_hostile_lines_are_findings(folder: Path, line: bytes) -> None:
    report = check(folder, row(), line)
    assert not report.ok and {problem.line for problem in report.problems} == {2} and len(report.rows) == 1
    assert all(len(str(problem)) < 1000 and "\n" not in str(problem) for problem in report.problems)


@pytest.mark.parametrize("bad", ["a\0b", "x" * 5000, "audio/" + "y" * 300 + ".wav", "/", "", ".", "audio", "~/a.wav"])
def test_hostile_paths_are_findings(folder: Path, bad: str) -> None:
    report = check(folder, row(audio_filepath=bad))
    assert not report.ok and all(field == "audio_filepath" for _, field in faults(report))


@pytest.mark.parametrize("make", [lambda p: p.write_bytes(b""), lambda p: p.write_text("\n \n"), Path.mkdir, Path])
def test_a_manifest_that_is_none_is_one_problem(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "m.jsonl")
    report = manifest.check(tmp_path / "m.jsonl")
    assert len(report.problems) == 1 and not report.entries
    with pytest.raises(ManifestError):
        report.require()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["drug", "audio/a.wav"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from([*row(), "id", "extra", "offset"]) | st.text(max_size=5)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(NAMES, VALUES, max_size=12).map(lambda d: json.dumps({**row(), **d}).encode()) | st.binary()
    )
)
def test_whatever_a_manifest_holds_every_line_is_accounted_for(folder: Path, lines: list[bytes]) -> None:
    path = folder / "m.jsonl"
    path.write_bytes(b"\n".join(lines))
    report = manifest.check(path)
    assert len(report.rows) + report.counts["failed"] == len(report.entries)
    assert account("manifest", report.declared, report.entries) is not None
    assert report.ok == (len(report.entries) > 0 and len(report.rows) == len(report.entries))
    (folder / "moved.jsonl").unlink(missing_ok=True)
    try:
        manifest.rewrite(path, folder / "moved.jsonl", "audio", "/workspace/audio")
    except FlywheelError as error:
        assert "\n" not in str(error)


# --- rewrite ----------------------------------------------------------------------------------------------------------


def test_rewrite_moves_whole_folders_and_keeps_everything_else(tmp_path: Path) -> None:
    source, target = tmp_path / "m.jsonl", tmp_path / "host" / "m.jsonl"
    rows = [
        row(audio_filepath="/data/a.wav", ward={"bed": [4, None]}, extra=1, big=2**70),
        row(audio_filepath="/database/b.wav", id="utt-1"),
        row(audio_filepath="/data//sub/c.wav", duration=None),
    ]
    source.write_text("\n".join(json.dumps(r) for r in rows) + "\n", encoding="utf-8")
    before = source.read_bytes()
    done = manifest.rewrite(source, target, "/data/", "/workspace/audio")
    moved = [json.loads(line) for line in target.read_text().splitlines()]
    paths = ["/workspace/audio/a.wav", "/database/b.wav", "/workspace/audio/sub/c.wav"]
    assert moved == [{**old, "audio_filepath": path} for old, path in zip(rows, paths, strict=True)]
    assert source.read_bytes() == before
    assert (done.count, done.unmatched) == (2, [2])
    assert [entry.id for entry in done.entries] == ["line 1", "utt-1", "line 3"] and "copied" in done.entries[1].reason
    assert sum(account("rewrite", done.declared, done.entries).values()) == 3


def test_rewrite_there_and_back_is_the_same_manifest(tmp_path: Path) -> None:
    write_rows(tmp_path / "m.jsonl", [ClinicalUtterance(**row(audio_filepath=f"/data/{n}.wav")) for n in range(5)])
    manifest.rewrite(tmp_path / "m.jsonl", tmp_path / "n.jsonl", "/data", "/mnt/x")
    manifest.rewrite(tmp_path / "n.jsonl", tmp_path / "o.jsonl", "/mnt/x", "/data")
    assert (tmp_path / "o.jsonl").read_bytes() == (tmp_path / "m.jsonl").read_bytes()


def test_rewrite_overwrites_nothing(tmp_path: Path) -> None:
    source = tmp_path / "m.jsonl"
    source.write_text(json.dumps(row()) + "\n")
    (tmp_path / "link.jsonl").symlink_to(source)
    for target in (source, tmp_path / "." / "m.jsonl", tmp_path / "link.jsonl", tmp_path):
        with pytest.raises(FlywheelError):
            manifest.rewrite(source, target, "audio", "x", force=True)
    (tmp_path / "other.jsonl").write_text("mine")
    with pytest.raises(FlywheelError, match="--force"):
        manifest.rewrite(source, tmp_path / "other.jsonl", "audio", "x")
    assert (tmp_path / "other.jsonl").read_text() == "mine"
    assert manifest.rewrite(source, tmp_path / "other.jsonl", "audio", "x", force=True).count == 1


@pytest.mark.parametrize("content", ["", "{", '{"text": "no path"}', '{"audio_filepath": 3}', "[]"])
def test_rewrite_of_what_is_no_manifest_writes_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "m.jsonl").write_text(content)
    with pytest.raises(ManifestError):
        manifest.rewrite(tmp_path / "m.jsonl", tmp_path / "n.jsonl", "a", "b")
    assert not (tmp_path / "n.jsonl").exists()
