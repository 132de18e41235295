"""The HTML report in a real browser: verdict first, filters, keyboard, dark mode, print, no network, no injection."""

from __future__ import annotations

import html
import json
import math
import re
import struct
import time
import wave
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from board import guard, hypothesis
from clinical_asr.compared import Comparison
from clinical_asr.comparison import compare
from clinical_asr.errors import ScoringError
from clinical_asr.gate import gate
from clinical_asr.html_report import comparison_html, leaderboard_html, write_comparison_html, write_leaderboard_html
from clinical_asr.html_rows import row_records
from clinical_asr.leaderboard import leaderboard
from clinical_asr.records import EntityCategory, Hypothesis, IpaSource, Stratum
from clinical_asr.scores import score, signature
from clinical_asr.tally import Leaderboard, Score
from clinical_asr.triage import triage
from clinical_asr.verdict import decide
from clinical_asr.worddiff import word_diff

EVIL = "<script>alert(1)</script>"
N = 200
TERMS = [f"term{i}" for i in range(8)] + ["sepsis", "heparin"]
STRATA = list(Stratum)


def cycle(every: int, model: str = "base", n: int = N) -> list[Hypothesis]:
    """``n`` rows over ten terms, four noise levels and all strata; every ``every``-th term is missed."""
    rows = []
    for i in range(n):
        row = hypothesis(
            f"r{i:05d}",
            heard=i % every > 0,
            term=TERMS[i % len(TERMS)],
            category=EntityCategory.CONDITION if i % 10 == 8 else EntityCategory.DRUG,
            source=(IpaSource.OVERRIDE, IpaSource.G2P)[i % 2],
            noise=("clean", "snr_15db", "snr_10db", "snr_5db")[i // 10 % 4],
            voice=f"v{i % 4}",
            model=model,
            digest=model,
        )
        rows.append(msgspec.structs.replace(row, extra={"stratum": STRATA[i // 10 % len(STRATA)].value}))
    # Row 1 hears a listed term nobody said; row 2 speaks markup; row 3 has no recording.
    rows[1] = msgspec.structs.replace(rows[1], pred_text=rows[1].pred_text + " heparin")
    rows[2] = msgspec.structs.replace(rows[2], text=f"Give {TERMS[2]} {EVIL} now.", pred_text=f"</script> {EVIL} &amp;")
    rows[3] = msgspec.structs.replace(rows[3], audio_filepath="")
    return rows


def board_of(rows: list[Hypothesis]) -> tuple[Leaderboard, list[Score]]:
    scores = score(rows)
    return leaderboard(scores, signature(rows)), scores


def compared(n: int = N) -> tuple[Comparison, list[Score], list[Score]]:
    before, after = cycle(3, n=n), cycle(11, "tuned", n=n)
    old, new = score(before), score(after)
    strata = {row.id: row.stratum for row in old if row.stratum}
    found = compare(old, new, strata, guard(1000, 10), guard(1000, 12), (signature(before), signature(after)))
    return found, old, new


# --- without a browser ------------------------------------------------------------------------------------------------


class _Loads(HTMLParser):
    """Everything in a page that would make a browser load something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            elsewhere = name == "href" and not (value or "").startswith("#")
            if elsewhere or name in {"src", "srcset", "data", "poster"}:
                self.found.append((tag, name, value))


def test_a_page_stands_alone() -> None:
    board, scores = board_of(cycle(3))
    page = leaderboard_html(board, scores, gate(board))
    loads = _Loads()
    loads.feed(page)
    assert not loads.found
    policy = html.unescape(re.search(r'Security-Policy" content="(.*?)"', page)[1])  # type: ignore[index]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    assert not re.search(r"\bstyle=", page.split("<script")[0]), "a style attribute would be refused by the policy"


def test_every_number_of_the_headline_is_the_boards() -> None:
    board, scores = board_of(cycle(3))
    page = leaderboard_html(board, scores)
    for rate in (board.headline.ker, board.headline.wer, board.headline.cer, board.headline.ser):
        assert f"{100 * rate:.1f}\u00a0%" in page
    for text in (f"{board.headline.misses} of {board.headline.occurrences}", board.signature.manifest_digest):
        assert text in page
    assert page.index("1. Headline") < page.index("2. KER by entity") < page.index("3. KER by source")
    assert page.index("4. KER by noise") < page.index("5. KER per term") < page.index("6. By what training has seen")
    assert page.index("6. By what training has seen") < page.index("<footer>") < page.index('id="data"')


def test_the_rows_in_the_page_are_the_scores() -> None:
    board, scores = board_of(cycle(3))
    page = leaderboard_html(board, scores)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert [row["id"] for row in data["rows"]] == [row.id for row in scores]
    sides = [row["sides"][0] for row in data["rows"]]
    assert sum(side["errors"] for side in sides) / sum(side["words"] for side in sides) == board.headline.wer
    assert sum(side["missed"] for side in sides) == board.headline.misses
    assert sum(len(side["unsaid"]) for side in sides) == board.headline.false_insertions > 0


def test_a_diff_tells_the_same_counts_as_the_score() -> None:
    for row in score(cycle(2)):
        counts = {"substitution": 0, "deletion": 0, "insertion": 0}
        for segment in word_diff(row, "clinical-v1"):
            if segment.operation != "hit":
                counts[segment.operation] += len((segment.said or segment.heard).split())
        words = row.tally.words
        expected = {"substitution": words.substitutions, "deletion": words.deletions, "insertion": words.insertions}
        assert counts == expected, row.id


def test_a_term_said_twice_and_heard_once_is_marked_in_its_place() -> None:
    row = Hypothesis(id="a", audio_filepath="", duration=1.0, text="Heparin here and heparin there.", term="heparin",
                     pred_text="happy here and heparin there", entity_category=EntityCategory.DRUG)  # fmt: skip
    marks = [(s.said, s.mark) for s in word_diff(score([row])[0], "clinical-v1") if s.mark]
    assert marks == [("heparin", "miss"), ("heparin", "hit")]


def test_a_drug_heard_as_another_listed_drug_is_marked_as_both() -> None:
    row = Hypothesis(id="a", audio_filepath="", duration=1.0, text="Give heparin now.", term="heparin",
                     pred_text="give insulin now", entity_category=EntityCategory.DRUG)  # fmt: skip
    assert [s.mark for s in word_diff(score([row])[0], "clinical-v1", ["insulin"])] == ["", "confused", ""]


def test_audio_is_found_from_the_pages_folder(tmp_path: Path) -> None:
    board, scores = board_of(cycle(3))
    scores[5] = msgspec.structs.replace(scores[5], audio_filepath=str(tmp_path / "data" / "my clip #1.wav"))
    path = tmp_path / "cycle1" / "leaderboard.html"
    write_leaderboard_html(path, board, scores, audio_root=tmp_path / "data")
    page = path.read_text()
    assert '"audio":"../data/audio/r00000.wav"' in page and '"audio":"../data/my%20clip%20%231.wav"' in page
    assert list(path.parent.iterdir()) == [path], "no .part is left behind"


def test_rows_of_unknown_stratum_are_never_called_held_out() -> None:
    found, old, new = compared()
    bare = [[msgspec.structs.replace(row, stratum=None) for row in side] for side in (old, new)]
    assert "By noise, held-out rows" not in comparison_html(found, None, *bare)
    assert "By noise, held-out rows" in comparison_html(found, None, *bare, {row.id: row.stratum for row in old})


def test_rows_without_a_counterpart_are_left_out_and_other_rows_refused() -> None:
    found, old, new = compared()
    page = comparison_html(found, None, old, new[:-5])
    assert page.count('"id":"r') == N - 5
    other = msgspec.structs.replace(new[0], reference="Something else.")
    with pytest.raises(ScoringError, match="reference differs"):
        comparison_html(found, None, old, [other, *new[1:]])


def test_general_speech_without_terms_or_noise_makes_a_page() -> None:
    rows = [Hypothesis(id=f"g{i}", audio_filepath="", text="good morning", pred_text="", duration=1.0, noise_level="")
            for i in range(3)]  # fmt: skip
    board, scores = board_of(rows)
    page = leaderboard_html(board, scores)
    assert "No row says." in page and "No row has a term." in page


def test_two_thousand_rows_render_fast() -> None:
    rows = cycle(3, n=2000)
    board, scores = board_of(rows)
    start = time.perf_counter()
    page = leaderboard_html(board, scores)
    assert time.perf_counter() - start < 5
    assert len(page) < 3_000_000
    assert len(row_records([scores], "clinical-v1")) == 2000


# --- in Chromium ------------------------------------------------------------------------------------------------------

pytestmark: list[Any] = []
browser_only = pytest.mark.browser


def beep(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = [int(6000 * math.sin(2 * math.pi * 440 * i / 16000)) for i in range(16000)]
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pages of both kinds and one recording (of row 0)."""
    folder = tmp_path_factory.mktemp("pages")
    beep(folder / "audio" / "r00000.wav")
    board, scores = board_of(cycle(3))
    write_leaderboard_html(folder / "board.html", board, scores, gate(board), audio_root=folder)
    found, old, new = compared()
    write_comparison_html(folder / "comparison.html", found, decide(found), old, new, audio_root=folder)
    many, scores = board_of(cycle(3, n=2000))
    write_leaderboard_html(folder / "many.html", many, scores, triage(many, 1), audio_root=folder)
    return folder


def until(page: Any, condition: str, seconds: float = 5.0) -> None:
    """Ask again until it is so. (The page's policy forbids the eval that Playwright's own waiting needs.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


class Opened:
    """A page that was opened from disk, and what went wrong or was asked for meanwhile."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("a dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def shown(self) -> int:
        return int(self.page.inner_text("#status").split(" of ")[0])

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.dataset.id || document.activeElement.id"))


@pytest.fixture
def opened(chromium: Any, pages: Path) -> Iterator[Any]:
    held: list[Opened] = []

    def open_(name: str, **context: Any) -> Opened:
        held.append(Opened(chromium, pages / f"{name}.html", **context))
        return held[-1]

    yield open_
    for one in held:
        one.context.close()


@browser_only
@pytest.mark.parametrize("name", ["board", "comparison"])
@pytest.mark.parametrize("width", [1200, 360])
def test_it_renders_without_a_complaint_and_asks_for_nothing(opened: Any, name: str, width: int) -> None:
    one = opened(name, viewport={"width": width, "height": 800})
    one.page.wait_for_selector(".row")
    assert one.complaints == []
    assert [url for url in one.asked if not url.startswith("file:")] == []
    assert len(one.asked) == 1, "one file, and no recording before somebody plays it"
    assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    plots, told = one.page.locator("svg.plot"), one.page.locator("svg.plot:has(> title):has(> desc)")
    assert plots.count() == told.count() >= 3


@browser_only
def test_a_comparison_begins_with_its_verdict(opened: Any) -> None:
    page = opened("comparison", viewport={"width": 1200, "height": 800}).page
    found, _, _ = compared()
    assert page.inner_text("main h2 >> nth=0").lower() == found.verdict == "promote"
    box = page.locator(".verdict").bounding_box()
    assert box["y"] + box["height"] < 800, "the decision is read without scrolling"
    text = page.inner_text(".verdict")
    assert found.reason in text and "deploy" in text and "Exit code" in text
    assert page.locator(".grounds .met.yes").count() == 3


@browser_only
def test_filters_show_the_rows_they_count(opened: Any) -> None:
    one = opened("board")
    page, (board, scores) = one.page, board_of(cycle(3))
    assert one.shown() == N
    for kind, expected in (
        ("missed", sum(row.tally.keywords.misses > 0 for row in scores)),
        ("any", sum(row.tally.words.errors > 0 for row in scores)),
        ("unsaid", 1),
    ):
        page.check(f"input[value={kind}]")
        assert one.shown() == expected == int(page.inner_text(f"label:has(input[value={kind}]) .count"))
    page.check("input[value=missed]")
    page.select_option("#facet-noise", "clean")
    clean = next(line for line in board.by_noise_level if line.key == "clean")
    assert one.shown() == clean.misses
    assert f"clean ({clean.misses})" in page.inner_text("#facet-noise")
    page.select_option("#facet-category", "condition")
    wanted = [r for r in scores if r.tally.keywords.misses and r.noise_level == "clean" and r.term == "sepsis"]
    assert one.shown() == len(wanted) > 0
    page.click("#reset")
    assert one.shown() == N
    page.fill("#search", "R00017")
    until(page, "document.getElementById('status').textContent.startsWith('1 of')")
    assert page.locator(".row").get_attribute("data-id") == "r00017"
    page.fill("#search", "nothing says this")
    until(page, "document.getElementById('status').textContent.startsWith('0 of')")
    assert one.complaints == []


@browser_only
def test_a_name_in_a_table_and_a_cell_of_the_heat_map_lead_to_their_rows(opened: Any) -> None:
    one = opened("board")
    one.page.click("#term ~ .scroll a >> text=sepsis")
    assert one.shown() == sum(row.term == "sepsis" for row in cycle(3))
    assert one.focused() == "rows"
    one.page.locator(".cell[data-term=heparin][data-value=snr_5db]").click()
    assert one.shown() == sum(row.term == "heparin" and row.noise_level == "snr_5db" for row in cycle(3)) > 0


@browser_only
def test_a_term_in_several_spellings_is_one_in_the_heat_map_the_filter_and_the_links(
    chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four rows of a drug, three of the same word as a laboratory value: that table has its own name for it.

    The page carries the worst rows alone, and the one that names the term is not among them.
    """
    monkeypatch.setattr("clinical_asr.html_report.ROWS_IN_PAGE", 6)
    spelled = ("INSULIN", "insulin", "Insulin", "insulin")
    insulins = [hypothesis(f"a{n}", heard=n < 2, term=term) for n, term in enumerate(spelled)]
    values = [hypothesis(f"b{n}", heard=False, term="insulin", category=EntityCategory.LAB) for n in range(3)]
    rows = [*insulins, *values, *(hypothesis(f"c{n}", heard=n > 0, term="heparin") for n in range(5))]
    write_leaderboard_html(tmp_path / "board.html", *board_of(rows))
    one = Opened(chromium, tmp_path / "board.html")
    assert one.page.locator(".cell[data-term=insulin], .cell[data-term=Insulin]").count() == 0
    one.page.locator(".cell[data-term=INSULIN]").click()
    assert one.shown() == 5
    one.page.click("#reset")
    one.page.click("#term ~ .scroll a >> text=/^insulin$/")
    assert one.shown() == 5 and one.page.input_value("#facet-term") == "INSULIN"
    assert sorted(set(one.page.locator(".row-term").all_inner_texts())) == ["Insulin", "insulin"], "as each is written"
    assert one.complaints == []
    one.context.close()


@browser_only
def test_rows_are_sorted_as_asked(opened: Any) -> None:
    page = opened("comparison").page
    ids = "[...document.querySelectorAll('.row')].map(row => row.dataset.id)"
    page.select_option("#sort", "id")
    assert page.evaluate(ids)[:3] == ["r00000", "r00001", "r00002"]
    page.select_option("#sort", "worst")
    assert page.evaluate("document.querySelector('.row .outcome').textContent").startswith("✕")
    page.select_option("#sort", "noise")
    assert "snr_5db" in page.inner_text(".row >> nth=0")


@browser_only
def test_the_keyboard_is_enough(opened: Any) -> None:
    one = opened("board")
    page = one.page
    page.select_option("#sort", "id")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert one.focused() == "search"
    page.keyboard.type("jk")
    assert page.input_value("#search") == "jk", "letters are letters while one types"
    page.keyboard.press("Escape")
    assert page.input_value("#search") == "" and one.shown() == N
    page.select_option("#sort", "id")
    page.evaluate("document.activeElement.blur()")
    for key, expected in (("j", 0), ("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0), ("End", N - 1), ("Home", 0)):
        page.keyboard.press(key)
        assert one.focused() == f"r{expected:05d}", key
    width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(width.removesuffix("px")) >= 2, "the focus is seen"
    page.keyboard.press(" ")
    until(page, "!document.activeElement.querySelector('audio').paused")
    until(page, "document.activeElement.querySelector('audio').duration > 0.9")
    assert [url for url in one.asked if not url.startswith("file:")] == []
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.querySelector('details').open")


@browser_only
def test_a_missing_recording_says_so_and_breaks_nothing(opened: Any) -> None:
    one = opened("board")
    one.page.select_option("#sort", "id")
    one.page.locator(".row[data-id=r00004]").focus()
    one.page.keyboard.press(" ")
    one.page.wait_for_selector(".row[data-id=r00004] .player:has-text('recording not found')")
    assert "no recording" in one.page.inner_text(".row[data-id=r00003] .player")
    assert all("ERR_FILE_NOT_FOUND" in text for text in one.complaints), one.complaints
    assert one.shown() == N


@browser_only
def test_markup_in_the_data_is_text(opened: Any) -> None:
    one = opened("board")
    one.page.fill("#search", "alert(1)")
    until(one.page, "document.getElementById('status').textContent.startsWith('1 of')")
    one.page.click(".written summary")
    assert EVIL in one.page.inner_text(".written")
    assert one.page.locator(".row script").count() == 0
    assert one.complaints == []


def test_markup_in_every_field_is_escaped() -> None:
    rows = [
        msgspec.structs.replace(
            row, term=EVIL, text=f"give {EVIL}", noise_level=EVIL, voice_id=EVIL, context_type=EVIL,
            model=EVIL, model_digest=EVIL, audio_filepath=f"{EVIL}.wav",
        )
        for row in cycle(3, n=10)
    ]  # fmt: skip
    board, scores = board_of(rows)
    page = leaderboard_html(board, scores, triage(board, 1))
    assert page.lower().count("<script") == page.lower().count("</script") == 2, "the data and the script of the page"
    assert EVIL not in page and "&lt;script&gt;alert(1)" in page


@browser_only
def test_dark_mode_is_dark_and_both_are_readable(opened: Any) -> None:
    luminances = {}
    for scheme in ("light", "dark"):
        page = opened("comparison", color_scheme=scheme).page
        pairs = page.evaluate(CONTRASTS)
        assert min(pairs.values()) >= 4.5, {name: ratio for name, ratio in pairs.items() if ratio < 4.5}
        luminances[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert luminances["light"] != luminances["dark"]
    assert sum(map(int, re.findall(r"\d+", luminances["dark"]))) < 150


CONTRASTS = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    const colour = parse(getComputedStyle(element).backgroundColor);
    return colour.length < 4 || colour[3] > 0.99 ? colour : behind(element.parentElement);
  };
  const found = {};
  for (const selector of ["body", ".lead", ".reason", ".verdict h2", ".tile-n", ".tile-name", "td", "th",
      "a[data-facet]", ".met.yes", "del", "ins", ".term.hit", ".term.miss del", ".term.miss ins", ".sample .unsaid",
      ".row-head", ".outcome", "figcaption", ".key.heat-0", ".key.heat-3", ".key.heat-4",
      ".key.heat-5", "#kinds label", "code", ".was"]) {
    const element = document.querySelector(selector);
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    found[selector] = (a + 0.05) / (b + 0.05);
  }
  return found;
}"""


@browser_only
def test_print_hides_the_filters_and_shows_every_row(opened: Any) -> None:
    page = opened("board").page
    assert page.is_visible(".filters") and page.locator(".row").count() < N
    page.emulate_media(media="print")
    until(page, f"document.querySelectorAll('.row').length === {N}")
    assert not page.is_visible(".filters") and not page.is_visible(".contents")
    assert page.is_visible(".verdict") and page.is_visible(".evidence .groups"), "what was folded is unfolded"
    page.set_viewport_size({"width": 700, "height": 990})  # about A4 within its margins
    rights = page.evaluate("[...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right)")
    assert max(rights) <= 701, "no table is cut"


@browser_only
def test_two_thousand_rows_stay_quick(opened: Any) -> None:
    one = opened("many")
    page = one.page
    assert one.shown() == 2000 and page.locator(".row").count() <= 120, "rows are drawn as they are needed"
    spent = page.evaluate(
        "() => { const start = performance.now();"
        " document.querySelector('input[value=missed]').click(); return performance.now() - start; }"
    )
    assert spent < 500, f"{spent:.0f} ms for one filter"
    page.evaluate("document.activeElement.blur()")
    for _ in range(150):
        page.keyboard.press("j")
    assert page.evaluate("document.activeElement.getAttribute('aria-posinset')") == "150"
