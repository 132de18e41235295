"""A decision's evidence as tables a person can read: what it rests on, with the number, its firmness and the limit.

Pure; nothing is measured here. Rates are written in per cent, differences of rates in points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clinical_asr.compared import Comparison
from clinical_asr.records import Decision
from clinical_asr.svg import interval, percent
from clinical_asr.training import Selection
from clinical_asr.verdict import significant

RATES = ("ker", "wer", "cer", "ser", "low", "high", "difference", "margin", "upper")


@dataclass(frozen=True, slots=True)
class Ground:
    """One thing a verdict rests on. ``met`` is ``None`` where it is shown but decides nothing."""

    what: str
    number: str
    n: str
    interval: str
    needed: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Group:
    """Evidence under one name: a table with a header, or names and values."""

    title: str
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def points(difference: float | None, places: int = 1) -> str:
    """A difference of two rates.

    >>> points(-0.375), points(0.0031, 2), points(None)
    ('−37.5 points', '+0.31 points', '–')
    """
    return "–" if difference is None else f"{100 * difference:+.{places}f} points".replace("-", "−")


def span(low: float | None, high: float | None, places: int = 1) -> str:
    """Interval of a difference, in points; its ends may lie below 0.

    >>> span(-0.67, -0.187), span(-0.0002, 0.0011, 2), span(None, None)
    ('−67.0 to −18.7', '−0.02 to +0.11', '–')
    """
    if low is None or high is None:
        return "–"
    return f"{100 * low:+.{places}f} to {100 * high:+.{places}f}".replace("-", "−")


def relative(change: float | None) -> str:
    """A relative change.

    >>> relative(-0.75) == "−75\\u00a0%", relative(None)
    (True, '–')
    """
    return "–" if change is None else f"{change:+.0%}".replace("-", "−").replace("%", "\u00a0%")


def p_value(value: float | None) -> str:
    """A p value to three places.

    >>> p_value(0.0312), p_value(0.00001), p_value(None)
    ('0.031', '< 0.001', '–')
    """
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def board_grounds(decision: Decision | None) -> list[Ground]:
    """What a gate or a triage rests on: its conditions, or the priority KER alone; each as firm as it is."""
    if decision is None:
        return []
    firmness = decision.evidence.get("firmness") or {}
    conditions = [one for one in decision.evidence.get("conditions") or () if isinstance(one, Mapping)]
    if not conditions and firmness:
        conditions = [{"condition": PRIORITY_KER, "number": firmness.get("ker")}]
    return [_condition(one, firmness) for one in conditions]


PRIORITY_KER = "priority KER"


def _condition(one: Mapping[str, Any], firmness: Mapping[str, Any]) -> Ground:
    name, number = str(one.get("condition", "")), one.get("number")
    shown = percent(number) if "KER" in name or "gap" in name else _plain(number)
    n = between = ""
    if name == PRIORITY_KER and firmness:
        n = f"{firmness.get('occurrences')} said, {firmness.get('terms')} terms"
        between = interval(firmness.get("low"), firmness.get("high"))
    return Ground(name, shown, n, between, str(one.get("needed", "")), one.get("ok"))


def comparison_grounds(comparison: Comparison) -> list[Ground]:
    """Fall of held-out KER, the test over terms, the guard set and the choice of a candidate, each with its limit."""
    side, found, guard, config = comparison.held_out, comparison.statistics, comparison.guard, comparison.config
    change = side.ker_relative_change
    fallen = None if change is None else round(change, 9) <= -config.keep_reduction
    grounds = [
        Ground(
            f"Held-out KER, {', '.join(comparison.priority_categories)}",
            f"{percent(side.ker_before)} → {percent(side.ker_after)} ({relative(change)})",
            f"{side.rows} rows, {side.terms} terms", "", f"{relative(-config.keep_reduction)} or lower", fallen,
        )
    ]  # fmt: skip
    if found is not None:
        sure = significant(comparison)
        grounds.append(
            Ground("Mean change per term, sign-flip test", f"{points(found.mean_difference)}, p {_is(found.p_value)}",
                   f"{found.n_rows} rows, {found.n_terms} terms", span(found.low, found.high),
                   f"p < {config.alpha:g}", sure)
        )  # fmt: skip
    rise = f"{percent(guard.wer_before, 2)} → {percent(guard.wer_after, 2)} ({points(guard.difference, 2)})"
    limit = _limit(guard.margin, guard.upper)
    told = guard.proven if guard.rows else None
    grounds.append(Ground("General-English WER, guard set", rise if guard.rows else "not measured",
                          f"{guard.rows} rows", span(guard.low, guard.high, 2), limit, told))  # fmt: skip
    return grounds + _missing_ground(comparison) + _chosen_ground(comparison.selection)


def _missing_ground(comparison: Comparison) -> list[Ground]:
    """Rows that could not be paired, if there are any."""
    missing = comparison.missing
    told = str(missing)
    return [Ground("Rows of one side alone", told, "", "", "none only before", not missing.decides)] if told else []


def _chosen_ground(selection: Selection | None) -> list[Ground]:
    """What the candidate that was taken costs where it was chosen; nothing where general speech did not choose."""
    if selection is None or selection.chosen is None or "guard_rise" not in selection.chosen.metrics:
        return []
    metrics, margins = selection.chosen.metrics, selection.margins
    return [Ground("General-English WER, rows that chose", points(metrics["guard_rise"], 2),
                   f"{selection.general_rows} rows", f"to {points(metrics.get('guard_high'), 2)}",
                   _limit(margins.rise, margins.high), selection.inside)]  # fmt: skip


def _limit(rise: float, high: float) -> str:
    return f"rise ≤ {100 * rise:.2f}, upper end ≤ {100 * high:.2f} points"


def _is(value: float | None) -> str:
    shown = p_value(value)
    return shown if shown.startswith(("<", "–")) else f"= {shown}"


def groups(evidence: Mapping[str, Any]) -> list[Group]:
    """All of a decision's evidence, whatever stage it comes from: one group per name, scalars together first."""
    single = Group("", rows=[[_words(name), _value(name, value)] for name, value in evidence.items() if _flat(value)])
    found = [single] if single.rows else []
    for name, value in evidence.items():
        if isinstance(value, Mapping):
            found.append(Group(_words(name), rows=[[path, shown] for path, shown in _leaves(value)]))
        elif not _flat(value):
            found.append(_table(name, value))
    return found


def _flat(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return not any(isinstance(one, Mapping) for one in value)
    return not isinstance(value, Mapping)


def _table(name: str, lines: Any) -> Group:
    lines = [line for line in lines if isinstance(line, Mapping)]
    keys = list(dict.fromkeys(key for line in lines for key in line))
    return Group(
        _words(name), [_words(key) for key in keys], [[_value(k, line.get(k)) for k in keys] for line in lines]
    )


def _leaves(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, inner in value.items():
        path = f"{before}{_words(name)}"
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{path}: ")
        elif inner is not None and inner != "" and name != "key":
            yield path, _value(name, inner)


def _words(name: object) -> str:
    words = str(name).replace("_", " ")
    return " ".join(word.upper() if word in {"ker", "wer", "cer", "ser"} else word for word in words.split(" "))


def _value(name: str, value: Any) -> str:
    """A value as its name asks for it.

    >>> _value("ker_relative_change", -0.5) == "−50\\u00a0%", _value("p_value", 0.01), _value("ok", True)
    (True, '0.010', 'yes')
    >>> _value("ker_low", 0.25) == "25.0\\u00a0%", _value("terms", 12), _value("categories", ["drug", "lab"])
    (True, '12', 'drug, lab')
    """
    if isinstance(value, list | tuple):
        return ", ".join(_plain(one) for one in value) or "–"
    if not isinstance(value, float):
        return _plain(value)
    if name.endswith("relative_change"):
        return relative(value)
    if name.startswith("p_") or name == "p":
        return p_value(value)
    return percent(value) if set(name.split("_")) & set(RATES) else _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
