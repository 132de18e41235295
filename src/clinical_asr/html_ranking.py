"""The HTML page of several systems on identical rows: ranking, forest plot, tables and every row side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from clinical_asr import jsonl
from clinical_asr.forest import Difference, forest_plot
from clinical_asr.html_page import Placed, from_page, page_data, render
from clinical_asr.plots import dot_and_whisker
from clinical_asr.ranking import Ranking, System
from clinical_asr.svg import Point, squeezed


def ranking_html(ranking: Ranking, systems: Sequence[System], placed: Placed = str) -> str:
    """The page of a ranking. ``systems`` are those it was made of, in any order; audio paths as on a leaderboard."""
    rows_of = {name: rows for name, rows, _ in systems}
    names = [standing.name for standing in ranking.standings]
    sides = [rows_of[name] for name in names]
    return render(
        "ranking.html.j2",
        title=f"Ranking of {len(names)} systems",
        ranking=ranking,
        best=ranking.standings[0],
        unit="terms" if ranking.standings[0].occurrences else "sentences",
        decision=None,
        grounds=[],
        kers=_kers(ranking),
        forest=_forest(ranking),
        signatures=[*ranking.signatures.values()],
        **page_data("ranking", names, sides, next(iter(ranking.signatures.values())).normaliser, placed),
    )


def write_ranking_html(
    path: Path, ranking: Ranking, systems: Sequence[System], *, audio_root: Path | None = None
) -> None:
    """Write the page, atomically; ``audio_root`` as in ``html_report.write_leaderboard_html``."""
    jsonl.write_text(path, ranking_html(ranking, systems, from_page(path, audio_root)))


def _kers(ranking: Ranking) -> Markup | str:
    told = [
        Point(squeezed(s.name, 24), s.ker, s.ker_low, s.ker_high, s.misses, s.occurrences) for s in ranking.standings
    ]
    return dot_and_whisker("KER of each system", told) if ranking.metric == "ker" else ""


def _forest(ranking: Ranking) -> Markup:
    best, *others = ranking.standings
    found = [Difference(s.name, s.difference, s.low, s.high) for s in others]
    return forest_plot(f"{ranking.metric.upper()} against the best system", best.name, found)
