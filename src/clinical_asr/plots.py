"""Plots of the HTML report: rates with intervals, before and after, terms against a facet. Pure.

Values come in, coordinates go out; nothing is measured here. Nothing is told apart by colour alone: shapes, dashes and
numbers say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clinical_asr.svg import WIDTH, Point, clipped, figure, in_words, interval, percent, spread, tag


@dataclass(frozen=True, slots=True)
class Slope:
    """A rate before and after."""

    label: str
    before: float
    after: float
    of: int


@dataclass(frozen=True, slots=True)
class Cell:
    """Misses of one term in one column; ``of`` is 0 where no row stands there."""

    misses: int
    of: int


# --- dot and whisker --------------------------------------------------------------------------------------------------

_LEFT, _RIGHT, _ROW = 8.0, 412.0, 46.0


def _x(rate: float) -> float:
    return _LEFT + min(max(rate, 0.0), 1.0) * (_RIGHT - _LEFT)


def dot_and_whisker(title: str, points: Sequence[Point]) -> Markup:
    """One line per point: name and number above, dot and 95 % whisker on a scale from 0 to 100 % below."""
    told = [point for point in points if point.rate is not None]
    bottom = _ROW * len(told) + 4
    body = [_grid_line(at / 4, bottom) for at in range(5)]
    for place, point in enumerate(told):
        body += _whisker(point, _ROW * place)
    description = "; ".join(in_words(point) for point in told)
    return figure(title, description, bottom + 20, body)


def _grid_line(rate: float, bottom: float) -> Markup:
    x = _x(rate)
    anchor = "start" if rate == 0 else "end" if rate == 1 else "middle"
    text = tag("text", f"{rate:.0%}", x=x, y=bottom + 15, text_anchor=anchor, class_="tick")
    return tag("line", x1=x, x2=x, y1=4, y2=bottom, class_="grid") + text


def _whisker(point: Point, top: float) -> list[Markup]:
    y = top + 33
    number = Markup("{} {}").format(
        tag("tspan", percent(point.rate), class_="strong"),
        tag("tspan", f" ({interval(point.low, point.high)})  {point.misses}/{point.of}", class_="soft"),
    )
    drawn = [
        tag("text", clipped(point.label, 24), x=_LEFT, y=top + 19, class_="label halo"),
        tag("text", number, x=_RIGHT, y=top + 19, text_anchor="end", class_="halo"),
    ]
    if point.low is not None and point.high is not None:
        ends = (_x(point.low), _x(point.high))
        drawn.append(tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_="whisker"))
        drawn += [tag("line", x1=x, x2=x, y1=y - 5, y2=y + 5, class_="whisker") for x in ends]
    return [*drawn, tag("circle", tag("title", in_words(point)), cx=_x(point.rate or 0.0), cy=y, r=5.5, class_="dot")]


# --- before and after -------------------------------------------------------------------------------------------------

_SLOPE_TOP, _SLOPE_BOTTOM, _SLOPE_LEFT, _SLOPE_RIGHT = 34.0, 304.0, 136.0, 244.0


def _slope_y(rate: float) -> float:
    return _SLOPE_BOTTOM - min(max(rate, 0.0), 1.0) * (_SLOPE_BOTTOM - _SLOPE_TOP)


def slope_chart(title: str, slopes: Sequence[Slope]) -> Markup:
    """One line per group from before to after: solid where it fell, dashed where it rose."""
    left = spread([_slope_y(slope.before) for slope in slopes], 17, _SLOPE_BOTTOM + 6)
    right = spread([_slope_y(slope.after) for slope in slopes], 17, _SLOPE_BOTTOM + 6)
    body = [
        *(tag("line", x1=x, x2=x, y1=_SLOPE_TOP, y2=_SLOPE_BOTTOM, class_="grid") for x in (_SLOPE_LEFT, _SLOPE_RIGHT)),
        tag("text", "before", x=_SLOPE_LEFT, y=18, text_anchor="end", class_="tick"),
        tag("text", "after", x=_SLOPE_RIGHT, y=18, class_="tick"),
    ]
    for slope, before, after in zip(slopes, left, right, strict=True):
        body += _one_slope(slope, before, after)
    said = "; ".join(f"{s.label} from {percent(s.before)} to {percent(s.after)}, n {s.of}" for s in slopes)
    return figure(title, said, _SLOPE_BOTTOM + 22, body)


def _one_slope(slope: Slope, before: float, after: float) -> list[Markup]:
    kind = "better" if slope.after < slope.before else "worse" if slope.after > slope.before else "same"
    ends = (_slope_y(slope.before), _slope_y(slope.after))
    left = Markup("{} {}").format(tag("tspan", clipped(slope.label, 14)), percent(slope.before))
    right = Markup("{} {} {} {}").format(
        {"better": "▼", "worse": "▲", "same": "="}[kind], tag("tspan", percent(slope.after), class_="strong"),
        clipped(slope.label, 12), tag("tspan", f"n {slope.of}", class_="soft"),
    )  # fmt: skip
    return [
        tag("line", x1=_SLOPE_LEFT, y1=ends[0], x2=_SLOPE_RIGHT, y2=ends[1], class_=f"slope {kind}"),
        *(tag("circle", cx=x, cy=y, r=5.0, class_=f"end {kind}") for x, y in zip((_SLOPE_LEFT, _SLOPE_RIGHT), ends,
                                                                                strict=True)),
        tag("text", left, x=_SLOPE_LEFT - 12, y=before + 4, text_anchor="end"),
        tag("text", right, x=_SLOPE_RIGHT + 12, y=after + 4),
    ]  # fmt: skip


# --- heat map ---------------------------------------------------------------------------------------------------------

_NAMES, _CELL, _HEAD = 138.0, 26.0, 34.0
STEPS = 5
"""Shades of the heat map above none: up to 20, 40, 60, 80 and 100 % missed."""


def heat_map(title: str, facet: str, columns: Sequence[str], lines: Sequence[tuple[str, Sequence[Cell]]]) -> Markup:
    """Terms down, ``columns`` across; each cell says missed/said. A click on one filters the rows by ``facet``."""
    width = (WIDTH - _NAMES) / max(1, len(columns))
    body = [_column(name, _NAMES + width * (place + 0.5), width) for place, name in enumerate(columns)]
    for row, (term, cells) in enumerate(lines):
        top = _HEAD + _CELL * row
        body.append(tag("text", clipped(term, 17), x=_NAMES - 8, y=top + 17, text_anchor="end", class_="label"))
        for place, (name, cell) in enumerate(zip(columns, cells, strict=True)):
            body.append(_cell(term, facet, name, cell, _NAMES + width * place, top, width))
    said = f"{len(lines)} terms by {facet}: missed of said in each cell, worst term first"
    return figure(title, said, _HEAD + 4 + _CELL * len(lines), body)


def _column(name: str, x: float, width: float) -> Markup:
    """A column's name over its middle, on two lines if it has two words."""
    lines = [clipped(line, max(4, int(width / 6.4))) for line in name.split(" ", 1)]
    spans = [tag("tspan", line, x=x, y=_HEAD - 8 - 13 * (len(lines) - 1 - at)) for at, line in enumerate(lines)]
    return tag("text", Markup("").join([*spans, tag("title", name)]), text_anchor="middle", class_="tick")


def shade(cell: Cell) -> int:
    """Step of a cell: 0 if nothing was missed.

    >>> [shade(Cell(misses, 10)) for misses in (0, 1, 2, 3, 10)]
    [0, 1, 1, 2, 5]
    """
    return -(-cell.misses * STEPS // cell.of) if cell.of else 0


def _cell(term: str, facet: str, column: str, cell: Cell, x: float, y: float, width: float) -> Markup:
    if not cell.of:
        return tag("text", "·", x=x + width / 2, y=y + 17, text_anchor="middle", class_="tick")
    title = tag("title", f"{term}, {column}: {cell.misses} of {cell.of} missed")
    drawn = [
        title,
        tag("rect", x=x + 1, y=y + 1, width=width - 2, height=_CELL - 2, rx=3, class_=f"heat heat-{shade(cell)}"),
        tag("text", f"{cell.misses}/{cell.of}", x=x + width / 2, y=y + 17, text_anchor="middle",
            class_=f"on-heat-{shade(cell)}"),
    ]  # fmt: skip
    named = {"data_term": term, "data_facet": facet, "data_value": column}
    return tag("g", Markup("").join(drawn), class_="cell", **named)
