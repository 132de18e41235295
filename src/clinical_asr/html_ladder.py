"""The HTML page of the ladder: its board, what each rung costs in general speech, every held-out row side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from markupsafe import Markup

from clinical_asr import jsonl, tradeoff
from clinical_asr.html_page import Placed, from_page, page_data, render
from clinical_asr.ladder import Climbed, Ladder
from clinical_asr.ladder_report import HEADER, about_the_choice, cells, notes, standing
from clinical_asr.ranking import System, rank
from clinical_asr.records import Stratum
from clinical_asr.tally import Score


def ladder_html(
    ladder: Ladder, climbed: Sequence[Climbed], placed: Placed = str, strata: Mapping[str, Stratum] | None = None
) -> str:
    """The page; two rungs or more. ``climbed`` are those it was made of."""
    systems: list[System] = [(one.name, _labelled(one.rows, strata or {}), one.signature) for one in climbed]
    ranking = rank(systems)
    rows_of = {name: rows for name, rows, _ in systems}
    names = [standing.name for standing in ranking.standings]
    return render(
        "ladder.html.j2",
        title="Ladder of boosting and fine-tuning",
        ladder=ladder,
        header=HEADER,
        lines=list(zip(ladder.rungs, cells(ladder), strict=True)),
        notes=[*(about_the_choice(name, choice) for name, choice in ladder.choices.items()), *notes(ladder)],
        standing=standing(ladder),
        plot=_plot(ladder),
        ranking=ranking,
        decision=None,
        kers="",
        signatures=[*ranking.signatures.values()],
        **page_data("ranking", names, [rows_of[name] for name in names], climbed[0].signature.normaliser, placed),
    )


def write_ladder_html(
    path: Path, ladder: Ladder, climbed: Sequence[Climbed], *, strata: Mapping[str, Stratum] | None = None
) -> None:
    """Write the page, atomically; a ladder of one rung has none, for there is nothing side by side."""
    if len(climbed) > 1:
        jsonl.write_text(path, ladder_html(ladder, climbed, from_page(path, None), strata))


def _labelled(rows: Sequence[Score], strata: Mapping[str, Stratum]) -> list[Score]:
    return [msgspec.structs.replace(row, stratum=strata.get(row.id, row.stratum)) for row in rows]


def _plot(ladder: Ladder) -> Markup:
    spots = [tradeoff.Spot(rung.name, rung.ker, rung.guard.difference, rung.name == ladder.cheapest)
             for rung in ladder.rungs
             if rung.ker is not None and rung.guard is not None and rung.guard.difference is not None]  # fmt: skip
    if len(spots) < 2:
        return Markup("")
    return tradeoff.plot("KER against the cost in general speech", spots, ladder.target.rise, ladder.reason)
