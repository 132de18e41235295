"""Many clips in many processes: same bytes, nothing lost when something dies, old clips used, flat memory."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clinical_asr import audio, rendering, wav
from clinical_asr.clips import BABBLE_TEXTS, Clip, Receipt
from clinical_asr.config import SynthesisConfig
from clinical_asr.errors import AudioError, ConfigError, FlywheelError, ManifestError
from clinical_asr.growth import extend
from clinical_asr.jsonl import read_rows, write_rows
from clinical_asr.manifest import build
from clinical_asr.outlook import outlook
from clinical_asr.pronunciations import resolve
from clinical_asr.records import EntityCategory, Sentence, Term
from clinical_asr.rendering import render
from clinical_asr.sentences import build_sentences
from clinical_asr.workers import in_order

TERMS = [Term(term=t, entity_category=EntityCategory.DRUG) for t in ("cefazolin", "heparin", "apixaban", "warfarin")]
CONFIG = SynthesisConfig(voices=("a", "b", "c"), noise_levels=("clean", "snr_10db", "telephone+snr_5db", "room_0.3s"))


def speak(text: str, voice: str) -> NDArray[np.float32]:
    """Hiss in bursts, a tenth of a second a word: quick, and different for each text and voice."""
    seed = int(hashlib.sha256(f"{text}{voice}".encode()).hexdigest()[:8], 16)
    hiss = np.random.default_rng(seed).standard_normal(3200 * len(text.split()))
    return (0.1 * hiss * (np.arange(hiss.size) % 3200 < 2400)).astype(np.float32)


def dies_once(text: str, voice: str) -> NDArray[np.float32]:
    """The first process that comes by leaves a mark and is killed, as if memory had run out."""
    mark = Path(os.environ["TEST_MARK"])
    if not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return speak(text, voice)


def dies_always(text: str, voice: str) -> NDArray[np.float32]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def refuses(text: str, voice: str) -> NDArray[np.float32]:
    raise AudioError("cannot say it", text[:20])


def plans(terms: Sequence[Term] = TERMS, config: SynthesisConfig = CONFIG) -> list[Any]:
    return audio.plan(build_sentences(terms), resolve(terms), config)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.wav")}


# --- processes --------------------------------------------------------------------------------------------------------


def test_the_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    one = render(plans(), tmp_path / "one", speak)
    two = render(plans(), tmp_path / "two", speak, workers=2)
    assert one == two and files(tmp_path / "one") == files(tmp_path / "two")
    assert len(files(tmp_path / "one")) == len(plans()) + 3 * len(BABBLE_TEXTS)
    assert not list(tmp_path.rglob("*.part"))


def test_a_killed_worker_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_MARK", str(tmp_path / "mark"))
    clean = plans(config=SynthesisConfig(voices=("a", "b"), noise_levels=("clean",)))
    assert render(clean, tmp_path / "killed", dies_once, workers=2) == render(clean, tmp_path / "whole", speak)
    assert files(tmp_path / "killed") == files(tmp_path / "whole") and (tmp_path / "mark").exists()


def test_work_that_kills_every_process_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(FlywheelError, match="killed 3 times"):
        render([Clip(text="good morning", voice_id="v")], tmp_path, dies_always, workers=2)


def test_an_error_in_a_worker_is_the_error_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot say it"):
        render([Clip(text="good morning", voice_id="v")], tmp_path, refuses, workers=2)


def test_an_engine_that_cannot_travel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another process"):
        render(plans(), tmp_path, lambda text, voice: speak(text, voice), workers=2)


def test_jobs_are_drawn_as_they_are_needed() -> None:
    drawn: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(1000):
            drawn.append(number)
            yield number

    results = in_order(abs, jobs(), 2)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4] and len(drawn) < 20
    results.close()  # type: ignore[attr-defined]


INTERRUPTED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_rendering import plans, speak
from clinical_asr.rendering import render
if __name__ == "__main__":
    render(plans() , Path({folder!r}), speak, workers=2)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_killed_from_outside_and_run_again(tmp_path: Path, how: signal.Signals) -> None:
    """Whatever stands under its own name is whole and has a receipt; no worker outlives its parent."""
    script, folder = tmp_path / "run.py", tmp_path / "out"
    script.write_text(INTERRUPTED.format(tests=str(Path(__file__).parent), folder=str(folder)))
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(files(folder)) < 12 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, how)
    process.wait(timeout=60)
    there = files(folder)
    book = folder / "receipts.jsonl"
    lines = (book if book.exists() else folder / "receipts.jsonl.part").read_bytes().split(b"\n")[:-1]
    assert there and set(there) <= {line.split(b'"')[3].decode() for line in lines}
    assert render(plans(), folder, speak) == render(plans(), tmp_path / "whole", speak)
    assert {name: files(folder)[name] for name in there} == there
    assert files(folder) == files(tmp_path / "whole")
    with pytest.raises(ProcessLookupError):
        for _ in range(250):
            os.killpg(process.pid, 0)
            time.sleep(0.02)


# --- disk -------------------------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = Path.write_bytes, []

    def fills_up(self: Path, content: bytes) -> int:
        written.append(self)
        if len(written) == 20:
            real(self, content[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", fills_up)
    with pytest.raises(AudioError, match=r"disk is full.*goes on from here"):
        render(plans(), tmp_path / "full", speak)
    assert len(files(tmp_path / "full")) == 19
    assert render(plans(), tmp_path / "full", speak) == render(plans(), tmp_path / "whole", speak)
    assert files(tmp_path / "full") == files(tmp_path / "whole")


def test_a_disk_too_small_is_told_before_the_first_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = outlook(plans(), [tmp_path])
    ahead.require_room(tmp_path / "not" / "yet")
    monkeypatch.setattr("clinical_asr.outlook.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(AudioError, match=r"0 MB are free"):
        ahead.require_room(tmp_path / "not" / "yet")


def test_a_truncated_clip_is_made_again_as_it_was(tmp_path: Path) -> None:
    made = render(plans(), tmp_path, speak)
    path = tmp_path / made[3].audio_filepath
    whole = path.read_bytes()
    path.write_bytes(whole[:-500])
    assert render(plans(), tmp_path, speak) == made and path.read_bytes() == whole
    path.write_bytes(whole[:-500])
    [spoken] = [again for again in render(plans(), tmp_path, lambda t, v: speak(t + " or so", v)) if again.suspect]
    assert "spoken again and differs" in spoken.suspect


def test_damaged_receipts(tmp_path: Path) -> None:
    """A line that a crash cut off goes; a line that somebody spoilt is named."""
    made = render(plans(), tmp_path, speak)
    book = tmp_path / "receipts.jsonl"
    content = book.read_bytes()
    book.write_bytes(content + b'{"audio_filepath": "x')
    assert render(plans(), tmp_path, speak) == made and book.read_bytes() == content
    lines = content.split(b"\n")
    book.write_bytes(b"\n".join([*lines[:4], b"{spoilt", *lines[5:]]))
    with pytest.raises(ManifestError, match=r"receipts.jsonl line 5.*delete the line"):
        render(plans(), tmp_path, speak)


# --- cycle after cycle ------------------------------------------------------------------------------------------------


def test_a_grown_list_keeps_every_clip_and_row_of_the_cycle_before(tmp_path: Path) -> None:
    first, second = tmp_path / "cycle1", tmp_path / "cycle2"
    few = plans(TERMS[:3])
    rows = build(few, render(few, first / "audio", speak), first / "audio", first)
    before, asked = files(first / "audio"), []

    def counts(text: str, voice: str) -> NDArray[np.float32]:
        asked.append(text)
        return speak(text, voice)

    grown = plans()
    made = render(grown, second / "audio", counts, earlier=[first / "audio"])
    again = build(grown, made, second / "audio", second)
    assert again[: len(rows)] == rows and len(again) == 4 * len(rows) // 3
    assert all("warfarin" in text for text in asked) and len(asked) == len(again) - len(rows)
    assert files(first / "audio") == before and before.items() <= files(second / "audio").items()
    assert {r.audio_filepath for r in read_rows(second / "audio" / "receipts.jsonl", Receipt)} == set(
        files(second / "audio")
    )


def test_a_damaged_clip_of_an_earlier_cycle_is_not_taken(tmp_path: Path) -> None:
    made = render(plans(), tmp_path / "a", speak)
    spoilt = tmp_path / "a" / made[0].audio_filepath
    spoilt.write_bytes(spoilt.read_bytes()[:-2])
    assert render(plans(), tmp_path / "b", speak, earlier=[tmp_path / "a", tmp_path / "none"]) == made
    assert wav.read(tmp_path / "b" / made[0].audio_filepath).digest == made[0].audio_digest


def test_clips_of_the_first_version_keep_their_names_and_are_used(tmp_path: Path) -> None:
    clip = Clip(text="good morning to you all", voice_id="v", noise_level="snr_5db", label="old")
    assert clip.earlier_name == "old-3762d170a5564e8e.wav" and clip.file_name != clip.earlier_name
    old = wav.encoded((3000 * np.random.default_rng(1).standard_normal(32_000)).astype(np.int16))
    (tmp_path / clip.earlier_name).write_bytes(old)
    receipt = Receipt(
        audio_filepath=clip.earlier_name, audio_digest=hashlib.sha256(old).hexdigest(), text=clip.text,
        voice_id="v", noise_level="snr_5db", duration=2.0, measured_snr=5.0,
    )  # fmt: skip
    write_rows(tmp_path / "receipts.jsonl", [receipt])
    assert render([clip], tmp_path, refuses) == [receipt]
    assert render([clip], tmp_path / "later", refuses, earlier=[tmp_path]) == [receipt]
    assert files(tmp_path / "later") == {clip.earlier_name: old}


def test_a_manifest_grows_behind_its_old_lines(tmp_path: Path) -> None:
    few, path = plans(TERMS[:3]), tmp_path / "manifest.jsonl"
    rows = build(few, render(few, tmp_path / "audio", speak), tmp_path / "audio", tmp_path)
    assert (extend(path, rows).added, extend(path, rows).kept) == (len(rows), len(rows))
    old = path.read_bytes().replace(b'"context_type":', b'"ward": "4B",  "context_type":')[:-1]
    path.write_bytes(old)  # edited by hand, and without its last newline
    grown = plans()
    more = build(grown, render(grown, tmp_path / "audio", speak), tmp_path / "audio", tmp_path)
    done = extend(path, more)
    assert path.read_bytes().startswith(old + b"\n") and (done.kept, done.added) == (len(rows), len(more) - len(rows))
    assert done.again == done.kept == len(rows)
    assert sum(done.noise_levels.values()) == len(more)
    assert done.seconds == pytest.approx(sum(row.duration for row in more))
    fewer = extend(path, rows[1:])  # a term was dropped: its rows stay, and are told of
    assert (fewer.kept, fewer.again, fewer.added) == (len(more), len(rows) - 1, 0)


# --- plan -------------------------------------------------------------------------------------------------------------


def test_the_outlook_counts_what_is_to_come(tmp_path: Path) -> None:
    few = plans(TERMS[:2])
    made = render(few, tmp_path, speak)
    ahead = outlook(plans(), [tmp_path])
    assert (ahead.rows, ahead.there) == (len(plans()), len(few))
    assert ahead.to_speak <= ahead.rows - ahead.there + 9
    fresh = outlook(few, [])
    assert fresh.bytes > sum((tmp_path / r.audio_filepath).stat().st_size for r in made) / 4
    assert any("assumed" in line for line in fresh.hosted_lines(0))
    assert f"at 12 requests a minute: about {fresh.to_speak / 12:.0f} min" in fresh.hosted_lines(12)[1]


class Endless:
    """A hundred thousand rows' worth of sentences that are never held at once."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Sentence]:
        for number in range(self.count):
            yield Sentence(
                text=f"please note that term{number // 4} was given at half past {number} and was tolerated well",
                term=f"term{number // 4}", entity_category=EntityCategory.DRUG, context_type="handoff",
            )  # fmt: skip


def streamed(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """(rows, peak bytes) of a run over ``count`` sentences with an engine and files that cost nothing."""
    tone = np.sin(np.arange(1600) / 3).astype(np.float32)
    content = wav.encoded((tone * 1000).astype(np.int16))

    def record(studio: rendering.Studio, clips: Sequence[Clip]) -> list[Receipt]:
        for clip in clips:
            rendering._part(studio.folder / clip.file_name).write_bytes(content)
        return [
            Receipt(audio_filepath=clip.file_name, audio_digest="0" * 64, text=clip.text, voice_id=clip.voice_id,
                    noise_level=clip.noise_level, duration=tone.size / 16_000) for clip in clips
        ]  # fmt: skip

    monkeypatch.setattr(rendering.Studio, "record", record)
    monkeypatch.setattr("clinical_asr.receipts.os.fsync", lambda descriptor: None)
    plan = audio.Plan(Endless(count), [], SynthesisConfig(voices=("a", "b"), noise_levels=("clean",)))
    monkeypatch.setattr(plan, "known", Anything())
    tracemalloc.start()
    rows = sum(1 for _ in rendering.iter_render(plan, folder, lambda text, voice: tone))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return rows, peak


class Anything(dict[str, Any]):
    """A pronunciation for every term."""

    def __contains__(self, term: object) -> bool:
        return True

    def __missing__(self, term: str) -> Any:
        return resolve([Term(term=term, entity_category=EntityCategory.DRUG)])[0]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes for each further row: its name and place in the book of receipts, nothing of the row itself."""
    small = streamed(1_000, tmp_path / "small", monkeypatch)
    large = streamed(8_000, tmp_path / "large", monkeypatch)
    assert (small[0], large[0]) == (2_000, 16_000)
    each = (large[1] - small[1]) / 14_000
    print(f"{each:.0f} bytes a row: {each * 100_000 / 1e6:.0f} MB for 100,000")
    assert each < 600


def test_a_plan_is_gone_through_in_the_memory_of_its_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = audio.Plan(Endless(3_000), [], SynthesisConfig(voices=("a", "b")))
    monkeypatch.setattr(plan, "known", Anything())
    tracemalloc.start()
    assert len(plan) == 6_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000 * 150  # a clip's plan alone is more than 1,000
    assert next(iter(plan)) in plan
