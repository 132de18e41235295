"""The ladder as a person reads it: Markdown, the same cells for the terminal, and what must be known beside them."""

from __future__ import annotations

from collections.abc import Mapping

from clinical_asr.ladder import BASE, RUNGS, TUNED, Choice, Ladder, Rung
from clinical_asr.markdown import interval, p_value, percent, signed, table

HEADER = ("rung", "KER", "95 %", "false insertions", "confusions", "WER", "guard WER", "rise", "x real time",
          "per CPU second", "training min", "meets")  # fmt: skip


def cells(ladder: Ladder) -> list[list[str]]:
    """One line a rung under ``HEADER``. False insertions are those of held-out rows + of general speech."""
    return [_cells(rung) if rung.tried else [rung.name, *["–"] * (len(HEADER) - 2), ""] for rung in ladder.rungs]


def _cells(rung: Rung) -> list[str]:
    guard = rung.guard
    name = f"{rung.name} {rung.strength:g}" if rung.strength else rung.name
    return [
        name, percent(rung.ker), interval(rung.ker_low, rung.ker_high),
        f"{rung.false_insertions} + {rung.guard_false_insertions}",
        f"{rung.confusions}" + (f" ({rung.drugs_confused} drug for drug)" if rung.drugs_confused else ""),
        percent(rung.wer), _fine(guard.wer_after if guard else None),
        "" if rung.name == BASE else _points(guard.difference if guard else None),
        *("–" if speed is None else f"{speed:.0f}" for speed in (rung.speed, rung.cpu_speed)),
        f"{rung.training_minutes:.1f}", "yes" if rung.meets else "no",
    ]  # fmt: skip


def _fine(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.2f} %"


def _points(difference: float | None) -> str:
    return "–" if difference is None else f"{100 * difference:+.2f}"


def ladder_markdown(ladder: Ladder) -> str:
    """The page ``ladder.md``."""
    base = ladder.rungs[0]
    parts = [
        "# Ladder",
        f"{ladder.reason[0].upper()}{ladder.reason[1:]}.",
        f"KER of {', '.join(ladder.priority_categories)} on {base.rows} held-out rows of {base.terms} taught terms; "
        f"WER on all {ladder.rows} held-out rows; guard WER on {ladder.guard_rows} rows of general speech.",
        table(HEADER, cells(ladder)),
        "\n".join(f"- {line}." for line in standing(ladder)),
        _against(ladder),
        _other_rows(ladder),
        *(_trials(name, choice) for name, choice in ladder.choices.items()),
        "## Read with care",
        "\n".join(f"- {note}" for note in notes(ladder)),
        _signatures(ladder),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def standing(ladder: Ladder) -> list[str]:
    """Of each rung whether it meets the target and why, or why it was not tried."""
    words = {(True, True): "meets the target", (True, False): "falls short", (False, False): "not available"}
    return [f"{rung.name}: {words[rung.tried, rung.meets]}, {rung.because}" for rung in ladder.rungs]


def _against(ladder: Ladder) -> str:
    lines = []
    for rung in ladder.rungs:
        found, guard = rung.against_base, rung.guard
        if found is None or guard is None:
            continue
        ker = (signed(found.mean_difference), _span(found.low, found.high, 1), p_value(found.p_value))
        lines.append([rung.name, *ker, str(found.n_terms), _points(guard.difference), _span(guard.low, guard.high, 2)])
    header = ("against the base", "KER, points", "95 %", "p", "terms", "guard WER, points", "95 %")
    note = "KER: mean over terms, sign-flip test over terms. Guard WER: over sentences. Below 0 is better."
    return f"## Against the base\n\n{table(header, lines)}\n\n{note}" if lines else ""


def _span(low: float | None, high: float | None, places: int) -> str:
    return "" if low is None or high is None else f"{100 * low:+.{places}f} to {100 * high:+.{places}f}"


def _other_rows(ladder: Ladder) -> str:
    lines = [[r.name, f"{r.misses}/{r.occurrences}", percent(r.ker_taught), percent(r.ker_never_taught)]
             for r in ladder.rungs if r.tried]  # fmt: skip
    header = ("KER of", "missed", "taught, all categories", "never taught")
    return f"## Other held-out terms\n\n{table(header, lines)}"


def _trials(name: str, choice: Choice) -> str:
    plain = ["0", *_metrics(choice.plain), ""]
    lines = [[f"{one.strength:g}", *_metrics(one.metrics), "chosen" if one.strength == choice.strength else ""]
             for one in choice.trials]  # fmt: skip
    header = ("strength", "KER", "general WER", "rise", "")
    return f"## Strength of boosting: {name}\n\n{table(header, [plain, *lines])}\n\n{about_the_choice(name, choice)}"


def _metrics(told: Mapping[str, float | None]) -> list[str]:
    return [percent(told.get("ker")), _fine(told.get("guard_wer")), _points(told.get("guard_rise"))]


def _signatures(ladder: Ladder) -> str:
    lines = [f"`{rung.name}: model {rung.model or '?'} {rung.model_digest or '?'}`"
             for rung in ladder.rungs if rung.tried]  # fmt: skip
    return "---\n\n" + "\n\n".join(lines)


# --- what a reader must know ------------------------------------------------------------------------------------------


def notes(ladder: Ladder) -> list[str]:
    """What the numbers mean and what they do not, a sentence or two each."""
    told = [_about_the_list(ladder)] if any(rung.strength for rung in ladder.rungs) else []
    told += _about_insertions(ladder)
    told.append("Speed: seconds of audio in a second of the clock, on this machine as busy as it was, and of processor "
                "time; on the rows that choose.")  # fmt: skip
    if ladder.left_out:
        told.append(f"{ladder.left_out} rows could not be heard on some rung and count on none.")
    if any(rung.tried and rung.name in RUNGS[RUNGS.index(TUNED) :] for rung in ladder.rungs):
        told.append("The cycle's verdict is the comparison's, not this board's: several rungs are several looks.")
    return told


def _about_the_list(ladder: Ladder) -> str:
    never = ladder.listed_terms - ladder.taught_terms
    return (
        f"Boosting lists all {ladder.listed_terms} terms of the benchmark: {ladder.taught_terms} that stand in "
        f"training rows and {never} that never do. Every held-out term is on the list, so a boosted rung speaks of new "
        "sentences and new voices, not of terms that nobody thought of."
    )


def _about_insertions(ladder: Ladder) -> list[str]:
    base, told = ladder.rungs[0], []
    for rung in ladder.rungs:
        more = rung.false_insertions - base.false_insertions
        general = rung.guard_false_insertions - base.guard_false_insertions
        if rung.tried and (more > 0 or general > 0):
            where = f"{more:+d} in held-out rows, {general:+d} in general speech against the base"
            told.append(f"{rung.name} hears listed terms that nobody said ({where}): the drug nobody ordered.")
    return told


def about_the_choice(name: str, choice: Choice) -> str:
    """By which rows a strength was chosen.

    >>> about_the_choice("tuned + boosting", Choice(0.5, (), {}, 24, 200, borrowed=True))
    "tuned + boosting takes the base's strength, 0.5: every row that could choose was trained on."
    """
    if choice.borrowed:
        return f"{name} takes the base's strength, {choice.strength:g}: every row that could choose was trained on."
    tried = ", ".join(f"{trial.strength:g}" for trial in choice.trials)
    by = f"{choice.rows} training rows and {choice.general_rows} of general speech"
    return f"{name}: {choice.strength:g} of {tried}, chosen by {by}; no held-out row and none of the guard set chose."
