"""Stage pronunciations: who says how a term sounds. A chain of resolvers; the first that knows the term wins.

Order: what a person has verified, then dictionaries, then the speech engine's own rules (``g2p``), which always answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clinical_asr.errors import FlywheelError
from clinical_asr.ipa import PhonemeError
from clinical_asr.overrides import Override, append_override, read_overrides
from clinical_asr.records import IpaSource, Pronunciation, Term
from clinical_asr.respelling import RespellingError, to_ipa
from clinical_asr.ssml import ssml
from clinical_asr.suffixes import Candidate, candidates

Resolver = Callable[[Term], Pronunciation | None]

__all__ = [
    "Candidate",
    "Override",
    "Resolver",
    "append_override",
    "candidates",
    "from_dictionary",
    "from_overrides",
    "g2p",
    "read_overrides",
    "resolve",
    "ssml",
]


def from_overrides(overrides: Sequence[Override]) -> Resolver:
    """A resolver over verified lines, whatever the case of the term; a later line corrects an earlier one."""
    known = {override.term.casefold(): override.ipa.strip("/ ") for override in overrides}

    def resolve_override(term: Term) -> Pronunciation | None:
        ipa = known.get(term.term.casefold())
        return Pronunciation(term=term.term, ipa_source=IpaSource.OVERRIDE, ipa=ipa) if ipa else None

    return resolve_override


def from_dictionary(lookup: Callable[[str], Sequence[str]], require: Callable[[str], object] = str) -> Resolver:
    """A resolver over a dictionary that gives respellings of a word, none if it does not know it.

    A term of several words is looked up whole; then word by word, and known only if every word is. ``require`` raises
    FlywheelError for IPA that the speech engine cannot say. What cannot be read or said is left to the engine's own
    rules, with the reason in the row's ``note``; nothing is guessed.

    >>> known = {"heparin": ["ˈhep-ə-rən"], "lock": ["ˈläk"]}
    >>> resolver = from_dictionary(lambda word: known.get(word, []))
    >>> resolver(Term(term="heparin lock", entity_category="drug")).ipa
    'ˈhɛpəɹən ˈlɑːk'
    """

    def resolve_word(term: Term) -> Pronunciation | None:
        try:
            ipa = _looked_up(term.term, lookup)
            if ipa:
                require(ipa)
        except (RespellingError, PhonemeError) as error:
            return _left_to_g2p(term, error)
        return Pronunciation(term=term.term, ipa_source=IpaSource.MERRIAM_WEBSTER, ipa=ipa) if ipa else None

    return resolve_word


def _looked_up(term: str, lookup: Callable[[str], Sequence[str]]) -> str:
    """IPA of the whole term, or of every one of its words; empty if one is unknown."""
    whole = lookup(term)
    words = term.split()
    if whole or len(words) == 1:
        return to_ipa(whole[0]) if whole else ""
    said = []
    for word in words:
        found = lookup(word)
        if not found:
            return ""
        said.append(to_ipa(found[0]))
    return " ".join(said)


def _left_to_g2p(term: Term, error: FlywheelError) -> Pronunciation:
    return Pronunciation(term=term.term, ipa_source=IpaSource.G2P, extra={"note": f"merriam-webster: {error}"})


def g2p(term: Term) -> Pronunciation:
    """The end of the chain: no IPA, the speech engine's own rules decide.

    >>> g2p(Term(term="cefazolin", entity_category="drug")).ipa_source.value
    'g2p'
    """
    return Pronunciation(term=term.term, ipa_source=IpaSource.G2P)


def resolve(
    terms: Sequence[Term], overrides: Sequence[Override] = (), dictionaries: Sequence[Resolver] = ()
) -> list[Pronunciation]:
    """One pronunciation per term, in order: overrides, then each dictionary, then the engine's own rules."""
    chain: list[Resolver] = [from_overrides(overrides), *dictionaries]
    return [_first(term, chain) for term in terms]


def _first(term: Term, chain: Sequence[Resolver]) -> Pronunciation:
    for resolver in chain:
        said = resolver(term)
        if said is not None:
            return said
    return g2p(term)
