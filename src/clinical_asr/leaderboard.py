"""Scores in, one leaderboard out. Several systems on the same rows: see ``ranking``.

Pure. ``leaderboard_cycle<N>.json`` is the value as it stands, keys in this order::

    {"signature": {"normaliser", "metric_version", "model", "model_digest", "manifest_digest", "rows"},
     "headline": {"key": "all", "rows", "wer", "cer", "ker", "ser", "wer_row_mean", "terms", "words", ...},
     "by_entity_category": [line, ...], "by_ipa_source": [...], "by_noise_level": [...], "by_term": [...],
     "by_stratum": [...], "by_voice": [...], "by_context": [...], "false_insertions": [...],
     "confusions": [{"term", "heard", "count", "kind", ...}], "numbers": [{"kind", "errors", "length", ...}]}

Every line has the headline's fields; rates are fractions or null; ``_low`` and ``_high`` bound the 95 % interval.
``variant_...`` is null unless a list of terms with variants was given (its digest is ``terms_digest``).

**False insertions** are counted by the row, as KER is: a listed term heard more often in a row than it was said there.
``clinical-asr scores --terms`` counts hits and false insertions by their place instead, since a whole consultation is
one row to it: see ``matching``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from clinical_asr import conditions
from clinical_asr.board_table import BoardTable
from clinical_asr.mishearings import About, ListedTerms
from clinical_asr.records import Stratum, Term
from clinical_asr.tally import Leaderboard, Score, Signature
from clinical_asr.variants import Variants


def leaderboard(
    scores: Iterable[Score],
    signature: Signature,
    strata: Mapping[str, Stratum] | None = None,
    terms: Sequence[Term] | None = None,
    about: Iterable[About] | None = None,
) -> Leaderboard:
    """All sections from the rows' counts, which need not be in memory: some 50 bytes a row are kept.

    ``scores`` is read twice; once, if ``about`` tells which terms the rows are about. ``strata`` (row id -> stratum)
    overrides what the rows carry. ``terms`` with variants add variant-aware KER beside the strict one; no other number
    changes. Raises ScoringError without rows, on a row that stands twice, if the signature counts other rows, or if
    ``terms`` knows none of the rows' terms.
    """
    listed = ListedTerms(scores if about is None else about, signature.normaliser)
    variants = Variants(terms, signature.normaliser) if terms is not None else None
    rows = scores if strata is None else (_restratified(row, strata) for row in scores)
    table = BoardTable(rows, listed, signature.normaliser, variants, signature.rows)
    by_noise, by_stratum = table.section("noise_level"), table.section("stratum")
    return Leaderboard(
        signature=signature,
        headline=table.headline(),
        by_entity_category=table.section("entity_category"),
        by_ipa_source=table.section("ipa_source"),
        by_noise_level=sorted(by_noise, key=lambda line: _noise_order(line.key)),
        by_term=table.by_term(),
        by_stratum=sorted(by_stratum, key=lambda line: _STRATUM_ORDER[line.key]),
        by_voice=table.section("voice_id"),
        by_context=table.section("context_type"),
        false_insertions=table.misheard.false_insertions(),
        confusions=table.misheard.confusions(),
        numbers=table.misheard.numbers(),
        terms_digest=variants.digest if variants else "",
    )


_STRATUM_ORDER = {stratum.value: place for place, stratum in enumerate(Stratum)}


def _restratified(row: Score, strata: Mapping[str, Stratum]) -> Score:
    return msgspec.structs.replace(row, stratum=strata.get(row.id))


def _noise_order(level: str) -> tuple[int, float, str]:
    """Clean first, noise alone and then noise in a room or on a line from the highest SNR to the lowest, then the rest.

    >>> sorted(["snr_5db", "ward", "telephone+snr_-3db", "clean", "telephone+snr_20db", "snr_15db"], key=_noise_order)
    ['clean', 'snr_15db', 'snr_5db', 'telephone+snr_20db', 'telephone+snr_-3db', 'ward']
    """
    condition = conditions.known(level)
    if level == conditions.CLEAN:
        return 0, 0.0, level
    if condition is None or condition.snr is None:
        return 3, 0.0, level
    alone = condition.room is None and not condition.telephone
    return 1 if alone else 2, -condition.snr, level
