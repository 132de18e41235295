"""What the report's plots are drawn with: escaped elements, figures with a title and a description, labels. Pure.

Plots are small inline SVG: no script, no style of their own (the page's style sheet colours them), text stays text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

from markupsafe import Markup

WIDTH = 420
"""User units of a plot; near a phone's width, so that text keeps its size there."""


@dataclass(frozen=True, slots=True)
class Point:
    """A rate (a fraction) with its 95 % interval, and the counts behind it."""

    label: str
    rate: float | None
    low: float | None
    high: float | None
    misses: int
    of: int
    snr: float | None = None
    """In dB; ``None`` is clean speech, or no matter of noise."""


def tag(name: str, content: object = "", **attributes: object) -> Markup:
    """One element; ``class_`` is class, ``text_anchor`` is text-anchor; content and values are escaped.

    >>> print(tag("text", "<b>", x=1.25, class_="label"))
    <text x="1.2" class="label">&lt;b&gt;</text>
    """
    shown = {key.rstrip("_").replace("_", "-"): _number(value) for key, value in attributes.items()}
    inside = Markup("").join(Markup(' {}="{}"').format(key, value) for key, value in shown.items())
    return Markup("<{0}{1}>{2}</{0}>").format(name, inside, content)


def _number(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def figure(title: str, description: str, height: float, body: Iterable[Markup]) -> Markup:
    """A plot of ``WIDTH`` by ``height`` units."""
    key = f"plot-{crc32(f'{title}{description}'.encode()):08x}"
    head = [tag("title", title, id=f"{key}-t"), tag("desc", description, id=f"{key}-d")]
    return tag(
        "svg", Markup("").join([*head, *body]), class_="plot", viewBox=f"0 0 {WIDTH} {height:g}", role="img",
        aria_labelledby=f"{key}-t {key}-d", preserveAspectRatio="xMinYMin meet",
    )  # fmt: skip


def percent(rate: float | None, places: int = 1) -> str:
    """A rate with its sign of per cent, never broken over lines.

    >>> percent(0.1234) == "12.3\\u00a0%", percent(None)
    (True, '–')
    """
    return "–" if rate is None else f"{100 * rate:.{places}f}\u00a0%".replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """A 95 % interval in per cent.

    >>> interval(0.1, 0.25), interval(None, 0.2)
    ('10.0–25.0', '–')
    """
    return "–" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}"


def clipped(text: str, length: int) -> str:
    """A long name cut for a label; titles hold all of it.

    >>> clipped("cefazolin", 24), clipped("low molecular weight heparin", 12)
    ('cefazolin', 'low molecul…')
    """
    return text if len(text) <= length else f"{text[: length - 1]}…"


def squeezed(text: str, length: int) -> str:
    """A long name cut in its middle: names of models that begin alike often differ in how they end.

    >>> squeezed("mini", 20), squeezed("nvidia/parakeet-tdt-0.6b-v2", 20)
    ('mini', 'nvidia/par…t-0.6b-v2')
    """
    kept = length - 1
    return text if len(text) <= length else f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"


def spread(places: Sequence[float], gap: float, bottom: float) -> list[float]:
    """Places of labels moved apart to at least ``gap``, in the same order, none below ``bottom``.

    >>> spread([10, 12, 50], 10, 55)
    [10, 20, 50]
    >>> spread([54, 55], 10, 55)
    [45, 55]
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + gap)
    limit = bottom
    for index in reversed(order):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - gap
    return moved


def in_words(point: Point) -> str:
    """A point for a screen reader or a tooltip."""
    name = f"{point.label} {percent(point.rate)}"
    return f"{name}, 95 % interval {interval(point.low, point.high)}, {point.misses} of {point.of} missed"
