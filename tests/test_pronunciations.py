"""A person's word comes first, then dictionaries, then the engine's own rules."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from clinical_asr.errors import ManifestError
from clinical_asr.pronunciations import Override, append_override, read_overrides, resolve, ssml
from clinical_asr.records import EntityCategory, IpaSource, Pronunciation, Term

TERMS = [Term(term=name, entity_category=EntityCategory.DRUG) for name in ("Cefazolin", "heparin", "apixaban")]
HEADER = "term,ipa,verified_by,verified_at,notes\n"


def override(term: str, ipa: str) -> Override:
    return Override(term=term, ipa=ipa, verified_by="A. Person", verified_at="2026-01-02")


def dictionary(term: Term) -> Pronunciation | None:
    known = term.term in ("Cefazolin", "heparin")
    return Pronunciation(term=term.term, ipa_source=IpaSource.MERRIAM_WEBSTER, ipa="x") if known else None


def test_the_chain_is_asked_in_order() -> None:
    said = resolve(TERMS, [override("cefazolin", "sɛˈfæzəlɪn")], [dictionary])
    assert [(p.term, p.ipa_source.value, p.ipa) for p in said] == [
        ("Cefazolin", "override", "sɛˈfæzəlɪn"),
        ("heparin", "merriam-webster", "x"),
        ("apixaban", "g2p", ""),
    ]


def test_a_later_line_corrects_an_earlier_one() -> None:
    assert resolve(TERMS[:1], [override("cefazolin", "a"), override("CEFAZOLIN", "/b/")])[0].ipa == "b"


def test_overrides_are_read_and_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "pronunciation_overrides.csv"
    assert read_overrides(path) == []
    path.write_text(HEADER + "heparin,ˈhɛpəɹɪn,A. Person,2026-01-02,heard twice\n", encoding="utf-8")
    assert read_overrides(path)[0].ipa == "ˈhɛpəɹɪn"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("heparin,,A,2026-01-02,", "ipa"),
        ("heparin,ˈhɛpəɹɪn,,2026-01-02,", "verified_by"),
        ("heparin,ˈhɛpəɹɪn,A,,", "verified_at"),
        ("heparin,HEP-uh-rin,A,2026-01-02,", "ipa"),
        ("heparin,<x>,A,2026-01-02,", "ipa"),
    ],
)
def test_nobody_vouches_for_half_a_line(tmp_path: Path, line: str, field: str) -> None:
    path = tmp_path / "pronunciation_overrides.csv"
    path.write_text(HEADER + line + "\n", encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        read_overrides(path)
    assert (caught.value.field, caught.value.line) == (field, 2)


def test_ssml_wraps_whole_words_the_longest_first_and_escapes() -> None:
    marked = ssml("Heparin lock & heparin, not heparins", {"heparin": 'h"1', "heparin lock": "l<2"})
    root = ElementTree.fromstring(f"<speak>{marked}</speak>")
    assert [(word.text, word.get("ph")) for word in root] == [("Heparin lock", "l<2"), ("heparin", 'h"1')]
    assert "".join(root.itertext()) == "Heparin lock & heparin, not heparins"
    assert ssml("a < b", {}) == "a &lt; b"


def test_a_header_in_capitals_gets_its_lines_whole(tmp_path: Path) -> None:
    path = tmp_path / "pronunciation_overrides.csv"
    path.write_text("Ward,Term,IPA,Verified_By,Verified_At,Notes\n", encoding="utf-8")
    append_override(path, override("heparin", "ˈhɛpəɹɪn"))
    (fix,) = read_overrides(path)
    assert (fix.term, fix.ipa) == ("heparin", "ˈhɛpəɹɪn") and path.read_text(encoding="utf-8").startswith("Ward,Term,")


def test_overrides_are_only_ever_added_to(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "pronunciation_overrides.csv"
    append_override(path, override('5-FU, "IV"', "ˌfaɪvɛfˈjuː"))
    first = path.read_bytes()
    append_override(path, override("heparin", "ˈhɛpəɹɪn"))
    append_override(path, override("HEPARIN", "ˈhɛpɹɪn"))
    assert path.read_bytes().startswith(first)
    assert [line.term for line in read_overrides(path)] == ['5-FU, "IV"', "heparin", "HEPARIN"]
    assert resolve(TERMS[1:2], read_overrides(path))[0].ipa == "ˈhɛpɹɪn"


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b""])
def test_a_file_keeps_its_own_columns_and_gets_the_newline_it_lacks(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "o.csv"
    mine = "notes,ward,verified_at,verified_by,term,ipa\nx,4B,2026-01-02,A,warfarin,ˈwɔːɹfəɹɪn"
    path.write_bytes(start + mine.encode())
    append_override(path, override("heparin", "ˈhɛpəɹɪn"))
    assert path.read_bytes().startswith(start + mine.encode() + b"\n")
    assert [(line.term, line.ipa, line.extra["ward"]) for line in read_overrides(path)] == [
        ("warfarin", "ˈwɔːɹfəɹɪn", "4B"),
        ("heparin", "ˈhɛpəɹɪn", ""),
    ]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (override("heparin", "ˈhɛpərɪn"), "write ɹ"),
        (override("heparin", ""), "is empty"),
        (override(" ", "ˈhɛpəɹɪn"), "is empty"),
        (override("hep\narin", "ˈhɛpəɹɪn"), "line break"),
    ],
)
def test_a_line_nobody_can_use_is_not_written(tmp_path: Path, line: Override, named: str) -> None:
    with pytest.raises(ManifestError, match=named):
        append_override(tmp_path / "o.csv", line)
    (tmp_path / "o.csv").write_text("term,ipa\na,b\n")
    with pytest.raises(ManifestError):
        append_override(tmp_path / "o.csv", override("heparin", "ˈhɛpəɹɪn"))
    assert (tmp_path / "o.csv").read_text() == "term,ipa\na,b\n"
