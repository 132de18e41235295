"""Markdown of several systems on identical rows: the ranking first, then every category and term side by side."""

from __future__ import annotations

from collections.abc import Sequence

from clinical_asr.markdown import foot, interval, list_note, p_value, percent, signed, table
from clinical_asr.ranking import Group, Ranking, Standing

_TERMS_SHOWN = 50


def ranking_markdown(ranking: Ranking) -> str:
    """Several systems on identical rows, best first, each against the best."""
    n = ranking.standings[0].rows
    parts = [
        f"# Leaderboard of {len(ranking.standings)} systems",
        f"{n} identical rows, ranked by {ranking.metric.upper()}. {ranking.note}",
        _standings(ranking),
        _against_the_best(ranking),
        _side_by_side("By entity category", "category", ranking, ranking.by_category),
        _side_by_side("By term, worst over all systems first", "term", ranking, ranking.by_term),
        list_note(ranking.terms_digest, "ranks"),
        foot([*ranking.signatures.values()]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _standings(ranking: Ranking) -> str:
    loose = ["KER, variants"] if ranking.terms_digest else []
    header = ["system", "place", "KER", "95 % interval", *loose, "WER", "95 % interval", "CER", "SER",
              "false insertions", "drug for drug"]  # fmt: skip
    rows = [
        [
            s.name, str(s.place), percent(s.ker), interval(s.ker_low, s.ker_high),
            *[percent(s.variant_ker) for _ in loose], percent(s.wer), interval(s.wer_low, s.wer_high), percent(s.cer),
            percent(s.ser), str(s.false_insertions), str(s.drugs_confused),
        ]
        for s in ranking.standings
    ]  # fmt: skip
    return table(header, rows)


def _against_the_best(ranking: Ranking) -> str:
    best, *others = ranking.standings
    rows = [[s.name, signed(s.difference), interval(s.low, s.high), str(s.n_terms), p_value(s.p_value),
             p_value(s.p_holm)] for s in others]  # fmt: skip
    header = [f"{ranking.metric.upper()} against {best.name}", "points", "95 % interval", _unit(best), "p", "p (Holm)"]
    cut = " Intervals are cut at -100 and 100: a difference cannot lie beyond." if ranking.metric == "ker" else ""
    note = f"Means over {_unit(best)} of the difference, in points; above 0 is worse than {best.name}.{cut}"
    return f"## Against the best\n\n{note}\n\n{table(header, rows)}"


def _unit(best: Standing) -> str:
    return "terms" if best.occurrences else "sentences"


def _side_by_side(title: str, name: str, ranking: Ranking, groups: Sequence[Group]) -> str:
    if not groups:
        return ""
    header = [name, "rows", "said", *(f"KER {standing.name}" for standing in ranking.standings)]
    rows = [
        [group.key, str(group.rows), str(group.occurrences), *(percent(one.ker) for one in group.systems)]
        for group in groups[:_TERMS_SHOWN]
    ]
    left = len(groups) - _TERMS_SHOWN
    more = f"\n\nand {left} more in the JSON file" if left > 0 else ""
    return f"## {title}\n\n{table(header, rows)}{more}"
