"""One document for any transcripts: corpus rates, and every occurrence of every listed term.

``clinical-asr scores --json OUT`` writes the value as it stands::

    {"normaliser", "metric_version", "counting", "rows", "words", "characters", "wer", "cer", "ser", "ker",
     "wer_row_mean", "substitutions", "deletions", "insertions",
     "terms": {"occurrences", "hits", "misses", "false_insertions", "ker", "precision", "ker_low", "ker_high",
               "variant_hits", "variant_ker"},
     "by_category": {"drug": {the same fields}, ...}, "by_term": {"cefazolin": {the same fields}, ...},
     "confusions": [{"term", "heard", "count", "kind", ...}], "numbers": [{"kind", "errors", "length", ...}]}

With a list of terms each occurrence of each listed term in each reference counts, wherever it stands. Without one only
the rows' own terms count, as on a leaderboard. ``counting`` says which: ``by place`` (see ``matching``) or
``by row``, which differ for a term that moved within its text.

Spellings of one term (``text.term_key``) are one entry, named as the row of the smallest id spells it. A term that
stands under several categories has an entry in each, ``insulin (drug)`` and ``insulin (lab)``; where categories are
pooled it is one term again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from clinical_asr.alignment import align_words
from clinical_asr.confusions import GRAVITY, matched_confusions
from clinical_asr.errors import ScoringError
from clinical_asr.keywords import KeywordCount, TermIndex
from clinical_asr.matching import Matching
from clinical_asr.metrics import METRIC_VERSION
from clinical_asr.mishearings import NumberTotals
from clinical_asr.records import Hypothesis, Term
from clinical_asr.scores import iter_scored_texts
from clinical_asr.statistics import clustered_counts_interval, proportion_interval
from clinical_asr.tally import ConfusionLine, NumberLine, Score, Tally
from clinical_asr.text import DEFAULT_NORMALISER, term_key
from clinical_asr.variants import variants_of


@dataclass(frozen=True, slots=True)
class TermTotals:
    """Counts of one term, one category or all terms. Rates are fractions, ``None`` where nothing can be divided by."""

    occurrences: int
    hits: int
    misses: int
    false_insertions: int
    ker: float | None
    precision: float | None
    """Hits over all that was heard as a listed term."""
    ker_low: float | None
    ker_high: float | None
    variant_hits: int
    """Hits where registered variants count too: beside the strict hits, never instead of them."""
    variant_ker: float | None


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """See the module for the JSON shape."""

    normaliser: str
    metric_version: str
    counting: str
    """How hits and false insertions of terms were counted: ``by place`` with a list of terms, else ``by row``."""
    rows: int
    words: int
    characters: int
    wer: float | None
    cer: float | None
    ser: float | None
    ker: float | None
    wer_row_mean: float | None
    substitutions: int
    deletions: int
    insertions: int
    terms: TermTotals
    by_category: dict[str, TermTotals]
    by_term: dict[str, TermTotals]
    confusions: list[ConfusionLine]
    """Only with a list of terms."""
    numbers: list[NumberLine]


def summarise(
    hypotheses: Iterable[Hypothesis], terms: Sequence[Term] | None = None, normaliser: str = DEFAULT_NORMALISER
) -> ScoreSummary:
    """Score transcripts of any length, row after row, in memory that does not grow with the rows.

    ``terms`` may carry ``variants`` (``;`` between them) in ``extra``. Raises ScoringError as ``iter_scores`` does, and
    if a term is empty or listed twice, or if there are no rows.

    >>> row = Hypothesis(id="a", audio_filepath="", duration=0.0, text="Give cefazolin, not heparin.",
    ...                  pred_text="heparin give cefa zolin not heparin")
    >>> from clinical_asr.records import EntityCategory
    >>> listed = [Term(term="cefazolin", entity_category=EntityCategory.DRUG),
    ...           Term(term="heparin", entity_category=EntityCategory.DRUG)]
    >>> found = summarise([row], listed)
    >>> found.ker, found.by_term["heparin"].precision, found.terms.false_insertions
    (0.5, 0.5, 1)
    """
    return summary_of(iter_scored_texts(hypotheses, normaliser), terms, normaliser)


def summary_of(
    scored: Iterable[tuple[Score, str, str]], terms: Sequence[Term] | None = None, normaliser: str = DEFAULT_NORMALISER
) -> ScoreSummary:
    """:func:`summarise` of rows that are scored already, each with its normalised texts (``iter_scored_texts``)."""
    counts = _ListCounts(terms, normaliser) if terms is not None else _OwnCounts()
    total, numbers = Tally.zero(), NumberTotals()
    for row, reference, hypothesis in scored:
        total = total + row.tally
        said = reference.split()
        heard = said if hypothesis is reference else hypothesis.split()
        counts.add(row, said, heard)
        numbers.add(said, heard)
    if not total.rows:
        raise ScoringError("there are no rows", where="scores", mend="transcribe a manifest first")
    by_term = {name: _totals([counts.pairs[key]]) for key, name in counts.names().items()}
    everything = _totals(_by_identity(counts.pairs.items()))
    words = total.words
    return ScoreSummary(
        normaliser=normaliser, metric_version=METRIC_VERSION,
        counting="by row" if terms is None else "by place", rows=total.rows, words=words.length,
        characters=total.characters.length, wer=total.wer, cer=total.cer, ser=total.ser, ker=everything.ker,
        wer_row_mean=total.wer_row_mean, substitutions=words.substitutions, deletions=words.deletions,
        insertions=words.insertions, terms=everything, by_category=_by_category(counts), by_term=by_term,
        confusions=counts.confusion_lines(), numbers=numbers.lines(),
    )  # fmt: skip


Pair = tuple[KeywordCount, KeywordCount]
"""Strict and variant-aware counts of one term."""
Key = tuple[str, str]
"""Category and identity of a term; of a listed one its name in the list, which holds each once."""
_NOTHING: Pair = (KeywordCount.zero(), KeywordCount.zero())


class _OwnCounts:
    """Each row's own term."""

    def __init__(self) -> None:
        self.pairs: dict[Key, Pair] = {}
        self._spelled: dict[Key, tuple[str, str]] = {}
        """Smallest id, and how its row writes the term."""

    def add(self, row: Score, said: Sequence[str], heard: Sequence[str]) -> None:
        """Count one row, whose sides are given in normalised words too."""
        if row.term:
            key, spelled = (row.entity_category or "", term_key(row.term)), (row.id, row.term)
            self._spelled[key] = min(spelled, self._spelled.get(key, spelled))
            self._count(key, (row.tally.keywords, row.tally.keywords))

    def _count(self, key: Key, pair: Pair) -> None:
        self.pairs[key] = _sum(self.pairs.get(key, _NOTHING), pair)

    def names(self) -> dict[Key, str]:
        """As its rows write it; with the category of a term that stands under several."""
        categories = Counter(term for _, term in self.pairs)
        return {
            (category, term): f"{name} ({category})" if category and categories[term] > 1 else name
            for (category, term), (_, name) in self._spelled.items()
        }

    def confusion_lines(self) -> list[ConfusionLine]:
        """Without a list nothing is a listed term."""
        return []


class _ListCounts(_OwnCounts):
    """Every listed term, wherever it stands."""

    def __init__(self, terms: Sequence[Term], normaliser: str) -> None:
        super().__init__()
        self._index = TermIndex([(t.term, t.entity_category.value, variants_of(t)) for t in terms], normaliser)
        self._has_variants = any(variants_of(term) for term in terms)
        self._keys = {term: (category, term) for term, category in self._index.categories.items()}
        self.pairs = dict.fromkeys(self._keys.values(), _NOTHING)
        self._confusions: Counter[tuple[str, str, str, float]] = Counter()

    def add(self, row: Score, said: Sequence[str], heard: Sequence[str]) -> None:
        if not any(self._index.find_words(side, self._has_variants) for side in (said, heard)):
            return
        steps = align_words(said, heard)
        matching = Matching(self._index, said, heard, steps)
        strict = loose = matching.counts()
        if self._has_variants:
            loose = Matching(self._index, said, heard, steps, variants=True).counts()
        for term, count in strict.items():
            if count != _NOTHING[0] or loose[term] != _NOTHING[0]:
                self._count(self._keys[term], (count, loose[term]))
        found = matched_confusions(self._index, matching)
        self._confusions.update((one.term, one.heard, one.kind, one.similarity) for one in found)

    def names(self) -> dict[Key, str]:
        """As listed."""
        return {key: term for term, key in self._keys.items()}

    def confusion_lines(self) -> list[ConfusionLine]:
        """Gravest first, then most often."""
        lines = [
            ConfusionLine(term, heard, n, kind, alike, self._index.categories[term])
            for (term, heard, kind, alike), n in self._confusions.items()
        ]
        gravity = {str(kind): place for place, kind in enumerate(GRAVITY)}
        return sorted(lines, key=lambda c: (gravity[c.kind], -c.count, -c.similarity, c.term, c.heard))


def _by_category(counts: _OwnCounts) -> dict[str, TermTotals]:
    groups: Mapping[str, list[tuple[Key, Pair]]] = defaultdict(list)
    for key, pair in counts.pairs.items():
        groups[key[0]].append((key, pair))
    return {category: _totals(_by_identity(groups[category])) for category in sorted(groups) if category}


def _by_identity(counts: Iterable[tuple[Key, Pair]]) -> list[Pair]:
    """One pair a term, whatever its categories: errors of one word hang together."""
    found: dict[str, Pair] = {}
    for (_, term), pair in counts:
        found[term_key(term)] = _sum(found.get(term_key(term), _NOTHING), pair)
    return list(found.values())


def _sum(one: Pair, other: Pair) -> Pair:
    return one[0] + other[0], one[1] + other[1]


def _totals(pairs: Sequence[Pair]) -> TermTotals:
    strict = sum((pair[0] for pair in pairs), KeywordCount.zero())
    loose = sum((pair[1] for pair in pairs), KeywordCount.zero())
    said = [pair[0] for pair in pairs if pair[0].occurrences]
    low: float | None = None
    high: float | None = None
    if len(said) == 1:
        low, high = proportion_interval(strict.misses, strict.occurrences)
    elif said:
        low, high = clustered_counts_interval([c.misses for c in said], [c.occurrences for c in said])
    return TermTotals(
        occurrences=strict.occurrences, hits=strict.hits, misses=strict.misses,
        false_insertions=strict.false_insertions, ker=strict.ker, precision=strict.precision,
        ker_low=low, ker_high=high, variant_hits=loose.hits, variant_ker=loose.ker,
    )  # fmt: skip
