"""Scores: counts per row, foreign transcripts, term lists; and bad input in one line that names the place."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from board import hypothesis, rows
from clinical_asr.errors import FlywheelError, ManifestError, ScoringError
from clinical_asr.jsonl import read_rows, write_rows
from clinical_asr.records import EntityCategory, Hypothesis, Stratum, Term
from clinical_asr.scores import iter_scores, score, signature
from clinical_asr.summary import summarise
from clinical_asr.tally import Score, Tally
from clinical_asr.transcripts import read_pairs, read_transcripts

replace = msgspec.structs.replace


def plain(row_id: str, said: str, heard: str) -> Hypothesis:
    return Hypothesis(id=row_id, audio_filepath="", text=said, pred_text=heard, duration=1.0)


def test_a_row_is_counted_after_normalisation() -> None:
    row = replace(hypothesis("a"), text="Give cefazolin, now!", pred_text="give cefa zolin now")
    (found,) = score([row])
    words = found.tally.words
    assert (words.substitutions, words.deletions, words.insertions, words.length) == (1, 0, 1, 3)
    assert (found.tally.ker, found.tally.ser, found.tally.wer) == (1.0, 1.0, 2 / 3)
    assert (found.reference, found.hypothesis) == (row.text, row.pred_text)


def test_the_normaliser_changes_the_score_and_its_signature() -> None:
    row = replace(hypothesis("a"), text="cefazolin 2.5 mg", pred_text="cefazolin 25 mg")
    assert score([row], "flywheel-v1")[0].tally.wer == 0
    assert score([row], "clinical-v1")[0].tally.wer > 0  # type: ignore[operator]
    assert signature([row], "flywheel-v1").differences(signature([row])) == ["normaliser: flywheel-v1 / clinical-v1"]


def test_rows_add_up_in_any_order_and_chunking() -> None:
    lines = rows(5000, 777, terms=13)
    total = sum((s.tally for s in iter_scores(lines)), Tally.zero())
    turned = sum((s.tally for s in iter_scores(reversed(lines))), Tally.zero())
    assert (total.rows, total.wrong_rows, total.keywords.misses) == (5000, 777, 777)
    assert total.words == turned.words and total.keywords == turned.keywords and total.characters == turned.characters


def test_the_stratum_of_a_validation_row_comes_along_and_an_unknown_one_is_refused() -> None:
    row = replace(hypothesis("a"), extra={"stratum": "new voice", "ward": "4B"})
    (found,) = score([row])
    assert found.stratum is Stratum.NEW_VOICE and found.extra == {"ward": "4B"}
    with pytest.raises(ScoringError, match=r"row a.*stratum 'old'"):
        score([replace(row, extra={"stratum": "old"})])


def test_scores_survive_a_file(tmp_path: Path) -> None:
    found = score(rows(7, 3))
    write_rows(tmp_path / "s.jsonl", found)
    assert read_rows(tmp_path / "s.jsonl", Score) == found


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([hypothesis("a"), hypothesis("a")], "row a .*stands twice"),
        ([hypothesis("")], "row .*has no id"),
        ([replace(hypothesis("a"), text=" . ")], "row a .*reference is empty"),
        ([replace(hypothesis("a"), term="heparin")], "row a .*term 'heparin' is not in its reference"),
        ([replace(hypothesis("a"), term="")], "row a .*term '' is empty"),
        ([replace(hypothesis("a"), term="cef")], "row a .*term 'cef' is not in"),
    ],
)
def test_a_row_without_meaning_is_refused_by_name(lines: list[Hypothesis], why: str) -> None:
    with pytest.raises(ScoringError, match=why) as caught:
        score(lines)
    assert "\n" not in str(caught.value)


def test_an_empty_hypothesis_is_all_deletions_not_an_error() -> None:
    (found,) = score([replace(hypothesis("a"), pred_text="")])
    assert found.tally.words.deletions == 4 and found.tally.ker == 1


def test_mixed_models_and_no_rows_have_no_signature() -> None:
    with pytest.raises(ScoringError, match=r"several models.*base .aa.: 1 rows and base .bb.: 1 rows"):
        signature([hypothesis("a"), hypothesis("b", digest="bb")])
    with pytest.raises(ScoringError, match=r"no hypotheses"):
        signature([])
    with pytest.raises(FlywheelError, match=r"unknown normaliser"):
        signature([hypothesis("a")], "clinical-v9")


def test_the_signature_knows_the_rows_but_not_their_order() -> None:
    lines = rows(5, 1)
    assert signature(lines) == signature(lines[::-1])
    assert signature(lines).manifest_digest != signature(lines[1:]).manifest_digest


def test_a_long_transcript_has_as_many_character_errors_as_a_short_cut_would_find() -> None:
    said = " ".join(f"word{i % 97} and more" for i in range(400))
    heard = said.replace("word7", "ward").replace("more", "mor", 30).replace("and", "andy", 11)
    (found,) = score([plain("a", said, heard)])
    from clinical_asr.metrics import character_errors

    assert len(said) > 4000 and found.tally.characters.errors == character_errors(said, heard).errors > 0


# --- transcripts of other tools ---


def write(path: Path, *objects: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in objects), encoding="utf-8")
    return path


def test_nemo_lines_without_ids_get_one_from_their_content(tmp_path: Path) -> None:
    lines = [{"audio_filepath": f"{i}.wav", "text": "a b", "pred_text": "a c", "duration": None} for i in range(3)]
    found = read_transcripts(write(tmp_path / "n.jsonl", *lines))
    again = read_transcripts(write(tmp_path / "m.jsonl", *reversed(lines)))
    assert len({row.id for row in found}) == 3
    assert {row.audio_filepath: row.id for row in found} == {row.audio_filepath: row.id for row in again}
    assert summarise(found).wer == 0.5


def test_rows_cut_from_one_file_by_offset_have_different_ids(tmp_path: Path) -> None:
    lines = [{"audio_filepath": "day.wav", "offset": i, "text": "a", "pred_text": "a"} for i in range(2)]
    assert len({row.id for row in read_transcripts(write(tmp_path / "n.jsonl", *lines))}) == 2


def test_our_own_hypotheses_are_read_as_they_are(tmp_path: Path) -> None:
    lines = rows(4, 1)
    write_rows(tmp_path / "h.jsonl", lines)
    assert read_transcripts(tmp_path / "h.jsonl") == lines


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"audio_filepath": "a.wav", "text": "a"}, "line 2, pred_text: is missing"),
        ({"audio_filepath": "a.wav", "pred_text": "a"}, "line 2, text: is missing"),
        ({"text": "a", "pred_text": "a"}, "line 2, id: is missing"),
        ({"id": "x", "text": "a", "pred_text": "a"}, "line 2, id: x stands on line 1 already"),
        ({"id": "y", "text": "a", "pred_text": "a", "entity_category": "food"}, "line 2, entity_category: .*drug"),
        ({"id": "y", "text": 7, "pred_text": "a"}, "line 2, text: expected"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, object], why: str) -> None:
    path = write(tmp_path / "h.jsonl", {"id": "x", "text": "a", "pred_text": "a"}, line)
    with pytest.raises(ManifestError, match=why) as caught:
        read_transcripts(path)
    assert "\n" not in str(caught.value)


def test_folders_pair_by_stem(tmp_path: Path) -> None:
    for side, suffix, texts in (
        ("ref", ".txt", {"b": "two words", "a": "one"}),
        ("hyp", ".hyp", {"a": "one", "b": "two"}),
    ):
        (tmp_path / side).mkdir()
        for stem, text in texts.items():
            (tmp_path / side / f"{stem}{suffix}").write_text(text)
    found = read_pairs(tmp_path / "ref", tmp_path / "hyp")
    assert [(row.id, row.text, row.pred_text) for row in found] == [("a", "one", "one"), ("b", "two words", "two")]
    (tmp_path / "hyp" / "b.hyp").unlink()
    with pytest.raises(ScoringError, match=r"hyp: lacks 1 of the other side's rows: b"):
        read_pairs(tmp_path / "ref", tmp_path / "hyp")


def test_jsonl_files_pair_by_id_whatever_their_order(tmp_path: Path) -> None:
    reference = write(tmp_path / "r.jsonl", {"id": "a", "text": "one"}, {"id": "b", "text": "two"})
    heard = write(tmp_path / "h.jsonl", {"id": "b", "pred_text": "two"}, {"id": "a", "pred_text": "won"})
    assert [(row.id, row.pred_text) for row in read_pairs(reference, heard)] == [("a", "won"), ("b", "two")]
    write(heard, {"id": "b", "text": "two"}, {"id": "b", "text": "two"})
    with pytest.raises(ManifestError, match=r"h.jsonl line 2, id: b stands twice"):
        read_pairs(reference, heard)


def test_plain_text_files_pair_line_by_line_if_they_are_equally_long(tmp_path: Path) -> None:
    left, right = tmp_path / "r.txt", tmp_path / "h.txt"
    left.write_text("\ufeffone\n\ntwo words\n", encoding="utf-8")
    right.write_text("won\r\n\r\ntwo words", encoding="utf-8", newline="")
    found = read_pairs(left, right)
    assert [(row.id, row.pred_text.strip()) for row in found] == [("line 1", "won"), ("line 3", "two words")]
    assert summarise(found).wer == pytest.approx(1 / 3)
    right.write_text("won\n")
    with pytest.raises(ScoringError, match=r"3 and 1 lines: they are not aligned"):
        read_pairs(left, right)


def test_an_empty_reference_line_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("one\n\n")
    (tmp_path / "h.txt").write_text("one\ntwo\n")
    with pytest.raises(ManifestError, match=r"r\.txt line 2: is empty, but something was heard; .*h\.txt too"):
        summarise(read_pairs(tmp_path / "r.txt", tmp_path / "h.txt"))


def test_text_that_is_not_utf8_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_bytes(b"one\ntw\xff\n")
    (tmp_path / "h.txt").write_text("one\ntwo\n")
    with pytest.raises(ManifestError, match=r"r\.txt line 2: is not UTF-8"):
        read_pairs(tmp_path / "r.txt", tmp_path / "h.txt")


def test_sides_of_different_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_text("one\n")
    write(tmp_path / "r.jsonl", {"id": "a", "text": "one"})
    with pytest.raises(ScoringError, match=r"JSONL and the other is plain text"):
        read_pairs(tmp_path / "r.jsonl", tmp_path / "h.txt")
    with pytest.raises(ScoringError, match=r"a folder and the other is a file"):
        read_pairs(tmp_path, tmp_path / "h.txt")


# --- a list of terms ---

LISTED = [
    Term(term="cefazolin", entity_category=EntityCategory.DRUG),
    Term(term="heparin", entity_category=EntityCategory.DRUG),
    Term(term="HbA1c", entity_category=EntityCategory.LAB, extra={"variants": "hemoglobin A1c; A1c"}),
    Term(term="femur", entity_category=EntityCategory.ANATOMY),
]


def test_every_occurrence_of_every_listed_term_counts() -> None:
    said = "Give cefazolin and heparin. Repeat cefazolin. The HbA1c is high."
    heard = "give cefazolin and happy repeat cefa zolin the hemoglobin a1c is high in the femur"
    found = summarise([plain("consult", said, heard)], LISTED)
    assert (found.terms.occurrences, found.terms.hits, found.terms.misses) == (4, 1, 3)
    assert found.ker == 0.75 and found.terms.precision == 0.5 and found.terms.false_insertions == 1
    assert (found.by_term["cefazolin"].occurrences, found.by_term["cefazolin"].hits) == (2, 1)
    assert found.by_term["femur"].false_insertions == 1 and found.by_term["femur"].ker is None
    assert found.by_category["drug"].ker == pytest.approx(2 / 3)
    assert (found.by_term["HbA1c"].ker, found.by_term["HbA1c"].variant_ker) == (1.0, 0.0)
    assert {(c.term, c.heard) for c in found.confusions} >= {("heparin", "happy"), ("cefazolin", "cefa zolin")}


def test_the_summary_has_what_machines_read() -> None:
    document = msgspec.json.decode(msgspec.json.encode(summarise([plain("a", "give heparin", "give heparin")], LISTED)))
    assert {"wer", "cer", "ser", "ker", "rows", "words", "terms", "by_category", "by_term"} <= document.keys()
    wanted = {"occurrences", "hits", "misses", "false_insertions", "precision"}
    for totals in (document["terms"], document["by_category"]["drug"], document["by_term"]["heparin"]):
        assert wanted <= totals.keys()
    assert document["terms"] | {"hits": 1, "precision": 1.0} == document["terms"]


def test_without_a_list_the_rows_own_terms_count() -> None:
    found = summarise(rows(20, 5, terms=4))
    assert (found.ker, found.terms.occurrences, found.by_category["drug"].misses) == (0.25, 20, 5)
    assert summarise([plain("a", "one", "one")]).ker is None


def test_a_term_listed_twice_is_refused() -> None:
    with pytest.raises(ScoringError, match=r"listed twice"):
        summarise([plain("a", "one", "one")], [*LISTED, LISTED[0]])


def test_no_rows_are_refused() -> None:
    with pytest.raises(ScoringError, match=r"no rows"):
        summarise([])


def test_a_long_consultation_is_scored_in_well_under_a_second() -> None:
    import random
    import time

    draw = random.Random(1)
    terms = [Term(term=f"drug{i}", entity_category=EntityCategory.DRUG) for i in range(50)]
    said = [draw.choice([f"word{draw.randrange(2000)}"] * 20 + [f"drug{draw.randrange(50)}"]) for _ in range(10_000)]
    heard = [word if draw.random() > 0.1 else f"word{draw.randrange(2000)}" for word in said]
    start = time.perf_counter()
    found = summarise([plain("long", " ".join(said), " ".join(heard))], terms)
    assert time.perf_counter() - start < 2  # about 0.3 s on an idle core; the tests share theirs
    assert found.cer is not None and 0.03 < found.cer < 0.1
    assert found.terms.occurrences > 300 and found.ker == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize(
    ("field", "value", "mend"),
    [("text", 5, "write it as text, in quotes"), ("duration", "4", "write it as a number, without quotes")],
)
def test_a_field_of_the_wrong_type_is_named_with_its_mend(tmp_path: Path, field: str, value: object, mend: str) -> None:
    path = tmp_path / "h.jsonl"
    row = {"id": "a", "audio_filepath": "a.wav", "duration": 4.0, "text": "a b", "pred_text": "a b", field: value}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(ManifestError) as refused:
        read_transcripts(path)
    assert str(refused.value).startswith(f"{path} line 1, {field}: expected ")
    assert refused.value.mend == mend


def test_a_list_of_another_benchmark_is_refused_by_its_file(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from clinical_asr.cli import app

    write_rows(tmp_path / "h.jsonl", rows(4, 1))
    (tmp_path / "other.csv").write_text("term,entity_category\nzzz,drug\n", encoding="utf-8")
    found = CliRunner().invoke(app, ["leaderboard", str(tmp_path / "h.jsonl"), "--terms", str(tmp_path / "other.csv")])
    assert isinstance(found.exception, ScoringError)
    assert found.exception.where == str(tmp_path / "other.csv")
    assert not (tmp_path / "leaderboard_cycle1.json").exists()
