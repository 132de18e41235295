"""The term list is read without guessing and grows without loss; each refusal names the line and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinical_asr.errors import ConfigError, FlywheelError, ManifestError
from clinical_asr.records import EntityCategory, Term
from clinical_asr.terms import add_terms, category_of, in_quotes, read_terms


def written(folder: Path, *lines: str) -> Path:
    path = folder / "terms.csv"
    path.write_text("\n".join(("term,entity_category", *lines)) + "\n", encoding="utf-8")
    return path


def test_terms_are_read_in_order_and_further_columns_survive(tmp_path: Path) -> None:
    path = tmp_path / "terms.csv"
    path.write_bytes("\ufeffterm,entity_category,ward\r\n cefazolin ,drug,4B\r\nbrachial plexus,anatomy,\r\n".encode())
    terms = read_terms(path)
    assert [(term.term, term.entity_category) for term in terms] == [
        ("cefazolin", EntityCategory.DRUG),
        ("brachial plexus", EntityCategory.ANATOMY),
    ]
    assert terms[0].extra == {"ward": "4B"}


def test_a_header_may_be_written_in_capitals_and_a_term_in_a_word_processors_quotes(tmp_path: Path) -> None:
    path = tmp_path / "terms.csv"
    path.write_text("Term,Entity_Category ,Ward\n“apixaban”,drug,4B\nnurses’,role,\n", encoding="utf-8")
    first, second = read_terms(path)
    assert (first.term, first.extra, second.term) == ("apixaban", {"Ward": "4B"}, "nurses’")
    assert in_quotes(path) == ["apixaban"]
    add_terms(path, [term("«heparin»")])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines == ["term,entity_category,Ward", "apixaban,drug,4B", "nurses’,role,", "heparin,drug,"]
    assert in_quotes(path) == []


@pytest.mark.parametrize(
    ("category", "mend"),
    [
        ("medication", "write drug"),
        ("surgery", "write procedure"),
        ("organ", "write anatomy"),
        ("disease", "write condition"),
        ("Diagnosis", "write condition"),
        ("test", "write lab"),
        ("staff", "write role"),
        ("DRUG", "write drug"),
        ("colour", "use one of: drug, procedure, anatomy, condition, lab, role"),
    ],
)
def test_a_seventh_category_is_refused_with_the_one_that_fits(tmp_path: Path, category: str, mend: str) -> None:
    with pytest.raises(ManifestError, match=mend) as caught:
        read_terms(written(tmp_path, "cefazolin,drug", f"heparin,{category}"))
    assert (caught.value.line, caught.value.field) == (3, "entity_category")


@pytest.mark.parametrize(
    ("lines", "line", "why"),
    [
        (["a1,drug", "", "", "A1,drug"], 5, "stands already in line 2"),
        (["cefazolin,drug", ",drug"], 3, "is empty"),
        (["...,drug"], 2, "has no letter"),
        (["cefazolin,drug", "“cefazolin”,drug"], 3, "'cefazolin' stands already in line 2"),
        (["ab\x07c,drug"], 2, "control character"),
        (["cefazolin,drug,extra,columns"], 2, "number of columns"),
        (["cefazolin"], 2, "number of columns"),
        ([], None, "holds no terms"),
    ],
)
def test_refusals_name_the_line(tmp_path: Path, lines: list[str], line: int | None, why: str) -> None:
    with pytest.raises(ManifestError, match=why) as caught:
        read_terms(written(tmp_path, *lines))
    assert caught.value.line == line


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"word,kind\na,drug\n", b"term,entity_category\n" + b"x" * 200_000 + b",drug\n"]
)
def test_what_is_no_term_list_is_a_typed_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "terms.csv"
    path.write_bytes(content)
    with pytest.raises(FlywheelError):
        read_terms(path)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_no_file_is_a_typed_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(FlywheelError):
        read_terms(tmp_path / name)


def term(name: str, category: str = "drug", **extra: str) -> Term:
    return Term(term=name, entity_category=EntityCategory(category), extra=extra)


def test_adding_keeps_order_and_further_columns_of_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "terms.csv"
    path.write_bytes(b"\xef\xbb\xbfward,term,entity_category\r\n4B,cefazolin,drug\r\n")
    add_terms(path, [term("insulin, regular", number="singular"), term('heparin "low dose"'), term("ferritin", "lab")])
    assert path.read_text(encoding="utf-8").splitlines() == [
        "term,entity_category,ward,number",
        "cefazolin,drug,4B,",
        '"insulin, regular",drug,,singular',
        '"heparin ""low dose""",drug,,',
        "ferritin,lab,,",
    ]
    assert [one.term for one in read_terms(path)] == ["cefazolin", "insulin, regular", 'heparin "low dose"', "ferritin"]


@pytest.mark.parametrize("refused", ["CEFAZOLIN", "Heparin", "  ", "a\nb", "...", "cefazolin "])
def test_nothing_is_added_if_one_term_is_refused(tmp_path: Path, refused: str) -> None:
    path = written(tmp_path, "cefazolin,drug")
    before = path.read_bytes()
    with pytest.raises(ManifestError):
        add_terms(path, [term("heparin"), term(refused)])
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["terms.csv"]


def test_a_list_is_made_where_there_is_none_or_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    for path in (tmp_path / "empty.csv", tmp_path / "new" / "terms.csv"):
        add_terms(path, [term("cefazolin")])
        assert path.read_text() == "term,entity_category\ncefazolin,drug\n"


def test_a_full_disk_leaves_the_old_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "cefazolin,drug")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("csv.DictWriter.writerows", full)
    with pytest.raises(OSError, match="No space"):
        add_terms(path, [term("heparin")])
    assert path.read_text() == "term,entity_category\ncefazolin,drug\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["terms.csv"]


def test_a_seventh_category_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"write drug for Medication.*two hospitals"):
        category_of("Medication")
