"""One term is one term: in two spellings it counts once, and under two categories none of its rows is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from board import all_strata, guard, hypothesis, scored, utterance
from clinical_asr.changes import by_term, change_of, paired_rows, paired_test
from clinical_asr.cli import main
from clinical_asr.comparison import compare
from clinical_asr.config import GateConfig, TrainingConfig
from clinical_asr.firmness import firmness_of
from clinical_asr.jsonl import to_dict, write_rows
from clinical_asr.judge import Recordings
from clinical_asr.leaderboard import leaderboard
from clinical_asr.learning_curve import learning_curve
from clinical_asr.mishearings import ListedTerms
from clinical_asr.ranking import rank
from clinical_asr.records import EntityCategory, Hypothesis, Term
from clinical_asr.split_columns import SplitColumns
from clinical_asr.summary import summarise
from clinical_asr.tally import Leaderboard, Subject
from clinical_asr.text import term_key
from clinical_asr.training import TrainingJob

DRUGS = ("heparin", "warfarin", "insulin")
BOTH = GateConfig(priority_categories=(EntityCategory.DRUG, EntityCategory.LAB))


def spelled(heard: bool, *, lower: bool = False, model: str = "base") -> list[Hypothesis]:
    """Eight rows of each of three drugs, every other one with a capital, as at the beginning of a sentence."""
    written = [(drug.capitalize(), drug)[place % 2] for drug in DRUGS for place in range(8)]
    rows = [
        hypothesis(f"r{n:02d}", heard=heard, term=term, model=model, digest=model) for n, term in enumerate(written)
    ]
    return [msgspec.structs.replace(row, term=row.term.lower()) for row in rows] if lower else rows


def two_categories() -> list[Hypothesis]:
    """Insulin as a drug, heard six times of six, and as a laboratory value, missed four times of four."""
    return [
        *(hypothesis(f"d{n}", term="Insulin") for n in range(6)),
        *(hypothesis(f"l{n}", heard=False, term="insulin", category=EntityCategory.LAB) for n in range(4)),
        *(hypothesis(f"h{n}", heard=n % 2 == 0, term="heparin") for n in range(6)),
    ]


def board_of(rows: Sequence[Hypothesis]) -> Leaderboard:
    return leaderboard(*scored(list(rows)))


def test_an_identity_is_that_of_case_accents_and_hyphens_and_the_same_for_the_split() -> None:
    written = ["Heparin", "heparin", "HEPARIN", "post-op", "Post op", "Sjögren", "sjogren", "insulin"]
    assert [term_key(term) for term in written] == [
        "heparin", "heparin", "heparin", "post op", "post op", "sjogren", "sjogren", "insulin"
    ]  # fmt: skip
    rows = [utterance(f"r{n}", text=f"give {term}", term=term) for n, term in enumerate(written)]
    assert SplitColumns.of(rows).terms == list(dict.fromkeys(map(term_key, written)))
    assert (term_key(""), term_key("-")) == ("", "-"), "what has no word is not the term of a row without one"
    assert all(term_key(term_key(term)) == term_key(term) for term in written)


def test_a_comparison_of_three_drugs_in_two_spellings_is_one_over_three_terms() -> None:
    found = paired_test(paired_rows(scored(spelled(False))[0], scored(spelled(True))[0]))
    plain = paired_test(paired_rows(scored(spelled(False, lower=True))[0], scored(spelled(True, lower=True))[0]))
    assert found is not None and found == plain
    assert (found.n_terms, found.n_rows, found.p_value) == (3, 24, 0.25)


def test_two_spellings_do_not_promote_a_model() -> None:
    old, before = scored(spelled(False))
    new, after = scored(spelled(True, model="tuned"))
    sides = guard(1000, 10), guard(1000, 10)
    found = compare(old, new, all_strata(row.id for row in old), *sides, (before, after))
    assert (found.verdict, found.held_out.terms) == ("inconclusive", 3)


def test_a_table_of_changes_has_a_line_per_term_in_the_spelling_of_its_first_row() -> None:
    pairs = paired_rows(scored(spelled(False))[0], scored(spelled(True))[0])
    assert [(line.key, line.rows, line.terms) for line in by_term(pairs)] == [
        ("Heparin", 8, 1), ("Insulin", 8, 1), ("Warfarin", 8, 1)
    ]  # fmt: skip
    assert change_of("all", pairs).terms == 3


def test_a_board_in_two_spellings_is_as_firm_as_in_one() -> None:
    rows = [*spelled(True)[:12], *spelled(False)[12:]]
    mixed = board_of(rows)
    plain = board_of([msgspec.structs.replace(row, term=row.term.lower()) for row in rows])
    assert mixed.headline == plain.headline and mixed.headline.terms == 3
    assert mixed.by_entity_category == plain.by_entity_category
    assert firmness_of(mixed, GateConfig()) == firmness_of(plain, GateConfig())
    assert [line.key.lower() for line in mixed.by_term] == [line.key for line in plain.by_term]


def test_a_board_names_a_term_as_its_smallest_id_spells_it_whatever_the_order_of_the_file() -> None:
    rows = spelled(True)
    there, back = board_of(rows), board_of(rows[::-1])
    assert there == back
    assert [(line.key, line.rows, line.occurrences) for line in there.by_term] == [
        ("Heparin", 8, 8), ("Insulin", 8, 8), ("Warfarin", 8, 8)
    ]  # fmt: skip


def test_a_spelling_is_normalised_once_not_once_a_row() -> None:
    scores, signed = scored(spelled(True) + [hypothesis(f"more{n}", term="Heparin", digest="base") for n in range(100)])
    term_key.cache_clear()
    leaderboard(scores, signed)
    assert term_key.cache_info().misses == 6


def test_a_board_has_a_line_per_category_and_its_pooled_numbers_count_the_word_once() -> None:
    found = board_of(two_categories())
    assert {(line.entity_category, line.key): (line.rows, line.misses) for line in found.by_term} == {
        ("drug", "Insulin"): (6, 0), ("lab", "insulin"): (4, 4), ("drug", "heparin"): (6, 3)
    }  # fmt: skip
    assert found.headline.terms == 2
    firmness = firmness_of(found, BOTH)
    assert (firmness.terms, firmness.occurrences) == (2, 16), "spelled otherwise under the other category"


def test_rows_without_a_term_stay_without_a_line() -> None:
    bare = [Hypothesis(id=f"g{n}", audio_filepath="", text=f"word {n}", pred_text="word", duration=1.0, model="base",
                       model_digest="base") for n in range(3)]  # fmt: skip
    found = board_of([*bare, *spelled(True)[:2]])
    assert [(line.key, line.rows) for line in found.by_term] == [("Heparin", 2)]
    assert (found.headline.terms, found.headline.rows) == (1, 5)


def test_a_ranking_in_two_spellings_counts_terms_not_spellings() -> None:
    systems = [(model, *scored(spelled(model == "tuned", model=model))) for model in ("base", "tuned")]
    found = rank(systems)
    second = found.standings[1]
    assert (second.name, second.n_terms, second.p_value) == ("base", 3, 0.25)
    assert [(group.key, group.rows) for group in found.by_term] == [("Heparin", 8), ("Insulin", 8), ("Warfarin", 8)]


def test_a_ranking_loses_no_row_of_a_term_of_two_categories() -> None:
    rows = two_categories()
    found = rank([("one", *scored(rows)), ("two", *scored(rows))])
    assert [(group.entity_category, group.key, group.rows, [one.misses for one in group.systems])
            for group in found.by_term] == [
        ("lab", "insulin", 4, [4, 4]), ("drug", "heparin", 6, [3, 3]), ("drug", "Insulin", 6, [0, 0])
    ]  # fmt: skip
    assert sum(group.rows for group in found.by_category) == sum(group.rows for group in found.by_term) == 16
    assert found.standings[1].n_terms == 2


@pytest.mark.parametrize("step", [1, -1])
def test_scores_tell_both_categories_of_a_term_whatever_the_order_of_the_file(step: int) -> None:
    found = summarise(two_categories()[::step])
    assert {name: (one.occurrences, one.misses) for name, one in found.by_term.items()} == {
        "heparin": (6, 3), "Insulin (drug)": (6, 0), "insulin (lab)": (4, 4)
    }  # fmt: skip
    assert {name: (one.occurrences, one.misses) for name, one in found.by_category.items()} == {
        "drug": (12, 3), "lab": (4, 4)
    }  # fmt: skip
    line = board_of(two_categories()).headline
    assert (found.terms.ker_low, found.terms.ker_high) == pytest.approx((line.ker_low, line.ker_high))


def test_scores_in_two_spellings_are_those_of_one() -> None:
    rows = [*spelled(True)[:12], *spelled(False)[12:]]
    found = summarise(rows[::-1])
    plain = summarise([msgspec.structs.replace(row, term=row.term.lower()) for row in rows[::-1]])
    assert found.terms == plain.terms and found.by_category == plain.by_category
    assert found.by_term == {name.capitalize(): one for name, one in plain.by_term.items()}


def test_listed_terms_that_the_scoring_normaliser_tells_apart_keep_an_entry_each() -> None:
    listed = [Term(term=term, entity_category=EntityCategory.PROCEDURE) for term in ("post-op", "post op")]
    row = Hypothesis(id="a", audio_filepath="", text="post-op is post op", pred_text="post-op is gone", duration=1.0)
    found = summarise([row], listed, "flywheel-v1")
    assert {name: (one.occurrences, one.misses) for name, one in found.by_term.items()} == {
        "post-op": (1, 0), "post op": (1, 1)
    }  # fmt: skip
    assert (found.terms.occurrences, found.terms.misses) == (2, 1)


@pytest.mark.parametrize("normaliser", ["clinical-v1", "flywheel-v1"])
def test_a_page_has_one_name_for_a_term_whichever_normaliser_scores(normaliser: str) -> None:
    rows = [Subject("2", "heparin lock"), Subject("1", "heparin-lock"), Subject("3", "insulin"), Subject("4", "")]
    first = dict.fromkeys(("heparin-lock", "heparin lock"), "heparin-lock")
    assert ListedTerms(rows, normaliser).names == {**first, "insulin": "insulin"}


def test_a_learning_curve_halves_and_counts_a_term_in_all_its_spellings(tmp_path: Path) -> None:
    rows = [utterance(f"{n}{voice}", text=f"{n} {term} now", term=term, voice=voice)
            for n, term in enumerate(("Heparin", "heparin", "Heparin", "heparin")) for voice in "ab"]  # fmt: skip

    def train(job: TrainingJob, evaluate: Any, on_step: Any) -> None:
        job.output.touch()
        evaluate(None)

    def listen(model: None, audio: dict[str, Path]) -> dict[str, str]:
        return dict.fromkeys(audio, "")

    others = [utterance(f"held{n}", text="the heparin is new", term="heparin") for n in range(2)]
    train_rows, held, replay = (Recordings(part, tmp_path) for part in (rows, others, []))
    config = TrainingConfig(name="plain")
    found = learning_curve(tmp_path / "base", config, train_rows, held, replay, tmp_path, train, listen)
    assert [(point.part, point.sentences, point.terms) for point in found.points] == [
        ("a quarter", 2, 1), ("half of the sentences", 2, 1), ("half of the voices", 4, 1), ("all", 4, 1)
    ]  # fmt: skip


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["clinical-asr", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
    return int(stop.value.code or 0), capsys.readouterr().out


def general(path: Path, model: str) -> Path:
    rows = [Hypothesis(id=f"g{n}", audio_filepath=f"g{n}.wav", text=f"a plain sentence number {n}", duration=1.0,
                       pred_text=f"a plain sentence number {n}", model=model, model_digest=model)
            for n in range(300)]  # fmt: skip
    write_rows(path, rows)
    return path


@pytest.mark.parametrize("lower", [False, True])
def test_the_comparison_command_says_inconclusive_over_three_terms_in_any_spelling(
    lower: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = spelled(False, lower=lower), spelled(True, lower=lower, model="tuned")
    write_rows(tmp_path / "before.jsonl", before)
    write_rows(tmp_path / "after.jsonl", after)
    held = [{**to_dict(row), "stratum": "new sentence"} for row in before]
    (tmp_path / "train.jsonl").touch()
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
    code, out = command(
        capsys, "comparison", "--before", tmp_path / "before.jsonl", "--after", tmp_path / "after.jsonl",
        "--split-folder", tmp_path, "--guard-before", general(tmp_path / "g0.jsonl", "base"),
        "--guard-after", general(tmp_path / "g1.jsonl", "tuned"), "--output-folder", tmp_path / "out",
    )  # fmt: skip
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (code, found["verdict"], found["statistics"]["n_terms"]) == (4, "inconclusive", 3), out
    assert found["statistics"]["p_value"] == 0.25 and "INCONCLUSIVE" in out


def test_the_commands_lose_no_row_of_a_term_of_two_categories(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        write_rows(tmp_path / f"{name}.jsonl", [msgspec.structs.replace(row, model=name) for row in two_categories()])
    files = [tmp_path / f"{name}.jsonl" for name in ("one", "two")]
    assert command(capsys, "leaderboard", *files, "--output-folder", tmp_path)[0] == 0
    groups = json.loads((tmp_path / "ranking.json").read_text())["by_term"]
    assert {(one["entity_category"], one["key"]): one["rows"] for one in groups} == {
        ("drug", "Insulin"): 6, ("lab", "insulin"): 4, ("drug", "heparin"): 6
    }  # fmt: skip
    assert command(capsys, "scores", files[0], "--json", tmp_path / "s.json")[0] == 0
    found = json.loads((tmp_path / "s.json").read_text())
    assert {name: one["occurrences"] for name, one in found["by_term"].items()} == {
        "heparin": 6, "Insulin (drug)": 6, "insulin (lab)": 4
    }  # fmt: skip
    assert {name: one["misses"] for name, one in found["by_category"].items()} == {"drug": 3, "lab": 4}
