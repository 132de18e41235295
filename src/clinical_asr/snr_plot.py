"""KER against SNR: how hearing fails as noise grows. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from clinical_asr.svg import Point, figure, in_words, percent, tag

_SNR_LEFT, _SNR_RIGHT, _SNR_TOP, _SNR_BOTTOM = 44.0, 396.0, 40.0, 240.0


def snr_curve(title: str, series: Sequence[tuple[str, Sequence[Point]]]) -> Markup:
    """KER over SNR, noisiest left, clean speech at the right end; a second series has squares and dashes."""
    told = [(name, _by_snr(points)) for name, points in series]
    axis = _snr_axis([point for _, points in told for point in points])
    body = [*_snr_frame(axis), *(_legend(name, at) for at, (name, _) in enumerate(told) if len(told) > 1)]
    for at, (_, points) in enumerate(told):
        body += _curve(points, axis, at)
    said = ". ".join(f"{name}: " + "; ".join(map(in_words, points)) for name, points in told)
    return figure(title, said, _SNR_BOTTOM + 40, body)


def _by_snr(points: Sequence[Point]) -> list[Point]:
    return sorted((p for p in points if p.rate is not None), key=lambda p: float("inf") if p.snr is None else p.snr)


def _snr_axis(points: Sequence[Point]) -> dict[float | None, float]:
    """SNR -> x: to scale between the noisy levels, with clean speech apart at the right end."""
    levels = sorted({point.snr for point in points if point.snr is not None})
    has_clean = any(point.snr is None for point in points)
    right = _SNR_RIGHT - 24 - (90 if has_clean and levels else 0)
    left = _SNR_LEFT + 24
    span = (levels[-1] - levels[0]) or 1.0 if levels else 1.0
    axis: dict[float | None, float] = {level: left + (level - levels[0]) / span * (right - left) for level in levels}
    if has_clean:
        axis[None] = _SNR_RIGHT - 24
    return axis


def _snr_y(rate: float) -> float:
    return _SNR_BOTTOM - min(max(rate, 0.0), 1.0) * (_SNR_BOTTOM - _SNR_TOP)


def _snr_frame(axis: dict[float | None, float]) -> list[Markup]:
    body = []
    for at in range(5):
        y = _snr_y(at / 4)
        body.append(tag("line", x1=_SNR_LEFT, x2=_SNR_RIGHT, y1=y, y2=y, class_="grid"))
        body.append(tag("text", f"{at / 4:.0%}", x=_SNR_LEFT - 6, y=y + 4, text_anchor="end", class_="tick"))
    for level, x in axis.items():
        name = "clean" if level is None else f"{level:g} dB"
        body.append(tag("text", name, x=x, y=_SNR_BOTTOM + 18, text_anchor="middle", class_="tick"))
    end = tag("text", "speech louder →", x=_SNR_RIGHT, y=_SNR_BOTTOM + 35, text_anchor="end", class_="tick")
    return [*body, tag("text", "← noisier", x=_SNR_LEFT, y=_SNR_BOTTOM + 35, class_="tick"), end]


def _legend(name: str, at: int) -> Markup:
    x = _SNR_LEFT + 8 + at * 110
    line = tag("line", x1=x, x2=x + 26, y1=12, y2=12, class_=f"curve series-{at}")
    return line + _shape(x + 13, 12, at) + tag("text", name, x=x + 34, y=16)


def _curve(points: Sequence[Point], axis: dict[float | None, float], at: int) -> list[Markup]:
    body = []
    shift = 0 if at == 0 else 5  # so that two whiskers never hide one another
    places = [(axis[p.snr] + shift, _snr_y(p.rate or 0.0)) for p in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    body.append(tag("polyline", points=line, class_=f"curve series-{at}"))
    for place, (point, (x, y)) in enumerate(zip(points, places, strict=True)):
        if point.low is not None and point.high is not None:
            ends = (_snr_y(point.low), _snr_y(point.high))
            body.append(tag("line", x1=x, x2=x, y1=ends[0], y2=ends[1], class_=f"whisker series-{at}"))
        body.append(_shape(x, y, at, in_words(point)))
        rises = any(there > x and higher < y for there, higher in places[place + 1 : place + 2])
        below = y + 18 if rises else y - 7  # on the side that the curve leaves free
        body.append(tag("text", percent(point.rate), x=x + 9, y=below, class_=f"halo value series-{at}"))
    return body


def _shape(x: float, y: float, at: int, title: str = "") -> Markup:
    inside = tag("title", title) if title else Markup("")
    if at == 0:
        return tag("circle", inside, cx=x, cy=y, r=5.0, class_=f"mark series-{at}")
    return tag("rect", inside, x=x - 4.5, y=y - 4.5, width=9, height=9, class_=f"mark series-{at}")
