"""The audition as a listener meets it: the whole command in a real browser by keyboard alone, and without a browser."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from booth import TERMS as TONES
from booth import booth
from clinical_asr.audition_desk import Desk
from clinical_asr.audition_record import read_auditions
from clinical_asr.audition_server import AuditionServer
from clinical_asr.cycle import Cycle
from clinical_asr.errors import FlywheelError
from clinical_asr.pronunciations import read_overrides
from clinical_asr.records import EntityCategory, Term

TERMS = "term,entity_category\ncefazolin,drug\nheparin,drug\ntroponin,lab\n"


@pytest.fixture
def cycle_folder(tmp_path: Path) -> Path:
    (tmp_path / "terms.csv").write_text(TERMS, encoding="utf-8")
    return tmp_path / "c" / "cycle1"


def command(folder: Path, *more: str) -> list[str]:
    terms = folder.parents[1] / "terms.csv"
    return [sys.executable, "-m", "clinical_asr", "audition", "--terms", str(terms), "--folder", str(folder), *more]


def until(page: Any, condition: str, seconds: float = 20.0) -> None:
    """Ask again until it is so. (The page's policy forbids the eval that Playwright's own waiting needs.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(30)


def complaints_of(page: Any) -> list[str]:
    found: list[str] = []
    page.on("console", lambda message: found.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("dialog", lambda dialog: (found.append("a dialog"), dialog.dismiss()))
    return found


HEARD = "document.getElementById('heard').className === 'heard yes'"


def term_is(term: str) -> str:
    return f"document.getElementById('term').textContent === '{term}'"


@pytest.mark.browser
def test_a_clinician_listens_by_keyboard_alone_and_the_gate_opens(chromium: Any, cycle_folder: Path) -> None:
    """eSpeak NG, the real command, one good, one mended and heard again, one dropped."""
    listening = subprocess.Popen(
        command(cycle_folder, "--no-open", "--voice", "en-us+Alicia-r400-p50"), stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert listening.stdout
    url = re.search(r"http://\S+", listening.stdout.readline())
    assert url
    page = chromium.new_page()
    complaints, asked = complaints_of(page), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url[0])
    until(page, "document.getElementById('name').open")
    page.keyboard.type("Dr Lin")
    page.keyboard.press("Enter")
    until(page, term_is("cefazolin") + " && document.activeElement.id === 'card'")
    until(page, "document.getElementById('wave-all').getAttribute('d').length > 1000")

    page.keyboard.press("1")  # not heard: refused, and said why
    until(page, "document.getElementById('heard').className === 'heard wrong'")
    assert "Play it to the end first" in page.inner_text("#heard")
    assert not read_auditions(cycle_folder / "auditions.jsonl")
    page.keyboard.press(" ")
    until(page, HEARD)
    page.keyboard.press("n")
    page.keyboard.type("clear")
    page.keyboard.press("Enter")
    page.keyboard.press("1")

    until(page, term_is("heparin"))
    page.keyboard.press("2")
    until(page, "document.activeElement.dataset.hear === 'a'")  # the letters are free to hear what is suggested
    page.keyboard.press("i")
    until(page, "document.activeElement.id === 'own-ipa'")
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("ˈhɛpəɹɪn")
    page.keyboard.press("Enter")  # hear it
    page.wait_for_timeout(300)
    assert page.inner_text("#own-error") == ""
    page.keyboard.press("Control+Enter")
    until(page, "document.getElementById('standing').textContent === 'hear it again'")
    until(page, HEARD)  # plays by itself
    page.keyboard.press("1")

    until(page, term_is("troponin"))
    page.keyboard.press("3")
    until(page, "!document.getElementById('done').hidden && document.activeElement.id === 'done'")
    assert page.inner_text("#count") == "3 of 3 judged" and "2 good, 1 dropped" in page.inner_text("#done-text")
    then = page.inner_text("#then")
    assert then.startswith("clinical-asr cycle --base mini --terms")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # Finish
    assert listening.wait(10) == 0 and then in listening.stdout.read()
    listening.stdout.close()
    assert not complaints and all(one.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:")) for one in asked)
    page.close()

    rows = read_auditions(cycle_folder / "auditions.jsonl")
    assert [(row.term, row.verdict.value, row.ipa, row.new_ipa, row.notes) for row in rows] == [
        ("cefazolin", "good", "", "", "clear"), ("heparin", "fix", "", "ˈhɛpəɹɪn", ""),
        ("heparin", "good", "ˈhɛpəɹɪn", "", ""), ("troponin", "drop", "", "", ""),
    ]  # fmt: skip
    assert {row.by for row in rows} == {"Dr Lin"} and all(row.audio_digest and row.at for row in rows)
    (fix,) = read_overrides(cycle_folder / "pronunciation_overrides.csv")
    assert (fix.term, fix.ipa, fix.verified_by) == ("heparin", "ˈhɛpəɹɪn", "Dr Lin")
    again = subprocess.run(command(cycle_folder), capture_output=True, text=True, timeout=60)
    assert again.returncode == 0 and "nothing is left to hear" in again.stdout and then in again.stdout
    assert gate(cycle_folder) == ["cefazolin", "heparin"]


def gate(folder: Path) -> list[str]:
    """The terms that a cycle over this folder would speak in full."""
    from clinical_asr import pronunciations
    from clinical_asr.benchmark import heard_terms
    from clinical_asr.terms import read_terms
    from wheel import Works, engines, request

    at = Cycle(folder.parent, 1)
    terms = read_terms(folder.parents[1] / "terms.csv")
    order = request(folder.parents[1] / "wheel", terms=folder.parents[1] / "terms.csv", waiver="")
    said = pronunciations.resolve(terms, read_overrides(at.overrides))
    return [term.term for term in heard_terms(at, order, engines(Works(), at, []), terms, said)]


def test_a_cycle_without_verdicts_names_the_command(cycle_folder: Path) -> None:
    terms = cycle_folder.parents[1] / "terms.csv"
    with pytest.raises(FlywheelError) as refused:
        gate(cycle_folder)
    assert f"listen: clinical-asr audition --terms {terms} --folder {cycle_folder} (or waive" in str(refused.value)


@contextmanager
def serving(folder: Path, terms: Sequence[Term] = TONES, then: str = "") -> Iterator[AuditionServer]:
    """A page for the booth of tones; its server ends also when a test fails."""
    with AuditionServer(Desk(folder, booth(folder, terms)), by="Dr Lin", then=lambda: then) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.browser
def test_two_tabs_see_each_other_and_a_foreign_page_gets_nothing(chromium: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        first, second = chromium.new_page(), chromium.new_page(color_scheme="dark")
        for page in (first, second):
            page.goto(server.url)
            until(page, term_is("cefazolin"))
        first.keyboard.press("3")
        until(first, term_is("heparin"))
        until(second, "document.getElementById('standing').textContent === 'dropped'")
        second.keyboard.press("j")
        second.keyboard.press("ArrowDown")
        until(second, term_is("apixaban"))
        second.keyboard.press(" ")
        until(second, HEARD)
        second.keyboard.press("1")
        until(first, "document.getElementById('count').textContent === '2 of 3 judged'")
        first.keyboard.press("?")
        assert first.evaluate("document.getElementById('help').open")
        foreign = chromium.new_page()
        foreign.goto("data:text/html,<title>elsewhere</title>")
        reached = foreign.evaluate(f"fetch('{server.url}state').then(() => 'reached', () => 'blocked')")
        assert reached == "blocked"
    until(first, "!document.getElementById('gone').hidden")  # the page says that it is over
    for page in (first, second, foreign):
        page.close()
    assert [(row.term, row.verdict.value) for row in read_auditions(tmp_path / "auditions.jsonl")] == [
        ("cefazolin", "drop"), ("apixaban", "good"),
    ]  # fmt: skip


@pytest.mark.browser
def test_a_small_screen_scrolls_the_strip_of_terms_and_not_the_page(chromium: Any, tmp_path: Path) -> None:
    """Words for a screen reader alone stay with their term; commands that follow each have their line, as copied."""
    names = ("cefazolin", "dexmedetomidine", "piperacillin", "norepinephrine", "levetiracetam", "apixaban")
    terms = [Term(term=name, entity_category=EntityCategory.DRUG) for name in names]
    then = "clinical-asr sentences --terms a.csv --output sentences.jsonl\nclinical-asr audio --sentences b"
    with serving(tmp_path, terms, then) as server:
        page = chromium.new_page(viewport={"width": 390, "height": 800})
        page.goto(server.url)
        until(page, term_is(names[0]))
        assert page.evaluate("document.querySelector('nav').scrollWidth") > 390
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for name in names:
            until(page, term_is(name))
            page.keyboard.press("3")
        until(page, "document.activeElement.id === 'done'")
        assert page.inner_text("#then") == then and page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


@pytest.mark.browser
def test_a_verdict_given_while_the_next_clip_is_still_on_its_way_counts(chromium: Any, tmp_path: Path) -> None:
    """A listener is faster than a slow machine: no key is lost, and what was left behind does not start to play."""
    with serving(tmp_path) as server:
        page = chromium.new_page()
        page.route("**/clip/*", lambda route: (time.sleep(0.3), route.continue_()))
        page.goto(server.url)
        for term in ("cefazolin", "heparin", "apixaban"):
            until(page, term_is(term))
            page.keyboard.press("3")
        until(page, "document.activeElement.id === 'done'")
    page.close()
    assert [row.verdict.value for row in read_auditions(tmp_path / "auditions.jsonl")] == ["drop"] * 3


@pytest.mark.browser
def test_a_suggestion_is_heard_and_used_by_its_letter(chromium: Any, tmp_path: Path) -> None:
    """The letters on the buttons are keys as soon as the suggestions are open, and are not typed into the IPA field."""
    said: list[Any] = []
    with serving(tmp_path) as server:
        page = chromium.new_page()
        page.on("request", lambda asked: said.append(asked.post_data_json) if asked.url.endswith("/say") else None)
        page.goto(server.url)
        until(page, term_is("cefazolin"))
        page.keyboard.press("2")
        until(page, "document.querySelector('[data-use=B]') !== null")
        page.keyboard.press("b")
        end = time.monotonic() + 20
        while not said and time.monotonic() < end:
            page.wait_for_timeout(30)
        assert said[0]["ipa"] == "sʌˈdʒɛst" and page.input_value("#own-ipa") == "cə"
        page.keyboard.press("Shift+B")
        until(page, "document.getElementById('standing').textContent === 'hear it again'")
    page.close()
    (fix,) = read_overrides(tmp_path / "pronunciation_overrides.csv")
    assert (fix.term, fix.ipa) == ("cefazolin", "sʌˈdʒɛst")


def player(folder: Path, code: int = 0) -> dict[str, str]:
    """A machine whose only player notes what it is given."""
    folder.mkdir()
    script = folder / "pw-play"
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/played\nexit {code}\n')
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"}


def in_terminal(folder: Path, answers: str, environment: dict[str, str], *more: str) -> Any:
    return subprocess.run(
        command(folder, "--terminal", *more), input=answers, env=environment, capture_output=True, text=True, timeout=90
    )


def test_the_terminal_does_the_same(cycle_folder: Path, tmp_path: Path) -> None:
    machine = player(tmp_path / "bin")
    first = in_terminal(cycle_folder, "Dr Lin\n1\n2 rrr\n2 ˈhɛpəɹɪn\nn now right\n1\n", machine)
    assert first.returncode == 3 and "r is a trill" in first.stdout and "1 term left" in first.stdout
    played = (tmp_path / "bin" / "played").read_text().splitlines()
    assert len(played) == 4 and all(Path(path).is_file() for path in played)  # two terms, the mended one, the third
    second = in_terminal(cycle_folder, "w\ns\n1\n3\n", machine, "--by", "Dr Wu")
    assert (
        second.returncode == 0 and "1 of 1  troponin" in second.stdout and "next: clinical-asr cycle" in second.stdout
    )
    rows = read_auditions(cycle_folder / "auditions.jsonl")
    assert [(row.term, row.verdict.value, row.by, row.played, row.notes) for row in rows] == [
        ("cefazolin", "good", "Dr Lin", "player", ""), ("heparin", "fix", "Dr Lin", "player", ""),
        ("heparin", "good", "Dr Lin", "player", "now right"), ("troponin", "drop", "Dr Wu", "player", ""),
    ]  # fmt: skip
    assert gate(cycle_folder) == ["cefazolin", "heparin"]


def test_what_is_to_be_typed_next_works_as_it_is_printed(tmp_path: Path) -> None:
    """A fix that was given while listening counts; each line is a command by itself."""
    (tmp_path / "terms.csv").write_text("term,entity_category\ncefazolin,drug\nheparin,drug\n", encoding="utf-8")
    words = ["audition", "--terms", "terms.csv", "--folder", "my own", "--terminal", "--by", "Dr Lin"]
    heard = run_here(tmp_path, words, "s\n1\nheard\n1\n2 ˈhɛpəɹɪn\nheard\n1\n")
    assert heard.returncode == 0, heard.stdout + heard.stderr
    then = [shlex.split(line.removeprefix("next: ")) for line in heard.stdout.splitlines() if line.startswith("next: ")]
    assert [line[:2] for line in then] == [["clinical-asr", name] for name in ("sentences", "pronunciations", "audio")]
    for line in then:
        done = run_here(tmp_path, line[1:])
        assert done.returncode == 0, done.stderr
    said = (tmp_path / "my own" / "pronunciations.jsonl").read_text(encoding="utf-8")
    assert "ˈhɛpəɹɪn" in said and (tmp_path / "my own" / "manifest.jsonl").exists()
    again = run_here(tmp_path, [*words, "--pronunciations", "my own/pronunciations.jsonl"])
    assert len(re.findall("^next: clinical-asr", again.stdout, re.M)) == 2


def run_here(folder: Path, words: list[str], answers: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clinical_asr", *words], input=answers, capture_output=True, text=True, timeout=90,
        cwd=folder, env={**os.environ, "PATH": f"{Path(sys.executable).parent}:/nowhere"},
    )  # fmt: skip


def test_without_a_player_the_listener_says_so(cycle_folder: Path, tmp_path: Path) -> None:
    ran = in_terminal(cycle_folder, "1\nheard\n1\nq\n", player(tmp_path / "bin", code=1), "--by", "Dr Lin")
    assert "play this file, then type heard" in ran.stdout and "was not played to its end" in ran.stdout
    (row,) = read_auditions(cycle_folder / "auditions.jsonl")
    assert (row.verdict.value, row.played) == ("good", "said so")


def test_ctrl_c_leaves_what_was_said(cycle_folder: Path) -> None:
    listening = subprocess.Popen(
        command(cycle_folder, "--terminal", "--by", "Dr Lin"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert listening.stdin
    listening.stdin.write("3\n")
    listening.stdin.flush()
    end = time.monotonic() + 60
    while not (cycle_folder / "auditions.jsonl").exists() or not (cycle_folder / "auditions.jsonl").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    listening.send_signal(signal.SIGINT)
    _, error = listening.communicate(timeout=20)
    assert listening.returncode == 130 and "interrupted" in error
    (row,) = map(json.loads, (cycle_folder / "auditions.jsonl").read_text().splitlines())
    assert row["verdict"] == "drop"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--voice", "nobody"], "'nobody' is no voice id"),
        (["--sentences", "none.jsonl"], "none.jsonl: no such file"),
        (["--pronunciations", "none.jsonl"], "none.jsonl: no such file"),
        (["--overrides", "terms.csv"], "terms.csv line 1, ipa: column is missing"),
    ],
)
def test_wrong_input_is_one_line(cycle_folder: Path, more: list[str], why: str) -> None:
    ran = subprocess.run(
        command(cycle_folder, *more), capture_output=True, text=True, timeout=60, cwd=cycle_folder.parents[1]
    )
    assert ran.returncode == 2 and why in ran.stderr and len(ran.stderr.splitlines()) == 1
