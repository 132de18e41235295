"""Takes the pictures of the pages: a leaderboard, a comparison, the audition, into docs/images.

``python docs/screenshots.py`` turns a whole wheel with the tests' fakes (no speech engine, no model), opens what it
wrote in Chromium and takes one picture of each page. Needs Playwright and a Chromium (``--chromium PATH``).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1100, 820
LARGEST = 200_000
"""Bytes; a page of documentation should stay light."""
sys.path.insert(0, str(ROOT / "tests"))


def turned_wheel(folder: Path) -> tuple[Path, Path]:
    """Leaderboard and comparison of a turn with fakes: a model that learns most of its terms and keeps its language."""
    from clinical_asr.cycle import Cycle
    from clinical_asr.flywheel import turn
    from wheel import Works, engines, request

    cycle = Cycle(folder / "cycles")
    turn(cycle, request(folder, base_name="made-up"), engines(Works(knows=0.85), cycle, []))
    return cycle.leaderboard("after", "html"), cycle.comparison("html")


@contextmanager
def audition_page(folder: Path) -> Iterator[str]:
    """Address of an audition of three terms, spoken in tones, as long as the block runs."""
    from booth import booth
    from clinical_asr.audition_desk import Desk
    from clinical_asr.audition_server import AuditionServer

    folder.mkdir()
    with AuditionServer(Desk(folder, booth(folder)), by="A. Nurse", then="clinical-asr cycle ...") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.ticket_url
        server.shutdown()


def take(page: Any, address: str, name: str, height: int = HEIGHT) -> Path:
    """A picture of the page's upper ``height`` pixels. Raises ValueError if it is larger than ``LARGEST``."""
    path = IMAGES / f"{name}.png"
    page.goto(address)
    page.wait_for_timeout(400)
    page.screenshot(path=str(path), clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.name}: {path.stat().st_size} bytes, at most {LARGEST}")
    return path


def main() -> None:
    """All pictures, the browser closed in any case."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser to use")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        board, comparison = turned_wheel(folder)
        browser = playwright.chromium.launch(executable_path=wanted.chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        with audition_page(folder / "audition") as address:
            for path in (take(page, board.as_uri(), "leaderboard"), take(page, comparison.as_uri(), "comparison"),
                         take(page, address, "audition", 610)):  # fmt: skip
                print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
        browser.close()


if __name__ == "__main__":
    main()
