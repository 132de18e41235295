"""Markdown in which all renderings write their numbers: rates, intervals, differences, aligned tables, signatures.

Nothing is computed here but the text of a number.
"""

from __future__ import annotations

from collections.abc import Sequence

from clinical_asr.tally import Signature

BAR_WIDTH = 10


def percent(rate: float | None) -> str:
    """A rate as a person reads it; an en dash where there is none.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '–')
    """
    return "–" if rate is None else f"{100 * rate:.1f} %"


def interval(low: float | None, high: float | None) -> str:
    """A 95 % interval.

    >>> interval(0.1, 0.25), interval(None, None)
    ('10.0 – 25.0', '')
    """
    return "" if low is None or high is None else f"{100 * low:.1f} – {100 * high:.1f}"


def bar(rate: float | None, width: int = BAR_WIDTH) -> str:
    """A rate as a bar of ``width`` characters; any error at all shows.

    >>> bar(0.5, 4), bar(0.01, 4), bar(0.0, 4)
    ('██··', '█···', '····')
    """
    if rate is None:
        return ""
    full = max(int(rate > 0), round(min(rate, 1.0) * width))
    return "█" * full + "·" * (width - full)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned Markdown table: the first column left, the others right.

    >>> print(table(["term", "n"], [["cefazolin", "12"]]))
    | term      |  n |
    |:----------|---:|
    | cefazolin | 12 |
    """
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) if i == 0 else max(2, *(len(row[i]) for row in cells))
              for i in range(len(header))]  # fmt: skip
    lines = ["| " + " | ".join(_aligned(row, widths)) + " |" for row in cells]
    rule = "|" + "|".join(":" + "-" * (w + 1) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def signed(difference: float | None) -> str:
    """A difference in percentage points, or a relative change in per cent, with its sign.

    >>> signed(-0.75), signed(0.003), signed(None)
    ('-75.0', '+0.3', '–')
    """
    return "–" if difference is None else f"{100 * difference:+.1f}"


def detectable(difference: float | None) -> str:
    """The smallest difference of two shares that a benchmark would show, if there is one at all.

    >>> detectable(0.25), detectable(1.3), detectable(None)
    ('25.0 %', 'none, too few terms', '–')
    """
    return "none, too few terms" if difference is not None and difference > 1 else percent(difference)


def p_value(value: float | None) -> str:
    """A p value to three places; an en dash where nothing was tested."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def list_note(digest: str, does: str) -> str:
    """Which list the variants came from, and that strict KER ``does`` its work without them."""
    return f"Variants: those of the list of terms `{digest}`; strict KER {does}." if digest else ""


def foot(signatures: Sequence[Signature]) -> str:
    """What the numbers rest on, one line a system."""
    lines = [
        f"`normaliser {s.normaliser} | metrics {s.metric_version} | model {s.model or '?'} {s.model_digest or '?'} | "
        f"manifest {s.manifest_digest} | {s.rows} rows`"
        for s in signatures
    ]
    return "---\n\n" + "\n\n".join(lines)
