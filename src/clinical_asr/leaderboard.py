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

from collections.abc import Mapping, Sequence

import msgspec

from clinical_asr.board_table import BoardTable, checked
from clinical_asr.mishearings import ListedTerms, Wording, number_lines
from clinical_asr.records import Stratum, Term
from clinical_asr.tally import Leaderboard, Score, Signature
from clinical_asr.variants import Variants


def leaderboard(
    scores: Sequence[Score],
    signature: Signature,
    strata: Mapping[str, Stratum] | None = None,
    terms: Sequence[Term] | None = None,
) -> Leaderboard:
    """All sections from the rows' counts. ``strata`` (row id -> stratum) overrides what the rows carry.

    ``terms`` with variants add variant-aware KER beside the strict one; no other number changes. Raises ScoringError
    without rows, on a row that stands twice, if the signature counts other rows, or if ``terms`` knows none of the
    rows' terms.
    """
    rows = checked(scores, signature)
    if strata is not None:
        rows = [_restratified(row, strata) for row in rows]
    wording = Wording(rows, signature.normaliser)
    listed = ListedTerms(rows, signature.normaliser, wording)
    variants = Variants(terms, signature.normaliser) if terms is not None else None
    table = BoardTable(rows, wording, listed, variants)
    return Leaderboard(
        signature=signature,
        headline=table.headline(),
        by_entity_category=table.section(lambda row: row.entity_category or ""),
        by_ipa_source=table.section(lambda row: row.ipa_source.canonical if row.ipa_source else ""),
        by_noise_level=sorted(table.section(lambda row: row.noise_level), key=lambda line: _noise_order(line.key)),
        by_term=table.by_term(),
        by_stratum=sorted(table.section(lambda row: row.stratum or ""), key=lambda line: _STRATUM_ORDER[line.key]),
        by_voice=table.section(lambda row: row.voice_id),
        by_context=table.section(lambda row: row.context_type),
        false_insertions=listed.false_insertions(),
        confusions=listed.confusions(),
        numbers=number_lines(wording),
        terms_digest=variants.digest if variants else "",
    )


_STRATUM_ORDER = {stratum.value: place for place, stratum in enumerate(Stratum)}


def _restratified(row: Score, strata: Mapping[str, Stratum]) -> Score:
    return msgspec.structs.replace(row, stratum=strata.get(row.id))


def _noise_order(level: str) -> tuple[float, str]:
    """Clean first, then from the highest SNR to the lowest, then names nobody knows.

    >>> sorted(["snr_5db", "ward", "clean", "snr_15db"], key=_noise_order)
    ['clean', 'snr_15db', 'snr_5db', 'ward']
    """
    if level == "clean":
        return float("-inf"), level
    try:
        return -float(level.removeprefix("snr_").removesuffix("db")), level
    except ValueError:
        return float("inf"), level
