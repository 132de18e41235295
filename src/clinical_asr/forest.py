"""Forest plot: several systems against the best one, each a difference with its paired interval. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clinical_asr.evidence import points, span
from clinical_asr.svg import WIDTH, figure, squeezed, tag


@dataclass(frozen=True, slots=True)
class Difference:
    """A system's rate minus the best one's, as a fraction, with its 95 % interval."""

    label: str
    mean: float | None
    low: float | None
    high: float | None


_LEFT, _RIGHT, _ROW, _TOP = 24.0, 396.0, 48.0, 34.0
_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)


def forest_plot(title: str, best: str, differences: Sequence[Difference]) -> Markup:
    """One line a system: name and numbers above, point and whisker below; the upright at 0 is the best system."""
    low, high, step = _scale(differences)
    told = [one for one in differences if one.mean is not None]
    bottom = _TOP + _ROW * len(told)
    body = [*_axis(low, high, step, bottom), _best(squeezed(best, 30), _x(0.0, low, high), bottom)]
    for place, one in enumerate(told):
        body += _line(one, _TOP + _ROW * place, low, high)
    said = "; ".join(f"{one.label} {in_words(one)}" for one in told)
    return figure(title, f"Against {best}: {said}", bottom + 40, body)


def _scale(differences: Sequence[Difference]) -> tuple[float, float, float]:
    """Ends of the axis in round steps around all intervals and 0, and the step between two ticks.

    >>> _scale([Difference("b", 0.02, -0.01, 0.05)])
    (-0.02, 0.06, 0.02)
    """
    ends = [value for one in differences for value in (one.mean, one.low, one.high) if value is not None] + [0.0]
    wide = max(ends) - min(ends) or 0.01
    step = next((step for step in _STEPS if wide / step <= 5), wide / 5)
    low, high = (math.floor(round(min(ends) / step, 6)) * step, math.ceil(round(max(ends) / step, 6)) * step)
    return round(low, 6), round(max(high, low + step), 6), step


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (value - low) / (high - low) * (_RIGHT - _LEFT)


def _axis(low: float, high: float, step: float, bottom: float) -> list[Markup]:
    drawn = []
    for at in range(round((high - low) / step) + 1):
        value = round(low + at * step, 6)
        x, name = _x(value, low, high), f"{100 * value:+g}".replace("-", "−") if value else "0"
        drawn.append(tag("line", x1=x, x2=x, y1=_TOP - 8, y2=bottom, class_="grid"))
        drawn.append(tag("text", name, x=x, y=bottom + 15, text_anchor="middle", class_="tick"))
    note = tag("text", "points worse →", x=_RIGHT, y=bottom + 33, text_anchor="end", class_="tick")
    return [*drawn, tag("text", "← points better", x=_LEFT, y=bottom + 33, class_="tick"), note]


def _best(name: str, x: float, bottom: float) -> Markup:
    anchor = "start" if x < WIDTH / 3 else "end" if x > 2 * WIDTH / 3 else "middle"
    text = tag("text", f"best: {name}", x=x, y=_TOP - 16, text_anchor=anchor, class_="label")
    return text + tag("line", x1=x, x2=x, y1=_TOP - 10, y2=bottom, class_="best-line")


def _line(one: Difference, top: float, low: float, high: float) -> list[Markup]:
    y, x = top + 34, _x(one.mean or 0.0, low, high)
    numbers = Markup("{} {}").format(
        tag("tspan", points(one.mean), class_="strong"), tag("tspan", f" ({span(one.low, one.high)})", class_="soft")
    )
    drawn = [
        tag("text", squeezed(one.label, 19), x=_LEFT + 8, y=top + 19, class_="label halo"),
        tag("text", numbers, x=_RIGHT, y=top + 19, text_anchor="end", class_="halo"),
    ]
    if one.low is not None and one.high is not None:
        ends = (_x(one.low, low, high), _x(one.high, low, high))
        drawn.append(tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_="whisker"))
        drawn += [tag("line", x1=end, x2=end, y1=y - 5, y2=y + 5, class_="whisker") for end in ends]
    title = tag("title", f"{one.label} {in_words(one)}")
    return [*drawn, tag("rect", title, x=x - 5, y=y - 5, width=10, height=10, class_="dot")]


def in_words(one: Difference) -> str:
    """The numbers for a screen reader or a tooltip."""
    return f"{points(one.mean)}, 95 % interval {span(one.low, one.high)}"
