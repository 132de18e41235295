"""The hypotheses stage with a recogniser of ten lines that drops, fails and dies on demand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from clinical_asr.errors import AudioError, ConfigError, FlywheelError, ManifestError
from clinical_asr.hypotheses import Heard, has_failed, lacked, reopen, transcribe_rows
from clinical_asr.jsonl import iter_objects, read_rows
from clinical_asr.records import ClinicalUtterance, Hypothesis, LedgerEntry, Outcome, Utterance


class Parrot:
    """Hears the name of the file."""

    name, digest, batch_size = "parrot", "0123456789abcdef", 2

    def __init__(self, drops: str = "", corrupt: str = "", dies_after: int = 99, adds: str = "") -> None:
        self.drops, self.corrupt, self.dies_after, self.adds = drops, corrupt, dies_after, adds
        self.asked: list[str] = []

    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, Heard]:
        if len(self.asked) >= self.dies_after:
            raise KeyboardInterrupt
        self.asked += audio
        heard: dict[str, Heard] = {key: path.stem for key, path in audio.items() if key != self.drops}
        if self.corrupt in heard:
            heard[self.corrupt] = AudioError("cannot be decoded", where="x.flac")
        return heard | ({self.adds: "ghost"} if self.adds else {})


def rows(count: int = 5) -> list[Utterance]:
    lengths = [3.0, 1.0, 5.0, 2.0, 4.0]
    return [
        Utterance(audio_filepath=f"{n}.wav", text=f"t{n}", duration=lengths[n % 5], id=f"r{n}", extra={"ward": n})
        for n in range(count)
    ]


def run(tmp_path: Path, parrot: Parrot, given: list[Utterance] | None = None) -> list[LedgerEntry]:
    given = rows() if given is None else given
    return transcribe_rows(given, tmp_path, parrot, tmp_path / "offline_hyps.jsonl", tmp_path / "ledger.jsonl")


def written(tmp_path: Path) -> list[Hypothesis]:
    return read_rows(tmp_path / "offline_hyps.jsonl", Hypothesis)


def test_rows_come_out_in_manifest_order_with_all_they_carried(tmp_path: Path) -> None:
    parrot = Parrot()
    run(tmp_path, parrot)
    assert [(row.id, row.pred_text, row.extra["ward"]) for row in written(tmp_path)] == [
        (f"r{n}", str(n), n) for n in range(5)
    ]
    assert parrot.asked == ["r2", "r4", "r0", "r3", "r1"]  # longest first
    assert {row.model_digest for row in written(tmp_path)} == {"0123456789abcdef"}


def test_clinical_fields_are_carried_flat_for_other_tools(tmp_path: Path) -> None:
    row = ClinicalUtterance(
        audio_filepath="a.wav", text="give cefazolin", duration=1.0, id="a", term="cefazolin", entity_category="drug",
        ipa_source="magpie_g2p", voice_id="v", noise_level="clean", context_type="handoff",
    )  # fmt: skip
    run(tmp_path, Parrot(), [row])
    ((_, fields),) = iter_objects(tmp_path / "offline_hyps.jsonl")
    assert fields["pred_text"] == "a" and fields["text"] == "give cefazolin"
    assert (fields["term"], fields["entity_category"], fields["ipa_source"]) == ("cefazolin", "drug", "magpie_g2p")


def test_a_dropped_row_fails_alone_and_shifts_no_other(tmp_path: Path) -> None:
    entries = run(tmp_path, Parrot(drops="r0", corrupt="r3"))
    fate = {entry.id: entry for entry in entries}
    assert [entry.id for entry in entries] == [f"r{n}" for n in range(5)]
    assert fate["r0"].outcome is Outcome.FAILED and "returned nothing" in fate["r0"].reason
    assert fate["r3"].outcome is Outcome.FAILED and "cannot be decoded" in fate["r3"].reason
    assert {row.id: row.pred_text for row in written(tmp_path)} == {"r1": "1", "r2": "2", "r4": "4"}
    assert read_rows(tmp_path / "ledger.jsonl", LedgerEntry) == entries


def test_a_reopened_output_stays_until_every_row_is_tried_again(tmp_path: Path) -> None:
    output = tmp_path / "offline_hyps.jsonl"
    run(tmp_path, Parrot(drops="r0", corrupt="r3"))
    assert lacked(rows(), output) == 2 and has_failed(tmp_path / "ledger.jsonl")
    finished = output.read_bytes()
    reopen(output)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Parrot(dies_after=0))
    assert output.read_bytes() == finished
    part = tmp_path / "offline_hyps.jsonl.part"
    part.write_bytes(part.read_bytes()[:-9])  # the power went while it was copied
    reopen(output)
    parrot = Parrot()
    run(tmp_path, parrot)
    assert parrot.asked == ["r0", "r3"] and [row.id for row in written(tmp_path)] == [f"r{n}" for n in range(5)]
    assert lacked(rows(), output) == 0 and not has_failed(tmp_path / "ledger.jsonl")


def test_a_killed_run_goes_on_and_asks_for_nothing_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Parrot(dies_after=2))
    assert not (tmp_path / "offline_hyps.jsonl").exists()
    second = Parrot()
    run(tmp_path, second)
    assert second.asked == ["r0", "r3", "r1"]
    assert len(written(tmp_path)) == 5
    assert not (tmp_path / "offline_hyps.jsonl.part").exists()


def test_an_unfinished_file_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Parrot(dies_after=2))
    other = Parrot()
    other.digest = "f" * 16
    with pytest.raises(ConfigError, match="another model"):
        run(tmp_path, other)


def test_answers_to_questions_nobody_asked_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(FlywheelError, match="ghost-row"):
        run(tmp_path, Parrot(adds="ghost-row"))


@pytest.mark.parametrize("ids", [["a", "a"], ["a", ""]])
def test_rows_without_their_own_id_are_refused(tmp_path: Path, ids: list[str]) -> None:
    given = [Utterance(audio_filepath="a.wav", text="t", duration=1.0, id=row_id) for row_id in ids]
    with pytest.raises(ManifestError, match=r"line 2, id"):
        run(tmp_path, Parrot(), given)


def test_audio_paths_stay_true_in_another_folder(tmp_path: Path) -> None:
    output = tmp_path / "elsewhere" / "hyps.jsonl"
    transcribe_rows(rows(1), tmp_path / "data", Parrot(), output, tmp_path / "elsewhere" / "ledger.jsonl")
    (row,) = read_rows(output, Hypothesis)
    assert (output.parent / row.audio_filepath).resolve() == (tmp_path / "data" / "0.wav").resolve()


def test_folders_are_looked_at_once_and_not_for_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    resolve = Path.resolve
    monkeypatch.setattr(Path, "resolve", lambda path, *more: looked.append(path) or resolve(path, *more))
    paths = ["a.wav", "deep/b.wav", "../c.wav", "../out/d.wav", str(tmp_path / "e.wav")]
    given = [Utterance(audio_filepath=path, text="t", duration=1.0, id=path) for path in paths]
    output = tmp_path / "out" / "hyps.jsonl"
    transcribe_rows(given, tmp_path / "data", Parrot(), output, tmp_path / "ledger.jsonl")
    found = [row.audio_filepath for row in read_rows(output, Hypothesis)]
    assert found == ["../data/a.wav", "../data/deep/b.wav", "../c.wav", "d.wav", str(tmp_path / "e.wav")]
    assert len(looked) == 2


def test_an_empty_manifest_gives_an_empty_file(tmp_path: Path) -> None:
    assert run(tmp_path, Parrot(), []) == []
    assert written(tmp_path) == []


def test_progress_sees_every_batch(tmp_path: Path) -> None:
    seen: list[int] = []

    def progress(batches, what):  # type: ignore[no-untyped-def]
        assert what == "transcribing"
        for batch in batches:
            yield batch
            seen.append(len(batch))

    output, ledger = tmp_path / "h.jsonl", tmp_path / "l.jsonl"
    transcribe_rows(rows(), tmp_path, Parrot(), output, ledger, progress=progress)
    assert seen == [2, 2, 1]
