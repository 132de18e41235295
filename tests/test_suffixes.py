"""What endings suggest: sayable, another reading than the engine's own, offered and never applied."""

from __future__ import annotations

import pytest

from clinical_asr.cli.engines import own_ipa, require_sayable
from clinical_asr.cli.sounds import suggested
from clinical_asr.engines.espeak_ipa import mnemonics
from clinical_asr.ipa import PhonemeError
from clinical_asr.pronunciations import resolve
from clinical_asr.records import Term
from clinical_asr.suffixes import SUFFIXES, candidates

pytest.importorskip("espeakng_loader")
ASKED = (
    "mycin prazole statin sartan azole cillin parin mab nib pril olol caine oxacin cycline dipine gliptin gliflozin"
    " tidine setron triptan floxacin vir zumab ximab ectomy otomy itis scopy plasty"
)


def test_the_endings_are_there_and_the_engine_can_say_each() -> None:
    assert set(ASKED.split()) <= set(SUFFIXES)
    for ending, ipa in SUFFIXES.items():
        require_sayable(("ˈtɛ" if "ˈ" not in ipa else "tə") + ipa), ending


@pytest.mark.parametrize(
    ("term", "ipa"),
    [
        ("pantoprazole", "pˌæntoʊˈpɹeɪzoʊl"),
        ("amoxicillin", "ˌæmɑːksiˈsɪlɪn"),
        ("sitagliptin", "sˌiːɾəˈɡlɪptɪn"),
        ("lidocaine", "lˈaɪdoʊkeɪn"),
        ("trastuzumab", "tɹˌæstuːˈzuːmæb"),
        ("Pantoprazole sodium", "pˌæntoʊˈpɹeɪzoʊl"),
    ],
)
def test_the_stem_is_the_engines_and_the_ending_ours(term: str, ipa: str) -> None:
    found = suggested(term)
    if " " in term:
        assert not found  # the ending of the term is not the ending of its first word
    else:
        assert found[0].ipa == ipa and found[0].why.startswith("-")


@pytest.mark.parametrize("term", ["mab", "amab", "", "heparinized", "5-itis", "the"])
def test_nothing_is_made_of_nothing(term: str) -> None:
    assert suggested(term) == []


def test_what_the_engine_cannot_say_is_left_out() -> None:
    def refuses(ipa: str) -> None:
        raise PhonemeError("no")

    assert candidates("pantoprazole", own_ipa, mnemonics) and not candidates("pantoprazole", own_ipa, refuses)


def test_a_candidate_is_never_applied() -> None:
    term = Term(term="pantoprazole", entity_category="drug")  # type: ignore[arg-type]
    assert resolve([term])[0].ipa == ""


def test_what_is_said_by_rule_already_is_no_suggestion() -> None:
    assert suggested("cholecystectomy") == []
