"""Markdown renderings of a leaderboard and of a comparison: the decision and the headline first, then the rest.

Nothing is computed here but the text of a number: every figure stands in the value (and so in the JSON) already.
"""

from __future__ import annotations

from collections.abc import Sequence

from clinical_asr import tradeoff
from clinical_asr.changes import Change, Guard, Side
from clinical_asr.compared import Comparison
from clinical_asr.markdown import bar, detectable, foot, interval, list_note, p_value, percent, signed, table
from clinical_asr.records import Decision
from clinical_asr.tally import ConfusionLine, FalseInsertion, Leaderboard, Line, NumberLine

_TERMS_SHOWN = 50
_CONFUSIONS_SHOWN = 20


# --- leaderboard ------------------------------------------------------------------------------------------------------


def leaderboard_markdown(board: Leaderboard, decision: Decision | None = None) -> str:
    """The five published sections in their order, then our own, and the signature at the foot."""
    parts = [
        f"# Leaderboard: {board.signature.model or 'unnamed model'}",
        *([_decision(decision)] if decision else []),
        f"## 1. Headline\n\n{_headline(board.headline)}",
        _section("2. KER by entity category", "category", board.by_entity_category),
        _section("3. KER by source of the pronunciation", "ipa_source", board.by_ipa_source),
        _section("4. KER by noise level", "noise_level", board.by_noise_level),
        _terms(board.by_term),
        _section("6. By what training has seen", "stratum", board.by_stratum),
        _section("7. By voice", "voice", board.by_voice),
        _section("8. By context", "context", board.by_context),
        _false_insertions(board.false_insertions),
        _confusions(board.confusions),
        _numbers(board.numbers),
        list_note(board.terms_digest, "decides"),
        foot([board.signature]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _decision(decision: Decision) -> str:
    return f"**{decision.verdict}** — {decision.reason}\n\nNext stage: `{decision.next_stage}`"


def _headline(line: Line) -> str:
    size = f"{line.rows} rows, {line.words} words, {line.occurrences} occurrences of {line.terms} terms"
    rows = [
        ["KER", percent(line.ker), interval(line.ker_low, line.ker_high), f"{line.misses} / {line.occurrences} terms"],
        *_with_variants(line),
        ["WER", percent(line.wer), interval(line.wer_low, line.wer_high), f"{line.words} words"],
        ["CER", percent(line.cer), interval(line.cer_low, line.cer_high), f"{line.characters} characters"],
        ["SER", percent(line.ser), interval(line.ser_low, line.ser_high), f"{line.rows} rows"],
        ["WER, mean of rows", percent(line.wer_row_mean), "", f"{line.rows} rows"],
        ["false insertions", str(line.false_insertions), "", f"{line.rows} rows"],
    ]
    return f"{size}\n\n" + table(["rate", "value", "95 % interval", "of"], rows)


def _with_variants(line: Line) -> list[list[str]]:
    """The line of variant-aware KER, where a list of terms was given."""
    if line.variant_misses is None:
        return []
    between = interval(line.variant_ker_low, line.variant_ker_high)
    counted = f"{line.variant_misses} / {line.occurrences} terms"
    return [["KER, variants counted", percent(line.variant_ker), between, counted]]


def _section(title: str, name: str, lines: Sequence[Line]) -> str:
    if not lines:
        return f"## {title}\n\nNo row says."
    loose = ["KER, variants"] if any(line.variant_misses is not None for line in lines) else []
    header = [name, "rows", "terms", "KER", "95 % interval", "missed", *loose, "WER", "95 % interval", "KER as a bar"]
    rows = [
        [
            line.key, str(line.rows), str(line.terms), percent(line.ker), interval(line.ker_low, line.ker_high),
            f"{line.misses}/{line.occurrences}", *[percent(line.variant_ker) for _ in loose],
            percent(line.wer), interval(line.wer_low, line.wer_high), bar(line.ker),
        ]
        for line in lines
    ]  # fmt: skip
    return f"## {title}\n\n{table(header, rows)}"


def _terms(lines: Sequence[Line]) -> str:
    if not lines:
        return "## 5. KER per term, worst first\n\nNo row has a term."
    loose = ["KER, variants"] if any(line.variant_misses is not None for line in lines) else []
    header = ["term", "category", "rows", "KER", "95 % interval", "missed", *loose, "WER", "KER as a bar"]
    rows = [
        [
            line.key, line.entity_category, str(line.rows), percent(line.ker), interval(line.ker_low, line.ker_high),
            f"{line.misses}/{line.occurrences}", *[percent(line.variant_ker) for _ in loose], percent(line.wer),
            bar(line.ker),
        ]
        for line in lines[:_TERMS_SHOWN]
    ]  # fmt: skip
    return f"## 5. KER per term, worst first\n\n{table(header, rows)}{_and_more(len(lines), _TERMS_SHOWN)}"


def _and_more(n: int, shown: int) -> str:
    return f"\n\nand {n - shown} more in the JSON file" if n > shown else ""


def _false_insertions(found: Sequence[FalseInsertion]) -> str:
    if not found:
        return "## 9. False insertions\n\nNo listed term was heard in a row more often than it was said there."
    rows = [[one.term, one.entity_category, str(one.count), str(one.rows)] for one in found[:_TERMS_SHOWN]]
    shown = table(["term", "category", "heard unsaid", "rows"], rows)
    note = "Listed terms heard in a row more often than said there (counted by the row, as KER is)."
    return f"## 9. False insertions\n\n{note}\n\n{shown}{_and_more(len(found), _TERMS_SHOWN)}"


def _confusions(confusions: Sequence[ConfusionLine]) -> str:
    if not confusions:
        return "## 10. What was heard instead\n\nEvery term was heard."
    rows = [
        [c.term, c.heard or "(nothing)", str(c.count), c.kind, f"{c.similarity:.2f}"]
        for c in confusions[:_CONFUSIONS_SHOWN]
    ]
    shown = table(["term", "heard", "times", "kind", "alike"], rows)
    return f"## 10. What was heard instead\n\n{shown}{_and_more(len(confusions), _CONFUSIONS_SHOWN)}"


def _numbers(numbers: Sequence[NumberLine]) -> str:
    if not any(line.length or line.errors for line in numbers):
        return ""
    rows = [[n.kind, percent(n.rate), f"{n.errors}/{n.length}", str(n.rows)] for n in numbers]
    return "## 11. Numbers and doses\n\n" + table(["kind", "error rate", "errors", "rows with errors"], rows)


# --- comparison -------------------------------------------------------------------------------------------------------


def comparison_markdown(comparison: Comparison, decision: Decision | None = None) -> str:
    """The decision, what it rests on, what training cost in general speech, then strata, categories and terms."""
    verdict = decision or Decision(
        verdict=comparison.verdict, reason=comparison.reason, evidence={}, next_stage=comparison.next_stage
    )
    parts = [
        "# Before and after fine-tuning",
        _decision(verdict),
        _sides(comparison),
        _test(comparison),
        _guard(comparison.guard),
        tradeoff.markdown(comparison.selection),
        _changes("By what training has seen (priority categories)", "stratum", comparison.by_stratum),
        _changes("By category, held-out rows", "category", comparison.by_category),
        _changes("By term, held-out rows, worst after first", "term", comparison.by_term),
        foot(comparison.signatures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sides(comparison: Comparison) -> str:
    header = ["priority categories", "rows", "terms", "KER before", "after", "change %", "WER before", "after"]
    rows = []
    sides = {"held out (decides)": comparison.held_out, "terms never taught": comparison.new_terms}
    for name, side in {**sides, "trained on": comparison.trained_on}.items():
        rows += [_side_row(name, side), _side_row(f"{name}, all categories", side.all_categories)]
    strata = ", ".join(f"{n} {name}" for name, n in comparison.held_out.strata.items())
    title = f"## KER of {', '.join(comparison.priority_categories)}"
    known = f"{comparison.known_to_base} rows that the base was trained on" if comparison.known_to_base else ""
    left_out = "; ".join(filter(None, (str(comparison.missing), known)))
    alone = f" Left out: {left_out}." if left_out else ""
    return f"{title}\n\n{table(header, rows)}\n\nHeld-out rows by stratum: {strata or 'none'}.{alone}"


def _side_row(name: str, side: Side | Change) -> list[str]:
    return [
        name, str(side.rows), str(side.terms), percent(side.ker_before), percent(side.ker_after),
        signed(side.ker_relative_change), percent(side.wer_before), percent(side.wer_after),
    ]  # fmt: skip


def _test(comparison: Comparison) -> str:
    found = comparison.statistics
    if found is None:
        return ""
    lines = [
        f"Mean difference over {found.n_terms} terms ({found.n_rows} rows): {signed(found.mean_difference)} points",
        f"95 % interval {interval(found.low, found.high) or '–'} (cut at -100 and 100: a difference cannot lie beyond)",
        f"sign-flip test over terms p = {p_value(found.p_value)}",
        f"smallest difference such a benchmark would show: {detectable(found.minimum_detectable_difference)}",
    ]
    return "; ".join(lines) + "."


def _guard(guard: Guard) -> str:
    if not guard.rows:
        return "## General English (guard set)\n\nNo guard rows: what fine-tuning cost is not known."
    verdict = "worse than allowed" if guard.worse else "within the margin" if guard.proven else "too few rows to tell"
    header = ["guard set", "rows", "WER before", "after", "rise", "95 % interval", "allowed rise", "upper end"]
    row = [verdict, str(guard.rows), percent(guard.wer_before), percent(guard.wer_after), signed(guard.difference),
           interval(guard.low, guard.high), signed(guard.margin), signed(guard.upper)]  # fmt: skip
    return f"## General English (guard set)\n\n{table(header, [row])}"


def _changes(title: str, name: str, changes: Sequence[Change]) -> str:
    if not changes:
        return ""
    tested = any(change.p_value is not None for change in changes)
    header = [name, "rows", "KER before", "after", "change %", "WER before", "after"]
    rows = [
        [
            change.key, str(change.rows), percent(change.ker_before), percent(change.ker_after),
            signed(change.ker_relative_change), percent(change.wer_before), percent(change.wer_after),
            *([p_value(change.p_value), p_value(change.p_holm)] if tested else []),
        ]
        for change in changes[:_TERMS_SHOWN]
    ]  # fmt: skip
    shown = table([*header, "p", "p (Holm)"] if tested else header, rows)
    return f"## {title}\n\n{shown}{_and_more(len(changes), _TERMS_SHOWN)}"
