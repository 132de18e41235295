"""What each candidate of a fine-tuning buys in terms and costs in general speech. Pure.

All of it is of the rows that chose, none of which decides; the verdict's numbers stand elsewhere on the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clinical_asr.markdown import table
from clinical_asr.svg import WIDTH, figure, percent, tag
from clinical_asr.training import Candidate, Margins, Selection

_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 396.0, 24.0, 228.0
HEADER = ("factor", "epoch", "KER", "general WER", "rise", "95 % upper end", "")


def points(selection: Selection) -> list[tuple[Candidate, float, float]]:
    """(candidate, KER, rise of general WER) from the base, at factor 0, outwards; only those with both numbers.

    >>> from clinical_asr.training import Margins
    >>> tuned = Candidate(3, 1.0, {"ker": 0.1, "guard_rise": 0.004})
    >>> both = Selection(("a",), 9, {"ker": 0.9, "guard_rise": 0.0}, (tuned,), tuned, Margins())
    >>> [(candidate.factor, ker, rise) for candidate, ker, rise in points(both)]
    [(0.0, 0.9, 0.0), (1.0, 0.1, 0.004)]
    """
    known = [Candidate(0, 0.0, selection.base), *sorted(selection.candidates, key=lambda c: c.factor)]
    told = ((candidate, candidate.metrics.get("ker"), candidate.metrics.get("guard_rise")) for candidate in known)
    return [(candidate, ker, rise) for candidate, ker, rise in told if ker is not None and rise is not None]


def cells(selection: Selection) -> list[list[str]]:
    """One line a candidate under ``HEADER``, the base first."""
    lines = []
    for candidate in (Candidate(0, 0.0, selection.base), *sorted(selection.candidates, key=lambda c: c.factor)):
        told = candidate.metrics
        ker, wer, rise, high = (told.get(name) for name in ("ker", "guard_wer", "guard_rise", "guard_high"))
        lines.append([f"{candidate.factor:g}", str(candidate.epoch or "-"), percent(ker), percent(wer, 2),
                      _points(rise), _points(high), _standing(candidate, selection)])  # fmt: skip
    return lines


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.2f}"


def _standing(candidate: Candidate, selection: Selection) -> str:
    if candidate.factor == 0:
        return "base"
    chosen = "chosen" if candidate == selection.chosen else ""
    return ", ".join(filter(None, (chosen, "" if candidate.inside(selection.margins) else "over the margin")))


def said(selection: Selection) -> str:
    """By which rule, on which rows."""
    chose = f"{len(selection.rows)} clinical rows taken out of training" if selection.rows else "the validation rows"
    limit = f"{100 * selection.margins.rise:.2f} points"
    rule = f"the largest factor with general WER at most {limit} over the base's that hears as many terms"
    rows = f"{chose} and {selection.general_rows} general ones{harder(selection.margins)}"
    flattered = "The verdict rests on these validation rows too, which flatters it: set selection_fraction."
    return f"Chosen: {rule}, on {rows}. {'What decides is elsewhere.' if selection.rows else flattered}"


def harder(margins: Margins) -> str:
    """Why the margin is another one than the guard set's; empty if it is not.

    >>> harder(Margins(at=0.02).on({"guard_wer": 0.036}))
    ', where the base errs 1.8 times as often as on the guard set, whose margin is 0.30 points'
    """
    if margins.times == 1:
        return ""
    guard = f"{100 * margins.rise / margins.times:.2f} points"
    return f", where the base errs {margins.times:.1f} times as often as on the guard set, whose margin is {guard}"


def markdown(selection: Selection | None) -> str:
    """The section of ``comparison.md``; empty without candidates to choose from."""
    if selection is None or len(selection.candidates) < 2:
        return ""
    return f"## Candidates: terms against language\n\n{table(list(HEADER), cells(selection))}\n\n{said(selection)}"


@dataclass(frozen=True, slots=True)
class Spot:
    """One model on the plot: what it misses of the terms, and what it costs in general speech since the base."""

    name: str
    ker: float
    rise: float
    chosen: bool = False

    @property
    def words(self) -> str:
        """For a screen reader or a tooltip."""
        return f"{self.name}: KER {percent(self.ker)}, general WER {_points(self.rise)} points"


def curve(selection: Selection | None) -> Markup:
    """KER over the rise of general WER, from the base to the tuned weights, with the margin; empty without one."""
    told = points(selection) if selection is not None and len(selection.candidates) > 1 else []
    if selection is None or len(told) < 2:
        return Markup("")
    spots = [Spot(_name(candidate, selection), ker, rise, candidate == selection.chosen)
             for candidate, ker, rise in told]  # fmt: skip
    return plot("KER against the cost in general speech", spots, selection.margins.rise, said(selection), joined=True)


def _name(candidate: Candidate, selection: Selection) -> str:
    if candidate.factor == 0:
        return "base"
    return f"{candidate.factor:g}{' chosen' if candidate == selection.chosen else ''}"


def plot(title: str, spots: Sequence[Spot], margin: float, note: str, *, joined: bool = False) -> Markup:
    """KER over the rise of general WER, with the margin; ``joined`` draws the way from the first spot to the last."""
    rises = [spot.rise for spot in spots]
    low, high = min(0.0, *rises), max(margin, *rises) * 1.1
    places = [(_x(spot.rise, low, high), _y(spot.ker)) for spot in spots]
    body = [*_frame(low, high), *_margin(margin, low, high)]
    if joined:
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        body.append(tag("polyline", points=way, class_="curve series-0"))
    for spot, (x, y) in zip(spots, places, strict=True):
        body += _mark(spot, x, y)
    words = "; ".join(spot.words for spot in spots)
    return figure(title, f"{words}. {note}", _BOTTOM + 44, body)


def _x(rise: float, low: float, high: float) -> float:
    return _LEFT + (rise - low) / (high - low) * (_RIGHT - _LEFT)


def _y(ker: float) -> float:
    return _BOTTOM - min(ker, 1.0) * (_BOTTOM - _TOP)


def _frame(low: float, high: float) -> list[Markup]:
    body = []
    for at in range(5):
        y = _y(at / 4)
        body.append(tag("line", x1=_LEFT, x2=_RIGHT, y1=y, y2=y, class_="grid"))
        body.append(tag("text", f"{at / 4:.0%}", x=_LEFT - 6, y=y + 4, text_anchor="end", class_="tick"))
    for rise in (low, (low + high) / 2, high):
        x = _x(rise, low, high)
        body.append(tag("text", _points(rise), x=x, y=_BOTTOM + 18, text_anchor="middle", class_="tick"))
    name = "points of general WER over the base →"
    return [*body, tag("text", name, x=_RIGHT, y=_BOTTOM + 36, text_anchor="end", class_="tick")]


def _margin(rise: float, low: float, high: float) -> list[Markup]:
    x = _x(rise, low, high)
    line = tag("line", x1=x, x2=x, y1=_TOP, y2=_BOTTOM, class_="best-line", stroke_dasharray="4 4")
    return [line, tag("text", "margin", x=x, y=_TOP - 8, text_anchor="middle", class_="tick")]


def _mark(spot: Spot, x: float, y: float) -> list[Markup]:
    """The dot and its name, on the side where there is room."""
    dot = tag("circle", tag("title", spot.words), cx=x, cy=y, r=7.0 if spot.chosen else 4.5, class_="mark series-0")
    left = x + 9 + 6.2 * len(spot.name) > WIDTH
    place = {"x": x - 9, "text_anchor": "end"} if left else {"x": x + 9}
    return [dot, tag("text", spot.name, y=y - 8, class_="halo value series-0", **place)]
