"""The comparison as a person reads it: the decision first, every number with its n, the signatures last."""

from __future__ import annotations

from board import board, rows
from clinical_asr.gate import gate
from clinical_asr.markdown import table
from clinical_asr.report import comparison_markdown, leaderboard_markdown
from clinical_asr.verdict import decide
from test_comparison import compared


def test_the_decision_and_its_numbers_come_first() -> None:
    found = compared()
    text = comparison_markdown(found, decide(found))
    order = [
        "**promote**",
        "Next stage: `deploy`",
        "held out (decides)",
        "trained on",
        "General English",
        "By term",
        "`normaliser",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "| held out (decides)" in text and "50.0 %" in text and "10.0 %" in text and "-80.0" in text
    assert text.count("`normaliser clinical-v1") == 2
    assert comparison_markdown(found) == text


def test_a_comparison_without_guard_says_so() -> None:
    assert "No guard rows" in comparison_markdown(compared(guard_rows=0))


def test_a_leaderboard_shows_the_gate_above_the_headline() -> None:
    found = board(rows(120, 60, terms=10))
    text = leaderboard_markdown(found, gate(found))
    assert text.index("**pass**") < text.index("## 1. Headline")


def test_a_pipe_in_a_term_does_not_break_a_table() -> None:
    lines = table(["term", "n"], [["a|b", "1"], ["c", "22"]]).splitlines()
    assert lines[2].startswith("| a\\|b |") and len({len(line) for line in lines}) == 1
