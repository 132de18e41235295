"""Clips the engine spoilt: found among their neighbours, kept out of both scores, cleared by a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import wheel
from clinical_asr import suspects
from clinical_asr.cycle import Cycle
from clinical_asr.errors import FlywheelError
from clinical_asr.flywheel import turn
from clinical_asr.jsonl import append_row, read_json, read_rows
from clinical_asr.records import EntityCategory, Hypothesis, LedgerEntry, Outcome, Utterance
from clinical_asr.round_trip import clearances_path, suspects_path, without_suspects

TEXT = "please give {} two grams before the incision today"
SPOILT = "police cave two hams four visions"


def row(number: int, term: str = "cefazolin", voice: str = "v", heard: str = "", level: str = "clean") -> Hypothesis:
    said = TEXT.format(term)
    return Hypothesis(
        id=f"{number:016x}", audio_filepath=f"{number}.wav", duration=3.0, text=said, pred_text=heard or said,
        term=term, entity_category=EntityCategory.DRUG, voice_id=voice, noise_level=level,
    )  # fmt: skip


def benchmark(**last: Any) -> list[Hypothesis]:
    return [*(row(n, voice=f"v{n % 2}") for n in range(8)), row(99, **{"voice": "v0", "heard": SPOILT, **last})]


def test_a_spoilt_sentence_among_good_neighbours_is_a_suspect() -> None:
    [found] = suspects.find(benchmark())
    assert found.id == row(99).id and found.wer_around >= 0.5 and (found.wer_voice, found.wer_term) == (0, 0)
    assert "words around the term" in found.reason


def test_a_missed_term_is_no_suspect_and_never_counts() -> None:
    assert not suspects.find(benchmark(heard=TEXT.format("safe as a lean")))
    assert suspects.errors_around("give heparin lock now", "give hep are in luck now", "heparin lock") == (0, 2)


@pytest.mark.parametrize(
    "last", [{"level": "snr_5db"}, {"voice": "new"}, {"term": "heparin"}], ids=["condition", "voice", "term"]
)
def test_without_neighbours_nothing_is_proved(last: dict[str, str]) -> None:
    assert not suspects.find(benchmark(**last))


def test_the_neighbours_may_spell_the_term_another_way() -> None:
    assert [found.term for found in suspects.find(benchmark(term="Cefazolin"))] == ["Cefazolin"]


def test_a_model_that_fails_on_the_neighbours_too_accuses_no_clip() -> None:
    assert not suspects.find([row(n, heard=SPOILT, level="snr_0db") for n in range(9)])


def test_a_person_clears() -> None:
    found = suspects.find(benchmark())
    [clearance] = suspects.clear([found[0].id], found, "A. Nurse", "all words are there")
    assert clearance.by == "A. Nurse" and suspects.standing(found, [clearance]) == []
    for ids, by in ((["nobody"], "A"), ([found[0].id], " ")):
        with pytest.raises(FlywheelError):
            suspects.clear(ids, found, by)


class Stumbles(wheel.Recogniser):
    """Hears one clip of each kind as rubbish, before and after training: the audio is spoilt."""

    def hear(self, key: str, text: str, term: str) -> str:
        return SPOILT if key == SPOILT_ID[0] else super().hear(key, text, term)


SPOILT_ID = [""]


def spun(tmp_path: Path, number: int = 1) -> tuple[Cycle, Any]:
    cycle, works = Cycle(tmp_path / "c", number), wheel.Works()
    engines = wheel.engines(works, cycle, [])

    def transcriber(path: Path, name: str) -> Any:
        if not SPOILT_ID[0]:
            SPOILT_ID[0] = read_rows(cycle.manifest, Utterance)[5].id
        plain = engines.transcriber(path, name)
        return Stumbles(works, path, name, plain.texts)

    changed = {f: getattr(engines, f) for f in engines.__dataclass_fields__} | {"transcriber": transcriber}
    return cycle, turn(cycle, wheel.request(tmp_path / "in"), type(engines)(**changed))


def test_a_cycle_keeps_a_spoilt_clip_out_of_both_scores_and_of_training(tmp_path: Path) -> None:
    SPOILT_ID[0] = ""
    cycle, _ = spun(tmp_path)
    [found] = read_rows(suspects_path(cycle), suspects.Suspect)
    ledger = read_rows(cycle.ledger("scores"), LedgerEntry)
    out = [entry for entry in ledger if entry.outcome is Outcome.EXCLUDED]
    assert [entry.id for entry in out] == [found.id] == SPOILT_ID and "around the term" in out[0].reason
    assert len(ledger) == len(read_rows(cycle.manifest, Utterance))
    trained: Mapping[str, Any] = {r.id: r for p in (cycle.train, cycle.validation) for r in read_rows(p, Utterance)}
    assert found.id not in trained and len(trained) == len(ledger) - 1
    for when in ("before", "after"):
        assert read_json(cycle.leaderboard(when, "json"))["headline"]["rows"] == len(ledger) - 1


def test_a_clearance_holds_from_the_next_cycle_on(tmp_path: Path) -> None:
    SPOILT_ID[0] = ""
    cycle, _ = spun(tmp_path)
    found = read_rows(suspects_path(cycle), suspects.Suspect)
    for clearance in suspects.clear([found[0].id], found, "A. Nurse"):
        append_row(clearances_path(cycle), clearance)
    rows = read_rows(cycle.manifest, Utterance)
    assert len(without_suspects(cycle, rows, "clinical-v1")) == len(rows) - 1
    later, _ = spun(tmp_path, 2)
    assert [row.id for row in read_rows(later.manifest, Utterance)] == [row.id for row in rows]
    assert len(without_suspects(later, rows, "clinical-v1")) == len(rows)
