"""The page that all HTML reports are: templates, inlined style and script, and the policy that lets nothing else run.

Style and script are named by their hashes in the page's content security policy, so that nothing that came with the
data can run or load anything.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import jinja2
from markupsafe import Markup

from clinical_asr import evidence
from clinical_asr.html_rows import embedded_json, row_records, worst_rows
from clinical_asr.markdown import detectable
from clinical_asr.mishearings import ListedTerms
from clinical_asr.records import Decision
from clinical_asr.svg import interval, percent
from clinical_asr.tally import Score

TONES = {0: "good", 3: "back", 4: "unsure", 5: "stop"}
"""Exit code of a decision -> how the page shows it: go on, go back, nobody can tell, do not."""
SYMBOLS = {"good": "✓", "back": "↩", "unsure": "?", "stop": "✕", "": "i"}
PLAIN = {
    "pass": "Fine-tuning may start.",
    "go back": "Not yet: something earlier has to be mended first.",
    "fix pronunciations": "The recordings are wrong, not the model: correct the pronunciations first.",
    "add noise diversity": "Quiet speech is heard, noisy speech is not: add noise.",
    "fine-tune": "The model misses enough terms to be worth training.",
    "expand terms": "Test more terms before training.",
    "harden benchmark": "The model hears nearly everything: make the test harder.",
    "promote": "Keep the tuned model: it hears more terms, and everyday English stays within its margin.",
    "inconclusive": "The evidence cannot tell yet. Do not replace the model.",
    "grow": "Not enough data to train on or to decide by: grow the manifest.",
    "overfit": "Worse on what it has not heard: do not replace the model.",
    "no change": "No measurable change. Keep the present model.",
    "stop": "Tuning no longer helps. Keep the present model.",
    "not promoted": "Do not replace the model.",
}
"""What a verdict means to somebody who reads nothing else."""
FACETS = {
    "term": "Term", "category": "Category", "stratum": "Seen in training", "noise": "Noise",
    "source": "Pronunciation", "voice": "Voice", "context": "Context",
}  # fmt: skip
ROWS_IN_PAGE = 5000
"""Rows that a page carries at most, the worst ones: beyond that a browser grows slow and the file huge."""

Placed = Callable[[str], str]
"""An audio path as the rows have it -> as the page needs it."""


def from_page(path: Path, root: Path | None) -> Placed:
    """How paths that start at ``root`` (the page's own folder if ``None``) are written in the page at ``path``."""
    folder = path.resolve().parent
    start = root.resolve() if root is not None else folder
    return lambda audio: _relative(audio, start, folder)


def _relative(audio: str, start: Path, folder: Path) -> str:
    """The audio's path as seen from the page's folder; as it is where there is no way from one to the other."""
    if not audio:
        return ""
    try:
        return Path(os.path.relpath(start / audio, folder)).as_posix()
    except ValueError:  # another drive
        return audio


def page_data(
    kind: Literal["board", "comparison", "ranking"],
    names: Sequence[str],
    sides: Sequence[Sequence[Score]],
    normaliser: str,
    placed: Placed,
) -> dict[str, Any]:
    """What the script draws the rows from, and how many rows of how many it has."""
    listed = ListedTerms(sides[0], normaliser)
    return data_of(kind, names, worst_rows(sides, ROWS_IN_PAGE), len(sides[0]), listed, normaliser, placed)


def data_of(
    kind: Literal["board", "comparison", "ranking"],
    names: Sequence[str],
    sides: Sequence[Sequence[Score]],
    total: int,
    listed: ListedTerms,
    normaliser: str,
    placed: Placed,
) -> dict[str, Any]:
    """The same of ``sides`` that are chosen already, out of ``total`` rows, with the terms of all of them."""
    records = row_records(sides, normaliser, placed, listed)
    data = {"kind": kind, "names": list(names), "facets": FACETS, "rows": records, "total": total}
    data["spellings"] = {spelling: name for spelling, name in sorted(listed.names.items()) if spelling != name}
    return {"data": embedded_json(data), "carried": len(records), "total": total}


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clinical_asr"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        percent=percent,
        points=evidence.points,
        relative=evidence.relative,
        p_value=evidence.p_value,
        detectable=detectable,
    )
    environment.globals.update(interval=interval, span=evidence.span, evidence_groups=evidence.groups)
    return environment


@lru_cache(maxsize=2)
def _asset(name: str) -> tuple[Markup, str]:
    """A file of ours that is inlined as it stands, and its source expression for the content security policy."""
    text = (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
    return Markup(text), f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _policy() -> str:
    allowed = {"style-src": _asset("report.css")[1], "script-src": _asset("report.js")[1], "media-src": "file: 'self'"}
    rest = "base-uri 'none'; form-action 'none'"
    return "; ".join(["default-src 'none'", *(f"{name} {value}" for name, value in allowed.items()), rest])


def render(template: str, **values: Any) -> str:
    """The page of a template; ``decision`` must be among the values."""
    decision: Decision | None = values["decision"]
    tone = TONES.get(decision.exit_code, "") if decision else ""
    page = _environment().get_template(template)
    return page.render(
        **values, policy=_policy(), style=_asset("report.css")[0], script=_asset("report.js")[0], tone=tone,
        symbol=SYMBOLS[tone], plain=PLAIN.get(decision.verdict, "") if decision else "",
    )  # fmt: skip
