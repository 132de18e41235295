"""The candidates of a fine-tuning: which one is chosen, how the choice is shown, and what follows when none will do."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import pytest

from clinical_asr import tradeoff
from clinical_asr.evidence import comparison_grounds
from clinical_asr.jsonl import read_json, write_json
from clinical_asr.training import Candidate, Margins, Selection, strongest
from test_comparison import compared


def candidate(factor: float, ker: float, rise: float | None, high: float | None = None) -> Candidate:
    wer = None if rise is None else 0.02 + rise
    return Candidate(3, factor, {"ker": ker, "wer": 0.1, "guard_wer": wer, "guard_rise": rise, "guard_high": high})


def selection(*candidates: Candidate) -> Selection:
    base = {"ker": 0.9, "wer": 0.2, "guard_wer": 0.02, "guard_rise": 0.0, "guard_high": 0.0}
    return Selection(("a", "b"), 236, base, candidates, strongest(candidates, Margins()), Margins())


THREE = (candidate(0.5, 0.4, 0.001, 0.003), candidate(0.75, 0.2, 0.003, 0.006), candidate(1.0, 0.1, 0.02, 0.03))


def test_the_lowest_ker_inside_the_margin_is_chosen() -> None:
    assert strongest(THREE, Margins()).factor == 0.75
    assert strongest(THREE, Margins(0.05, 0.05)).factor == 1.0
    assert strongest(THREE, Margins(0.003, 0.004)).factor == 0.5, "the interval's upper end counts as well"


def test_without_general_speech_the_lowest_ker_is_chosen() -> None:
    blind = [candidate(factor, ker, None) for factor, ker in ((0.5, 0.4), (1.0, 0.1))]
    assert strongest(blind, Margins()).factor == 1.0 and strongest(blind, Margins()).inside(Margins())


def test_with_none_inside_the_one_that_costs_least_is_written_and_said_to_be_outside() -> None:
    found = selection(candidate(0.5, 0.4, 0.01), THREE[2])
    assert found.chosen is not None and found.chosen.factor == 0.5 and not found.inside
    assert selection(*THREE).inside


def test_markdown_has_a_line_for_the_base_and_for_each_candidate() -> None:
    lines = tradeoff.markdown(selection(*THREE)).splitlines()
    body = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")][1:]
    assert [line[0] for line in body] == ["0", "0.5", "0.75", "1"]
    assert [line[-1] for line in body] == ["base", "", "chosen", "over the margin"]
    assert tradeoff.markdown(None) == tradeoff.markdown(selection(THREE[0])) == ""


def test_where_the_validation_rows_chose_it_is_said_that_they_decide_too() -> None:
    apart, same = selection(*THREE), dataclasses.replace(selection(*THREE), rows=())
    assert tradeoff.said(apart).endswith(
        "2 clinical rows taken out of training and 236 general ones. What decides is elsewhere."
    )
    assert "on the validation rows and 236 general ones. The verdict rests on these" in tradeoff.said(same)


def test_the_curve_goes_from_the_base_to_the_tuned_weights_and_shows_the_margin() -> None:
    root = ElementTree.fromstring(str(tradeoff.curve(selection(*THREE))))
    texts = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert {"base", "0.5", "0.75 chosen", "1", "margin"} <= set(texts)
    (line,) = (element for element in root.iter() if element.tag.endswith("polyline"))
    xs, ys = zip(*(map(float, pair.split(",")) for pair in line.attrib["points"].split()), strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys), "to the right it costs more, further down less is missed"
    assert tradeoff.curve(None) == "" and tradeoff.curve(selection(THREE[0])) == ""


def test_it_survives_json(tmp_path: Path) -> None:
    write_json(tmp_path / "selection.json", selection(*THREE))
    assert msgspec.convert(read_json(tmp_path / "selection.json"), Selection) == selection(*THREE)


@pytest.mark.parametrize("inside", [True, False])
def test_a_comparison_without_a_candidate_inside_is_not_promoted(inside: bool) -> None:
    found = selection(*THREE) if inside else selection(THREE[2], candidate(0.5, 0.4, 0.01))
    comparison = compared(selection=found)
    assert (comparison.verdict, comparison.exit_code) == (("promote", 0) if inside else ("not promoted", 5))
    if not inside:
        assert "no candidate" in comparison.reason and "factor 0.5: KER 0.400" in comparison.reason


def test_rows_that_chose_decide_nothing() -> None:
    all_rows = compared().held_out.rows + compared().trained_on.rows
    found = compared(selection=Selection(("r00000", "r00001"), 0, {}, THREE, THREE[1], Margins()))
    assert found.held_out.rows + found.trained_on.rows == all_rows - 2


@pytest.mark.parametrize("inside", [True, False])
def test_the_evidence_names_what_the_choice_rested_on(inside: bool) -> None:
    """A verdict of not promoted beside nothing but met conditions would be a riddle."""
    found = selection(candidate(0.5, 0.4, 0.001 if inside else 0.004, 0.006))
    ground = comparison_grounds(compared(selection=found))[-1]
    assert (ground.what, ground.n, ground.met) == ("General-English WER, rows that chose", "236 rows", inside)
    assert ground.number == ("+0.10 points" if inside else "+0.40 points") and "rise ≤ 0.3" in ground.needed
    by_validation = compared(selection=Selection((), 0, {}, THREE, Candidate(1, 1.0, {"ker": 0.1}), Margins()))
    assert len(comparison_grounds(by_validation)) == len(comparison_grounds(compared())) == 3
