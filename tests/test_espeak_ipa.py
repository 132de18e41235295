"""IPA to the engine's phonemes and back: what was asked for is what the library traces while it speaks."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinical_asr.engines.espeak import Espeak, Voice
from clinical_asr.engines.espeak_ipa import (
    ALLOPHONES,
    CONSONANTS,
    RHOTIC,
    VOWELS,
    agrees,
    mnemonics,
    spoken,
)
from clinical_asr.ipa import PhonemeError
from clinical_asr.terms import read_terms

pytest.importorskip("espeakng_loader")
ACCENTS = sorted(ALLOPHONES)


def traced(ipa: str, language: str) -> str:
    return Espeak().trace(f"[[{mnemonics(ipa)}]]", Voice(language))


@pytest.mark.parametrize("language", ACCENTS)
def test_every_vowel_comes_back_as_the_table_says(language: str) -> None:
    """Between plain consonants no rule of the accent is at work: the trace is equal, not merely in agreement."""
    wrong = {}
    for vowel in [*VOWELS, *RHOTIC]:
        heard = traced(f"ˈb{vowel}p", language)
        if heard != f"bˈ{ALLOPHONES[language].get(vowel, vowel)}p" and vowel != "ɐ":  # stressed ɐ is contextual
            wrong[vowel] = heard
    assert not wrong


@pytest.mark.parametrize("language", ACCENTS)
def test_every_consonant_comes_back_as_the_table_says(language: str) -> None:
    wrong = {}
    for consonant in [*CONSONANTS, "ɹ"]:
        said = ALLOPHONES[language].get(consonant, consonant)
        heard = [traced(ipa, language) for ipa in (f"ˈ{consonant}ɛp", f"pɛˈ{consonant}iːp", f"ˈdaɪ{consonant}")]
        if heard != [f"{said}ˈɛp", f"pɛ{said}ˈiːp", f"dˈaɪ{said}"]:
            wrong[consonant] = heard
    assert not wrong


@pytest.mark.parametrize("language", ACCENTS)
def test_every_sound_agrees_in_every_place(language: str) -> None:
    vowels = itertools.product(("ˈbV", "bVˈpʌp", "ˈpʌbVpə", "ˈV.ɹi", "ˈpVɹ", "ˌbVpəˈVl"), [*VOWELS, *RHOTIC])
    consonants = itertools.product(("ˈpʌCə", "ˈɛCn̩", "ˈpɪCp ˈCʌp"), [*CONSONANTS, "ɹ"])
    wrong = []
    for frame, sound in itertools.chain(vowels, consonants):
        ipa = frame.replace("V", sound).replace("C", sound)
        heard = traced(ipa, language)
        if not agrees(ipa, heard, language):
            wrong.append((ipa, mnemonics(ipa), spoken(ipa, language), heard))
    assert not wrong


syllables = st.builds(
    lambda onset, nucleus, coda: onset + nucleus + coda,
    st.sampled_from(["ɹ", "stɹ", "t", "j", *CONSONANTS]),
    st.sampled_from([*VOWELS, *RHOTIC]),
    st.sampled_from(["", "", "", "ɹ", "t", "ks", *CONSONANTS]),
)
words = st.builds(
    lambda parts, marks: "".join(mark + part for mark, part in zip(["ˈ", *marks], parts, strict=False)),
    st.lists(syllables, min_size=1, max_size=5),
    st.lists(st.sampled_from(["", "ˈ", "ˌ", "."]), min_size=5, max_size=5),
)


@given(st.lists(words, min_size=1, max_size=2).map(" ".join), st.sampled_from(ACCENTS))
@settings(max_examples=300, deadline=None)
def test_any_word_is_said_as_it_is_written(ipa: str, language: str) -> None:
    heard = traced(ipa, language)
    assert agrees(ipa, heard, language), (ipa, mnemonics(ipa), spoken(ipa, language), heard)


@pytest.mark.parametrize("language", ACCENTS)
def test_the_engines_own_reading_of_clinical_terms_goes_in_and_comes_out(language: str) -> None:
    """A person may take over what the engine says and change one letter: all it writes must be readable."""
    lists = sorted((Path(__file__).parents[1] / "examples").rglob("*.csv"))
    terms = [
        term.term for path in lists if path.read_text("utf-8").startswith("term,entity") for term in read_terms(path)
    ]
    assert len(terms) >= 40
    own = {term: Espeak().phonemes(term, Voice(language)) for term in terms}
    assert not [(term, ipa) for term, ipa in own.items() if not agrees(ipa, traced(ipa, language), language)]


@pytest.mark.parametrize(
    ("ipa", "named"),
    [
        ("ˈhɛpərɪn", "'r' at character 6.*write ɹ"),
        ("ˈtyː", "'yː' at character 3"),
        ("ˈtæː", "'æː' at character 3"),
        ("ˈbɛ̃d", "at character 3"),
        ("bæˈ", "'ˈ' at character 3.*vowel must follow"),
        ("ˈˌbæ", "'ˈ' at character 1.*vowel must follow"),
        ("ˈbæ pst", "'pst' has no vowel"),
        ("bædə", "no syllable is stressed"),
        ("ˌbædə", "no syllable is stressed"),
        ("", "is empty"),
        ("//", "is empty"),
        ("ˈbæ1", "'1' at character 4"),
        ("ˈbiːb:", "':' at character 6.*length mark"),
        ("'bi", "stress mark ˈ"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name_and_place(ipa: str, named: str) -> None:
    with pytest.raises(PhonemeError, match=named):
        mnemonics(ipa)


@given(st.text(alphabet=[*"".join([*VOWELS, *CONSONANTS]), *"ˈˌ. rː\u0303\u0361y'"], max_size=12))
def test_anything_is_said_or_refused(ipa: str) -> None:
    try:
        said = mnemonics(ipa)
    except PhonemeError:
        return
    assert said.count("'") >= 1 and "]]" not in said


def test_tie_bars_slashes_and_both_letters_for_g_are_the_same() -> None:
    assert mnemonics("/ˈt͡ʃɡd͡ʒi/") == mnemonics("ˈtʃgdʒi") == mnemonics("ˈʧɡʤi")
    assert mnemonics("ˈnʌt.ʃɛl") != mnemonics("ˈnʌtʃɛl")
