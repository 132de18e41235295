"""The desk: what a verdict needs, what it leaves behind, and that nothing of it is lost."""

from __future__ import annotations

import io
import threading
import wave
from pathlib import Path

import pytest

from booth import TERMS, booth
from clinical_asr.audition import Audition, Standing, Verdict, require_heard, unheard
from clinical_asr.audition_desk import Card, ConflictError, Desk, Judgement
from clinical_asr.audition_hearing import Hearing
from clinical_asr.audition_record import append_audition, read_auditions
from clinical_asr.errors import FlywheelError
from clinical_asr.jsonl import append_row, read_csv
from clinical_asr.pronunciations import Override, read_overrides, resolve
from clinical_asr.records import EntityCategory, IpaSource, Pronunciation, Term

GOOD, FIX, DROP = Verdict.GOOD, Verdict.FIX, Verdict.DROP


def card(desk: Desk, term: str) -> Card:
    return next(card for card in desk.cards() if card.term == term)


def judge(desk: Desk, term: str, verdict: Verdict, played: str = "browser", **more: str) -> Card:
    given = {"clip": card(desk, term).clip, "by": "Dr Lin", **more}
    return desk.judge(Judgement(term=term, verdict=verdict, played=played, **given))


def test_good_needs_a_clip_that_was_played_a_name_and_the_present_clip(tmp_path: Path) -> None:
    desk = Desk(tmp_path, booth(tmp_path))
    for wrong, more, why in (
        (ConflictError, {"played": ""}, "was not played to its end"),
        (ConflictError, {"clip": card(desk, "heparin").clip}, "pronounced otherwise"),
        (FlywheelError, {"by": "  "}, "nobody is named"),
    ):
        with pytest.raises(wrong, match=why):
            judge(desk, "cefazolin", GOOD, **more)
    with pytest.raises(FlywheelError, match="'warfarin' is not on the list"):
        desk.judge(Judgement(term="warfarin", clip="x", verdict=GOOD, by="me", played="browser"))
    assert read_auditions(desk.verdicts) == [] and desk.left() == 3
    assert judge(desk, "cefazolin", GOOD, notes="clear\nenough").standing is Standing.GOOD
    (row,) = read_auditions(desk.verdicts)
    assert (row.by, row.notes, row.ipa, row.played, len(row.audio_digest)) == (
        "Dr Lin", "clear enough", "", "browser", 64,
    )  # fmt: skip
    assert desk.left() == 2


def test_a_fix_is_written_down_spoken_and_heard_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, booth(tmp_path))
    before = card(desk, "heparin")
    for ipa, why in (("", "needs the pronunciation"), (" // ", "needs the"), ("hrə", "'r' is a trill")):
        with pytest.raises(FlywheelError, match=why):
            judge(desk, "heparin", FIX, ipa=ipa)
    assert not (tmp_path / "pronunciation_overrides.csv").exists() and not read_auditions(desk.verdicts)

    after = judge(desk, "heparin", FIX, ipa="/ˈhɛpəɹɪn/", notes='as "we" say, here')
    assert after.standing is Standing.CHANGED and after.clip != before.clip and after.ipa == "ˈhɛpəɹɪn"
    assert desk.clip(before.clip) is None and desk.clip(after.clip)
    (line,) = read_csv(tmp_path / "pronunciation_overrides.csv", Override)
    assert (line.ipa, line.verified_by, line.notes) == ("ˈhɛpəɹɪn", "Dr Lin", 'as "we" say, here')
    with pytest.raises(ConflictError, match="pronounced otherwise by now"):
        judge(desk, "heparin", GOOD, clip=before.clip)
    with pytest.raises(FlywheelError, match="is the pronunciation you have heard"):
        judge(desk, "heparin", FIX, ipa="ˈhɛpəɹɪn")
    said = resolve(TERMS, read_overrides(tmp_path / "pronunciation_overrides.csv"))
    with pytest.raises(FlywheelError, match=r"heparin \(pronounced otherwise since\), cefazolin, apixaban; listen: "):
        require_heard(TERMS, read_auditions(desk.verdicts), said=said)

    assert judge(desk, "heparin", GOOD).standing is Standing.GOOD
    for term, verdict in (("cefazolin", GOOD), ("apixaban", DROP)):
        judge(desk, term, verdict)
    assert require_heard(TERMS, read_auditions(desk.verdicts), said=said) == TERMS[:2] and desk.left() == 0


def test_a_verdict_falls_with_the_pronunciation_it_was_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path, booth(tmp_path))
    for term in desk.listed:
        judge(desk, term, GOOD)
    assert Desk(tmp_path, booth(tmp_path)).listed == []
    desk.booth.override("Apixaban", "əˈpɪksəbæn", "somebody else", "by hand")
    again = Desk(tmp_path, booth(tmp_path))
    assert again.listed == ["apixaban"] and card(again, "apixaban").standing is Standing.CHANGED
    assert Desk(tmp_path, booth(tmp_path), everything=True).listed == desk.listed


def test_rows_of_earlier_versions_vouch_for_the_engines_own_pronunciation(tmp_path: Path) -> None:
    (tmp_path / "auditions.jsonl").write_text('{"term": "heparin", "verdict": "good"}\n')
    rows = read_auditions(tmp_path / "auditions.jsonl")
    own = Pronunciation(term="heparin", ipa_source=IpaSource.G2P)
    other = Pronunciation(term="heparin", ipa_source=IpaSource.OVERRIDE, ipa="ˈhɛpəɹɪn")
    assert unheard(TERMS[1:2], rows, [own]) == [] and unheard(TERMS[1:2], rows, [other]) == TERMS[1:2]


def test_a_dropped_term_stays_out_however_it_is_said() -> None:
    rows = [Audition(term="heparin", verdict=DROP)]
    said = [Pronunciation(term="heparin", ipa_source=IpaSource.OVERRIDE, ipa="ˈhɛpəɹɪn")]
    rows.append(Audition(term="apixaban", verdict=GOOD))
    assert require_heard(TERMS[1:], rows, said=said) == TERMS[2:]
    with pytest.raises(FlywheelError, match="every term was dropped"):
        require_heard(TERMS[1:2], rows, said=said)


def test_two_desks_on_one_folder_lose_nothing(tmp_path: Path) -> None:
    """Each verdict and each override of 4 x 12 is there, whole, once."""
    terms = [Term(term=f"term{number:02d}", entity_category=EntityCategory.DRUG) for number in range(12)]
    desks = [Desk(tmp_path, booth(tmp_path, terms, 0.02)) for _ in range(4)]

    def work(number: int) -> None:
        for term in terms:
            while True:  # somebody else may have mended the term meanwhile: look again, as a person would
                try:
                    judge(desks[number], term.term, FIX, ipa="ə" * (number + 1), by=f"listener {number}")
                    break
                except ConflictError:
                    continue

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read_auditions(tmp_path / "auditions.jsonl")
    lines = read_csv(tmp_path / "pronunciation_overrides.csv", Override)
    everybody = {(term.term, f"listener {number}") for term in terms for number in range(4)}
    assert {(row.term, row.by) for row in rows} == {(line.term, line.verified_by) for line in lines} == everybody
    assert len(rows) == len(lines) == 48
    for term in terms:  # every row was on what held before it: no fix was made on a clip that was gone
        chain = [row for row in rows if row.term == term.term]
        assert [row.ipa for row in chain] == ["", *(row.new_ipa for row in chain[:-1])]


@pytest.mark.parametrize(
    ("tail", "kept"), [('{"term": "heparin", "ver', 1), ('{"term":"heparin","verdict":"drop"}', 2)]
)
def test_a_last_line_without_its_end_is_mended(tmp_path: Path, tail: str, kept: int) -> None:
    path = tmp_path / "auditions.jsonl"
    append_row(path, Audition(term="cefazolin", verdict=GOOD))
    path.write_text(path.read_text() + tail)
    append_audition(path, Audition(term="apixaban", verdict=DROP))
    terms = ["cefazolin", "heparin"][:kept]
    assert [row.term for row in read_auditions(path)] == [*terms, "apixaban"]


def test_the_term_can_be_heard_alone_otherwise_and_in_its_sentence(tmp_path: Path) -> None:
    desk = Desk(tmp_path, booth(tmp_path))
    takes = [desk.say("heparin"), desk.say("heparin", "hɛ"), desk.say("heparin", "hɛ", sentence=True)]
    assert len(set(takes)) == 3
    with wave.open(io.BytesIO(takes[0])) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        assert file.getnframes() == 3200
    assert desk.suggestions("heparin") == [("sʌˈdʒɛst", "by its ending")]  # the engine's own is what is heard now
    assert not read_auditions(desk.verdicts)


def test_hearing_takes_the_time_the_clip_lasts() -> None:
    now = [100.0]
    hearing = Hearing(clock=lambda: now[0])
    tab, other = hearing.new_tab(), hearing.new_tab()
    with pytest.raises(ConflictError, match="was not sent"):
        hearing.ended(tab, "a.wav", 2.0)
    hearing.fetched(tab, "a.wav")
    now[0] += 1.0
    with pytest.raises(ConflictError, match="play it to its end"):
        hearing.ended(tab, "a.wav", 2.0)
    now[0] += 1.0
    hearing.ended(tab, "a.wav", 2.0)
    assert hearing.heard(tab, "a.wav") and not hearing.heard(other, "a.wav") and not hearing.heard(tab, "b.wav")
    for _ in range(300):
        hearing.new_tab()
    assert not hearing.known(tab) and not hearing.heard(tab, "a.wav")
