"""What a comparison found, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from clinical_asr.cli.console import table, tell

if TYPE_CHECKING:
    from clinical_asr.changes import Change
    from clinical_asr.compared import Comparison
    from clinical_asr.ladder import Ladder
    from clinical_asr.training import Candidate, Selection


def show_comparison(found: Comparison) -> None:
    """Held-out rows, which decide, and what training has seen of them; the others apart; general speech; the choice."""
    from clinical_asr.records import Stratum

    labels = {line.key: Stratum(line.key) for line in found.by_stratum}
    strata = [line for line in found.by_stratum if labels[line.key].held_out and line.key != Stratum.NEW_TERM]
    lines = [("held out (decides)", found.held_out), *((f"  {line.key}", line) for line in strata),
             ("terms never taught", found.new_terms), ("trained on", found.trained_on)]  # fmt: skip
    header = ("rows", "n", "terms", "KER before", "after", "change %")
    told = [(name, *_changed(line)) for name, line in lines if line.rows]
    table(f"\nKER of {', '.join(found.priority_categories)}", header, told)
    guard = found.guard
    if guard.rows:
        rates = f"{_rate(guard.wer_before)} -> {_rate(guard.wer_after)}"
        typer.echo(f"general English WER {rates} on {guard.rows} guard rows")
    if alone := str(found.missing):
        tell(f"rows of one side alone, left out: {alone}")
    if found.selection is not None and len(found.selection.candidates) > 1:
        _show_choice(found.selection)


def show_ladder(found: Ladder) -> None:
    """Boosting and fine-tuning side by side, the cheapest rung that will do, and what must be known of it."""
    from clinical_asr.ladder_report import HEADER, cells, notes, standing

    names, *columns = zip(HEADER, *cells(found), strict=True)  # a line a number: four rungs fit where eleven do not
    table(f"\nLadder: {found.reason}", names, columns)
    typer.echo("false insertions: in held-out rows + in general speech")
    for line in (*standing(found), *notes(found)):
        tell(f"- {line}")


def _changed(line: Change) -> tuple[object, ...]:
    from clinical_asr.markdown import percent, signed

    rates = percent(line.ker_before), percent(line.ker_after), signed(line.ker_relative_change)
    return line.rows, line.terms, *rates


def _show_choice(selection: Selection) -> None:
    rows = [(f"{c.factor:g}", *_weighed(c), "yes" if c.inside(selection.margins) else "no",
             "chosen" if c == selection.chosen else "") for c in selection.candidates]  # fmt: skip
    where = f"{len(selection.rows)} selection rows and {selection.general_rows} of general speech, which do not decide"
    table(f"\nCandidates on {where}", ("factor", "KER", "general WER", "rise", "inside", ""), rows)


def _weighed(candidate: Candidate) -> tuple[str, ...]:
    """KER, general WER, its rise in points."""
    ker, wer, rise = (candidate.metrics.get(name) for name in ("ker", "guard_wer", "guard_rise"))
    return _rate(ker), _rate(wer), "-" if rise is None else f"{100 * rise:+.2f}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
