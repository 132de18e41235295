"""The site: every page has its place, the picture shows the imports, nothing is loaded from elsewhere."""

from __future__ import annotations

import doctest
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import test_house

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def tool(name: str) -> ModuleType:
    """A script of docs/, by its path: the folder is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


house, pages = tool("house"), tool("pages")


def settings() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    return found


def navigation(entries: list[Any]) -> list[str]:
    named = [entry if isinstance(entry, str) else navigation(next(iter(entry.values()))) for entry in entries]
    return [page for one in named for page in ([one] if isinstance(one, str) else one)]


def test_every_page_stands_once_in_the_navigation() -> None:
    listed = navigation(settings()["nav"])
    assert len(listed) == len(set(listed))
    assert {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} <= set(listed)


def test_the_site_asks_nobody_for_anything() -> None:
    found = settings()
    assert found["theme"]["font"] is False and found["extra"]["generator"] is False
    assert not {"extra_javascript", "extra_css", "google_analytics", "repo_url"} & set(found)
    assert "analytics" not in found["extra"]
    for page in DOCS.rglob("*.md"):
        assert not re.search(r"!\[[^\]]*\]\(https?:|<(script|iframe|img)\b[^>]*https?:", page.read_text("utf-8")), page


def test_pictures_are_there_and_light() -> None:
    for page in DOCS.rglob("*.md"):
        for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text("utf-8")):
            picture = page.parent / name
            assert 0 < picture.stat().st_size < 200_000, picture


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.rglob("*.md"):
        prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
        for target in re.findall(r"(?<!!)\[[^\]]+\]\((?!https?:|#)([^)#\s]+)", prose):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_includes_name_files_of_the_checkout() -> None:
    named = [found for page in DOCS.rglob("*.md") for found in pages.INCLUDE.findall(page.read_text("utf-8"))]
    assert len(named) >= 3 and all((ROOT / name).is_file() for name in named)
    assert doctest.testmod(pages).attempted and not doctest.testmod(pages).failed


def test_unwritten_pages_are_left_out_of_the_navigation(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    config = pages.on_config({"docs_dir": str(tmp_path), "nav": ["a.md", {"More": ["b.md", "a.md"]}]})
    assert config["nav"] == ["a.md", {"More": ["a.md"]}]


def test_python_examples_on_the_pages_are_true() -> None:
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False)
    for page in sorted(DOCS.rglob("*.md")):
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
            if ">>> " in block:
                runner.run(parser.get_doctest(block, {}, page.name, str(page), 0))
    assert runner.tries > 5 and not runner.failures


# --- the picture of the house -----------------------------------------------------------------------------------------


def test_the_picture_is_what_the_imports_say() -> None:
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture(), "run: make docs"


def test_the_corridor_has_the_doors_of_the_house() -> None:
    assert set(house.STAGES) == test_house.STAGES
    assert len(house.STAGES) == len(set(house.STAGES))


def test_every_module_is_in_one_place_of_the_picture() -> None:
    found = house.read_house()
    modules = {p.relative_to(house.PACKAGE).parts[0].removesuffix(".py") for p in house.PACKAGE.rglob("*.py")}
    modules = {name for name in modules if not name.startswith("__")}
    places = [*house.STAGES, *house.DRIVER, *house.WINGS, *found.owner, *found.shared, *found.aside]
    assert sorted(places) == sorted(modules)
    shown = "".join(ElementTree.fromstring(house.picture(found)).itertext())
    assert not [name for name in modules | set(house.engines()) if not re.search(rf"\b{name}\b", shown)]


def test_imports_run_one_way() -> None:
    edges = set(house.read_house().edges())
    above = ("driver", "cli", "engines", "agent", "aside")
    up = {(low, high) for low in ("shared", "stages", "side rooms") for high in above}
    assert not edges & up
    assert not edges & {("engines", "stages"), ("engines", "driver"), ("engines", "cli"), ("driver", "engines"),
                        ("driver", "cli"), ("aside", "cli"), ("aside", "driver")}  # fmt: skip
    assert edges >= {("cli", "engines"), ("driver", "stages"), ("stages", "shared"), ("cli", "driver")}


def test_a_stage_that_imports_another_shows_in_the_picture(tmp_path: Path) -> None:
    package = tmp_path / "clinical_asr"
    (package / "engines").mkdir(parents=True)
    for name in (*house.STAGES, *house.DRIVER, "cli", "agent", "records"):
        (package / f"{name}.py").write_text("from clinical_asr import records\n" if name in house.STAGES else "")
    (package / "engines" / "__init__.py").write_text("")
    assert house.read_house(package).between_stages() == []
    (package / "gate.py").write_text("def f():\n    from clinical_asr.split import divide\n")
    found = house.read_house(package)
    assert found.between_stages() == [("gate", "split")] and found.shared == ["records"]
    assert "gate → split" in house.picture(found)


# --- the whole site ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning."""
    pytest.importorskip("material", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_no_page_of_the_site_names_a_script_or_picture_elsewhere(site: Path) -> None:
    loads = re.compile(r"<(script|img|link|iframe)\b[^>]*(src|href)=[\"']?(https?:)?//")
    pages_found = list(site.rglob("*.html"))
    assert len(pages_found) > 30
    assert not [page for page in pages_found if loads.search(page.read_text("utf-8"))]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("name", ["index.html", "decisions/guard-set.html"])
def test_opened_from_disk_the_site_is_searched_and_asks_nobody(site: Path, name: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    if not shutil.which("chromium"):
        pytest.skip("needs a Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page, asked = browser.new_page(), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / name).as_uri())
        page.keyboard.press("/")
        page.keyboard.type("non-inferiority")
        page.wait_for_selector(".md-search-result__item a", timeout=30_000)
        found = page.locator(".md-search-result__list").inner_text()
        browser.close()
    assert "guard set" in found.lower()
    assert asked and not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
