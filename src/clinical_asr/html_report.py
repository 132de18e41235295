"""One self-contained HTML file for a leaderboard or a comparison: opens from disk, asks no network, works by keyboard.

The decision and the headline come first, then the sections, then every row with its word diff and its recording.
Values are rendered as they stand; style and script are inlined and named by their hashes in the page's content
security policy, so that nothing that came with the data can run or load anything.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from clinical_asr import evidence, jsonl, plot_values, plots, snr_plot
from clinical_asr.changes import paired_rows
from clinical_asr.comparison import Comparison
from clinical_asr.html_rows import embedded_json, row_records
from clinical_asr.records import Decision, Stratum
from clinical_asr.svg import interval, percent
from clinical_asr.tally import Leaderboard, Line, Score, Signature

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
    "promote": "Keep the tuned model: it hears more terms and everyday English is no worse.",
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


def leaderboard_html(
    board: Leaderboard,
    scores: Sequence[Score],
    decision: Decision | None = None,
    strata: Mapping[str, Stratum] | None = None,
) -> str:
    """The page of a leaderboard. ``scores`` are its rows; their audio paths are taken as relative to the page.

    ``strata`` (row id -> stratum) overrides what the rows carry, as it does for the board.
    """
    rows = _restratified(scores, strata)
    noise = plot_values.with_snr(plot_values.points(board.by_noise_level))
    return _render(
        "leaderboard.html.j2",
        title=f"Leaderboard: {board.signature.model or 'unnamed model'}",
        board=board,
        headline=_rates(board.headline),
        decision=decision,
        grounds=evidence.board_grounds(decision),
        categories=plots.dot_and_whisker("KER by entity category", plot_values.points(board.by_entity_category)),
        noise=snr_plot.snr_curve("KER against SNR", [("KER", noise)]) if noise else "",
        heat=_heat(rows, [line.key for line in board.by_noise_level], "noise"),
        signatures=[board.signature],
        data=_data([rows], board.signature),
    )


def comparison_html(
    comparison: Comparison,
    decision: Decision | None,
    before_scores: Sequence[Score],
    after_scores: Sequence[Score],
    strata: Mapping[str, Stratum] | None = None,
) -> str:
    """The page of a comparison; shows the rows that both sides hold. Without a decision the comparison's own stands.

    Hand in ``strata`` unless the rows carry them: KER against SNR is shown for held-out rows only, or not at all.
    Raises ScoringError if the two sides are not of the same rows.
    """
    pairs = paired_rows(_restratified(before_scores, strata), _restratified(after_scores, strata))
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    held = [[row for row in side if row.stratum is not None and row.stratum.held_out] for side in (before, after)]
    known = {row.stratum for row in after}
    columns = [stratum.value for stratum in Stratum if stratum in known]
    noise = [(name, plot_values.noise_points(side)) for name, side in zip(("before", "after"), held, strict=True)]
    slopes = plot_values.slopes(comparison.by_category)
    return _render(
        "comparison.html.j2",
        title=f"Before and after: {comparison.signatures[-1].model or 'unnamed model'}",
        comparison=comparison,
        decision=decision or _own_decision(comparison),
        grounds=evidence.comparison_grounds(comparison),
        slopes=plots.slope_chart("KER by category before and after, held-out rows", slopes) if slopes else "",
        noise=snr_plot.snr_curve("KER against SNR before and after, held-out rows", noise) if noise[1][1] else "",
        heat=_heat(after, columns, "stratum") or _heat(after, sorted({row.noise_level for row in after}), "noise"),
        signatures=comparison.signatures,
        data=_data([before, after], comparison.signatures[-1]),
    )


def write_leaderboard_html(
    path: Path,
    board: Leaderboard,
    scores: Sequence[Score],
    decision: Decision | None = None,
    *,
    strata: Mapping[str, Stratum] | None = None,
    audio_root: Path | None = None,
) -> None:
    """Write the page, atomically. ``audio_root`` is where relative audio paths start (the manifest's folder; the
    page's own if ``None``); in the page they start at the page's folder, so that the players work from disk."""
    jsonl.write_text(path, leaderboard_html(board, _from_page(path, scores, audio_root), decision, strata))


def write_comparison_html(
    path: Path,
    comparison: Comparison,
    decision: Decision | None,
    before_scores: Sequence[Score],
    after_scores: Sequence[Score],
    *,
    strata: Mapping[str, Stratum] | None = None,
    audio_root: Path | None = None,
) -> None:
    """Write the page, atomically; ``audio_root`` as in ``write_leaderboard_html``."""
    before, after = (_from_page(path, side, audio_root) for side in (before_scores, after_scores))
    jsonl.write_text(path, comparison_html(comparison, decision, before, after, strata))


def _from_page(path: Path, scores: Sequence[Score], root: Path | None) -> list[Score]:
    folder = path.resolve().parent
    start = root.resolve() if root is not None else folder
    return [msgspec.structs.replace(row, audio_filepath=_relative(row.audio_filepath, start, folder)) for row in scores]


def _relative(audio: str, start: Path, folder: Path) -> str:
    """The audio's path as seen from the page's folder; as it is where there is no way from one to the other."""
    if not audio:
        return ""
    try:
        return Path(os.path.relpath(start / audio, folder)).as_posix()
    except ValueError:  # another drive
        return audio


def _restratified(scores: Sequence[Score], strata: Mapping[str, Stratum] | None) -> list[Score]:
    if strata is None:
        return list(scores)
    return [msgspec.structs.replace(row, stratum=strata.get(row.id) or row.stratum) for row in scores]


def _own_decision(comparison: Comparison) -> Decision:
    return Decision(
        verdict=comparison.verdict, reason=comparison.reason, evidence={}, next_stage=comparison.next_stage,
        exit_code=comparison.exit_code,
    )  # fmt: skip


def _rates(line: Line) -> list[tuple[str, str, float | None, str, str]]:
    """Name, meaning, rate, interval and n of the headline's rates, the one that matters first."""
    named = (
        ("KER", "clinical terms missed", line.ker, line.ker_low, line.ker_high,
         f"{line.misses} of {line.occurrences}, {line.terms} terms"),
        ("WER", "words wrong", line.wer, line.wer_low, line.wer_high, f"n {line.words} words"),
        ("CER", "characters wrong", line.cer, line.cer_low, line.cer_high, f"n {line.characters} characters"),
        ("SER", "sentences with any error", line.ser, line.ser_low, line.ser_high, f"n {line.rows} rows"),
    )  # fmt: skip
    return [(name, means, rate, interval(low, high), n) for name, means, rate, low, high, n in named]


def _heat(rows: Sequence[Score], columns: Sequence[str], facet: str) -> Markup | str:
    columns, lines = plot_values.heat_of(rows, columns, lambda row: str(getattr(row, _FIELDS[facet]) or ""))
    return plots.heat_map(f"Missed terms by {facet}", facet, columns, lines) if columns and lines else ""


_FIELDS = {"noise": "noise_level", "stratum": "stratum"}


def _data(sides: Sequence[Sequence[Score]], signature: Signature) -> Markup:
    """What the script draws the rows from."""
    names = ["before", "after"] if len(sides) == 2 else [""]
    return embedded_json({"names": names, "facets": FACETS, "rows": row_records(sides, signature.normaliser)})


# --- the page ---------------------------------------------------------------------------------------------------------


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


def _render(template: str, **values: Any) -> str:
    decision: Decision | None = values["decision"]
    tone = TONES.get(decision.exit_code, "") if decision else ""
    page = _environment().get_template(template)
    return page.render(
        **values, policy=_policy(), style=_asset("report.css")[0], script=_asset("report.js")[0], tone=tone,
        symbol=SYMBOLS[tone], plain=PLAIN.get(decision.verdict, "") if decision else "",
    )  # fmt: skip
