"""The page of several systems, in text and in a real browser: side by side, filters, keyboard, dark mode, print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clinical_asr.html_ranking import ranking_html, write_ranking_html
from clinical_asr.html_rows import worst_rows
from clinical_asr.ranking import System, rank
from clinical_asr.records import EntityCategory, Hypothesis, Term
from clinical_asr.scores import score, signature
from test_html_report import (
    CONTRASTS,
    EVIL,
    N,
    Opened,
    _Loads,
    beep,
    browser_only,
    cycle,
    until,
)

EVERY = {"careful": 11, "middling": 4, "a system with a very long name of its own": 2}


def system(name: str, every: int) -> System:
    rows = cycle(every, name)
    return name, score(rows), signature(rows)


def systems() -> list[System]:
    return [system(name, every) for name, every in EVERY.items()]


def misses(found: list[System]) -> dict[str, list[int]]:
    """Row id -> misses of each system, best first."""
    by_name = {name: {row.id: row.tally.keywords.misses for row in rows} for name, rows, _ in found}
    return {row.id: [by_name[name][row.id] for name in EVERY] for row in found[0][1]}


def test_the_page_stands_alone_and_holds_the_rankings_numbers() -> None:
    found = systems()
    ranking = rank(found)
    page = ranking_html(ranking, found[::-1])  # the order they come in does not matter
    loads = _Loads()
    loads.feed(page)
    assert not loads.found and not re.search(r"\bstyle=", page.split("<script")[0])
    assert [s.name for s in ranking.standings] == list(EVERY)
    for standing in ranking.standings:
        assert f"{100 * (standing.ker or 0):.1f}\u00a0%" in page
    assert "40 rows were trained on" in ranking.note and ranking.note in page
    places = [page.index(title) for title in ("1. Ranking", "2. Against the best", "4. KER by entity", "Row by row")]
    assert places == sorted(places)
    assert page.lower().count("<script") == page.lower().count("</script") == 2 and EVIL not in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert data["names"] == list(EVERY) and {len(row["sides"]) for row in data["rows"]} == {3}
    assert {row["id"]: [s["missed"] for s in row["sides"]] for row in data["rows"]} == misses(found)


def test_every_group_adds_up_to_the_standings() -> None:
    ranking = rank(systems())
    for groups in (ranking.by_category, ranking.by_term):
        for place, standing in enumerate(ranking.standings):
            assert sum(group.systems[place].misses for group in groups) == standing.misses
        assert sum(group.occurrences for group in groups) == ranking.standings[0].occurrences
    shares = [sum(one.misses for one in group.systems) / group.occurrences for group in ranking.by_term]
    assert shares == sorted(shares, reverse=True)


def test_a_drug_heard_as_another_is_counted_for_each_system() -> None:
    def heard(text: str, model: str) -> System:
        rows = [Hypothesis(id=f"{i}", audio_filepath="", duration=1.0, text=f"Give {term} now.", pred_text=text,
                           term=term, entity_category=EntityCategory.DRUG, model=model)
                for i, term in enumerate(["heparin", "insulin"])]  # fmt: skip
        return model, score(rows), signature(rows)

    ranking = rank([heard("give insulin now", "grave"), heard("give something now", "deaf")])
    assert {s.name: s.drugs_confused for s in ranking.standings} == {"grave": 1, "deaf": 0}


def test_variants_stand_beside_strict_ker_and_rank_nothing() -> None:
    def hearing(name: str, text: str) -> System:
        rows = [Hypothesis(id=f"{i}", audio_filepath="", duration=1.0, text="Check the HbA1c today.", pred_text=text,
                           term="HbA1c", entity_category=EntityCategory.LAB, model=name) for i in range(4)]  # fmt: skip
        return name, score(rows), signature(rows)

    listed = [Term(term="HbA1c", entity_category=EntityCategory.LAB, extra={"variants": "hemoglobin A1c"})]
    spelled = hearing("spelled", "check the hemoglobin a1c today")
    deaf = hearing("deaf", "check the happy one today")
    plain, aware = rank([spelled, deaf]), rank([spelled, deaf], listed)
    assert [s.ker for s in aware.standings] == [s.ker for s in plain.standings] == [1.0, 1.0]
    assert {s.name: s.variant_ker for s in aware.standings} == {"spelled": 0.0, "deaf": 1.0}
    assert [s.name for s in aware.standings] == [s.name for s in plain.standings]
    assert "KER, variants" in ranking_html(aware, [spelled, deaf])
    assert "KER, variants" not in ranking_html(plain, [spelled, deaf])


def test_a_huge_board_carries_its_worst_rows() -> None:
    found = systems()
    sides = [rows for _, rows, _ in found]
    chosen = worst_rows(sides, 20)
    assert [len(side) for side in chosen] == [20, 20, 20] and len({row.id for side in chosen for row in side}) == 20
    total = {row_id: sum(each) for row_id, each in misses(found).items()}
    assert min(total[row.id] for row in chosen[0]) >= sorted(total.values(), reverse=True)[19]
    assert worst_rows(sides, N) == [list(side) for side in sides]


# --- in Chromium ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranking")
    beep(folder / "audio" / "r00000.wav")
    found = systems()
    write_ranking_html(folder / "ranking.html", rank(found), found, audio_root=folder)
    return folder / "ranking.html"


@pytest.fixture
def opened(chromium: Any, page_file: Path) -> Iterator[Any]:
    held: list[Opened] = []

    def open_(**context: Any) -> Opened:
        held.append(Opened(chromium, page_file, **context))
        return held[-1]

    yield open_
    for one in held:
        one.context.close()


@browser_only
@pytest.mark.parametrize("width", [1200, 360])
def test_it_renders_without_a_complaint_and_asks_for_nothing(opened: Any, width: int) -> None:
    one = opened(viewport={"width": width, "height": 800})
    one.page.wait_for_selector(".row")
    assert one.complaints == [] and len([url for url in one.asked if not url.startswith("file:")]) == 0
    assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    assert one.page.locator("svg.plot:has(> title):has(> desc)").count() == 2
    assert one.page.locator(".row >> nth=0").locator(".diff").count() == 3, "every system side by side"
    assert one.page.locator(".row >> nth=0").locator(".side-name").all_inner_texts()[0].endswith("careful")


@browser_only
def test_filters_show_the_rows_they_count(opened: Any) -> None:
    one = opened()
    page, each = one.page, misses(systems()).values()
    for kind, expected in (
        ("missed", sum(sum(row) > 0 for row in each)),
        ("every", sum(min(row) > 0 for row in each)),
        ("split", sum(0 < sum(m > 0 for m in row) < 3 for row in each)),
        ("by0", sum(row[0] > 0 for row in each)),
        ("by2", sum(row[2] > 0 for row in each)),
    ):
        page.check(f"input[value={kind}]")
        assert one.shown() == expected == int(page.inner_text(f"label:has(input[value={kind}]) .count")) > 0, kind
    page.click("#reset")
    assert one.shown() == N
    page.click("#term ~ .scroll a >> text=sepsis")
    assert one.shown() == sum(row.term == "sepsis" for row in cycle(3))
    page.select_option("#sort", "split")
    assert one.complaints == []


@browser_only
def test_the_keyboard_is_enough_and_the_recording_plays(opened: Any) -> None:
    one = opened()
    page = one.page
    page.select_option("#sort", "id")
    page.evaluate("document.activeElement.blur()")
    for key, expected in (("j", 0), ("j", 1), ("k", 0)):
        page.keyboard.press(key)
        assert one.focused() == f"r{expected:05d}", key
    page.keyboard.press(" ")
    until(page, "!document.activeElement.querySelector('audio').paused")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.querySelector('details').open")
    written = page.locator(".row:focus .written dt").all_inner_texts()
    assert written == ["said", *(f"heard {name}" for name in EVERY), "id"]


@browser_only
def test_dark_mode_is_dark_and_both_are_readable(opened: Any) -> None:
    chosen = "const element = document.querySelector(selector);"
    told = CONTRASTS.replace(chosen, f"{chosen} if (!element) continue;").replace(
        '["body",', '["body", ".side-name", ".sign.good", ".sign.bad", ".lowest .strong", ".cell-note", ".met.no",'
    )
    backgrounds = set()
    for scheme in ("light", "dark"):
        page = opened(color_scheme=scheme).page
        pairs = page.evaluate(told)
        assert len(pairs) > 15 and min(pairs.values()) >= 4.5, {n: r for n, r in pairs.items() if r < 4.5}
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2


@browser_only
def test_print_shows_every_row_and_cuts_no_table(opened: Any) -> None:
    page = opened().page
    page.emulate_media(media="print")
    until(page, f"document.querySelectorAll('.row').length === {N}")
    assert not page.is_visible(".filters") and page.is_visible(".side-by-side")
    page.set_viewport_size({"width": 700, "height": 990})
    rights = page.evaluate("[...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right)")
    assert max(rights) <= 701, "no table is cut"


def test_rows_that_only_one_system_has_are_named() -> None:
    from clinical_asr.errors import ScoringError

    one, two = systems()[:2]
    rows = cycle(4, "middling")[:-1]
    with pytest.raises(ScoringError, match=r"short: .*same rows as careful: .*it lacks 1 \(r00199\)"):
        rank([one, ("short", score(rows), signature(rows))])
    other = [*two[1][:-1], msgspec.structs.replace(two[1][-1], term="please")]
    with pytest.raises(ScoringError, match=r"term of row r00199: 'heparin' / 'please'"):
        rank([one, ("other", other, two[2])])
