"""Stage pronunciations: who says how a term sounds. A chain of resolvers; the first that knows the term wins.

Order: what a person has verified, then dictionaries, then the speech engine's own rules (``g2p``), which always answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clinical_asr.overrides import Override, append_override, read_overrides
from clinical_asr.records import IpaSource, Pronunciation, Term
from clinical_asr.ssml import ssml

Resolver = Callable[[Term], Pronunciation | None]

__all__ = ["Override", "Resolver", "append_override", "from_overrides", "g2p", "read_overrides", "resolve", "ssml"]


def from_overrides(overrides: Sequence[Override]) -> Resolver:
    """A resolver over verified lines, whatever the case of the term; a later line corrects an earlier one."""
    known = {override.term.casefold(): override.ipa.strip("/ ") for override in overrides}

    def resolve_override(term: Term) -> Pronunciation | None:
        ipa = known.get(term.term.casefold())
        return Pronunciation(term=term.term, ipa_source=IpaSource.OVERRIDE, ipa=ipa) if ipa else None

    return resolve_override


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
