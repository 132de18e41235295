"""The gate before full synthesis fails closed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from clinical_asr.audition import Audition, Verdict, record_waiver, require_heard
from clinical_asr.errors import FlywheelError
from clinical_asr.jsonl import read_rows, write_rows
from clinical_asr.records import EntityCategory, Term

TERMS = [Term(term=name, entity_category=EntityCategory.DRUG) for name in ("cefazolin", "heparin", "apixaban")]
WAIVER = "demo data, nobody will read these numbers"


def heard(**verdicts: Verdict) -> list[Audition]:
    return [Audition(term=term, verdict=verdict) for term, verdict in verdicts.items()]


def test_unheard_terms_are_named_with_the_mend() -> None:
    with pytest.raises(FlywheelError, match=r"2 terms: heparin, apixaban; listen: clinical-asr audition "):
        require_heard(TERMS, heard(cefazolin=Verdict.GOOD))
    with pytest.raises(FlywheelError):
        require_heard(TERMS, [])


def test_all_heard_opens_and_dropped_terms_stay_out() -> None:
    verdicts = heard(Cefazolin=Verdict.GOOD, heparin=Verdict.DROP, apixaban=Verdict.GOOD)
    assert [term.term for term in require_heard(TERMS, verdicts)] == ["cefazolin", "apixaban"]


@pytest.mark.parametrize("waiver", ["", "ok", "x" * 19, "   ok              ok   "])
def test_a_reflex_is_no_waiver(waiver: str) -> None:
    with pytest.raises(FlywheelError, match="20 characters"):
        require_heard(TERMS, [], waiver)


def test_a_waiver_stands_for_missing_verdicts_only() -> None:
    assert require_heard(TERMS, [], WAIVER) == TERMS
    assert require_heard(TERMS, heard(heparin=Verdict.DROP), WAIVER) == [TERMS[0], TERMS[2]]
    with pytest.raises(FlywheelError, match="another pronunciation: heparin"):
        require_heard(TERMS, heard(heparin=Verdict.FIX), WAIVER)


def test_the_last_verdict_counts() -> None:
    verdicts = [*heard(heparin=Verdict.FIX), *heard(heparin=Verdict.GOOD)]
    assert require_heard(TERMS[1:2], verdicts) == TERMS[1:2]


def test_the_waiver_is_kept_with_its_time_once(tmp_path: Path) -> None:
    notes = tmp_path / "cycle_notes.md"
    notes.write_text("# Mine\n\nkeep this\n")
    for day in (3, 4):  # the second is the same command run again
        record_waiver(notes, WAIVER, TERMS, at=datetime(2026, 1, day, 9, 30, tzinfo=UTC))
    text = notes.read_text()
    assert text.startswith("# Mine\n\nkeep this\n") and text.count(WAIVER) == 1
    assert "2026-01-03T09:30:00+00:00" in text and "cefazolin, heparin, apixaban" in text
    record_waiver(notes, "another reason for the same terms", TERMS)
    assert notes.read_text().count("## Audition waived") == 2


def test_auditions_survive_a_file(tmp_path: Path) -> None:
    rows = heard(cefazolin=Verdict.FIX)
    write_rows(tmp_path / "auditions.jsonl", rows)
    assert read_rows(tmp_path / "auditions.jsonl", Audition) == rows


def test_a_verdict_vouches_for_the_engine_that_was_heard() -> None:
    """Each engine's last verdict counts for itself; a term that was dropped stays dropped everywhere."""
    by_espeak = heard(cefazolin=Verdict.GOOD, heparin=Verdict.GOOD, apixaban=Verdict.DROP)
    assert require_heard(TERMS, by_espeak) == TERMS[:2]
    with pytest.raises(FlywheelError, match=r"2 terms: cefazolin \(heard from espeak\), heparin \(heard from espeak\)"):
        require_heard(TERMS, by_espeak, engine="magpie")
    both = [*by_espeak, *(Audition(term=term.term, verdict=Verdict.GOOD, engine="magpie") for term in TERMS[:2])]
    assert require_heard(TERMS, both) == require_heard(TERMS, both, engine="magpie") == TERMS[:2]
    mended = [*both, Audition(term="heparin", verdict=Verdict.FIX, engine="magpie")]
    assert require_heard(TERMS, mended) == TERMS[:2]
    with pytest.raises(FlywheelError, match="another pronunciation: heparin"):
        require_heard(TERMS, mended, engine="magpie")
    assert require_heard(TERMS, by_espeak, WAIVER, engine="magpie") == TERMS[:2]
