"""One self-contained HTML file for a leaderboard or a comparison: opens from disk, asks no network, works by keyboard.

The decision and the headline come first, then the sections, then the rows with their word diffs and recordings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from markupsafe import Markup

from clinical_asr import evidence, jsonl, plot_values, plots, snr_plot, tradeoff
from clinical_asr.changes import paired_rows
from clinical_asr.compared import Comparison
from clinical_asr.html_page import ROWS_IN_PAGE, Placed, data_of, from_page, page_data, render
from clinical_asr.html_rows import WorstRows
from clinical_asr.mishearings import ListedTerms
from clinical_asr.records import Decision, Stratum
from clinical_asr.svg import interval
from clinical_asr.tally import Leaderboard, Line, Score


class PageRows:
    """What a leaderboard's page shows of its rows, kept while they pass once: the worst of them, and counts by term."""

    def __init__(self) -> None:
        self.worst = WorstRows(ROWS_IN_PAGE)
        self.heat = plot_values.Heat(lambda row: row.noise_level)

    def watch(self, rows: Iterable[Score]) -> Iterator[Score]:
        """The same rows."""
        return self.heat.watch(self.worst.watch(rows))


def leaderboard_html(
    board: Leaderboard,
    scores: Sequence[Score],
    decision: Decision | None = None,
    strata: Mapping[str, Stratum] | None = None,
    placed: Placed = str,
) -> str:
    """The page of a leaderboard. ``scores`` are its rows; their audio paths are relative to the page once ``placed``.

    ``strata`` (row id -> stratum) overrides what the rows carry, as it does for the board.
    """
    passed = PageRows()
    deque(passed.watch(_restratified(scores, strata)), maxlen=0)
    return page_of(board, passed, ListedTerms(scores, board.signature.normaliser), decision, placed)


def page_of(
    board: Leaderboard, passed: PageRows, listed: ListedTerms, decision: Decision | None = None, placed: Placed = str
) -> str:
    """The page of a leaderboard whose rows have passed and are not in memory."""
    noise = plot_values.with_snr(plot_values.points(board.by_noise_level))
    return render(
        "leaderboard.html.j2",
        title=f"Leaderboard: {board.signature.model or 'unnamed model'}",
        board=board,
        headline=_rates(board.headline),
        decision=decision,
        grounds=evidence.board_grounds(decision),
        categories=plots.dot_and_whisker("KER by entity category", plot_values.points(board.by_entity_category)),
        noise=snr_plot.snr_curve("KER against SNR", [("KER", noise)]) if noise else "",
        heat=_heat(passed.heat.map([line.key for line in board.by_noise_level]), "noise"),
        signatures=[board.signature],
        **data_of("board", [""], [passed.worst.rows()], passed.worst.total, listed, board.signature.normaliser, placed),
    )


def comparison_html(
    comparison: Comparison,
    decision: Decision | None,
    before_scores: Sequence[Score],
    after_scores: Sequence[Score],
    strata: Mapping[str, Stratum] | None = None,
    placed: Placed = str,
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
    noises = sorted({row.noise_level for row in after})
    slopes = plot_values.slopes(comparison.by_category)
    return render(
        "comparison.html.j2",
        title=f"Before and after: {comparison.signatures[-1].model or 'unnamed model'}",
        comparison=comparison,
        decision=decision or _own_decision(comparison),
        grounds=evidence.comparison_grounds(comparison),
        tradeoff=tradeoff.curve(comparison.selection),
        slopes=plots.slope_chart("KER by category before and after, held-out rows", slopes) if slopes else "",
        noise=snr_plot.snr_curve("KER against SNR before and after, held-out rows", noise) if noise[1][1] else "",
        heat=_heat(plot_values.heat_of(after, columns, lambda row: row.stratum or ""), "stratum")
        or _heat(plot_values.heat_of(after, noises, lambda row: row.noise_level), "noise"),
        signatures=comparison.signatures,
        **page_data("comparison", ["before", "after"], [before, after], comparison.signatures[-1].normaliser, placed),
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
    jsonl.write_text(path, leaderboard_html(board, scores, decision, strata, from_page(path, audio_root)))


def write_page(
    path: Path,
    board: Leaderboard,
    passed: PageRows,
    listed: ListedTerms,
    decision: Decision | None = None,
    *,
    audio_root: Path | None = None,
) -> None:
    """:func:`write_leaderboard_html` of rows that have passed (:func:`page_of`)."""
    jsonl.write_text(path, page_of(board, passed, listed, decision, from_page(path, audio_root)))


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
    placed = from_page(path, audio_root)
    jsonl.write_text(path, comparison_html(comparison, decision, before_scores, after_scores, strata, placed))


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


def _heat(found: plot_values.HeatMap, facet: str) -> Markup | str:
    columns, lines = found
    return plots.heat_map(f"Missed terms by {facet}", facet, columns, lines) if columns and lines else ""
