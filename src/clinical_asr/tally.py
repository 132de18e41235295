"""What rows counted, and the boards made of it. Counts until the last line; tallies add with ``+``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from clinical_asr.error_count import ErrorCount
from clinical_asr.keywords import KeywordCount
from clinical_asr.records import EntityCategory, IpaSource, Row, Stratum


class Tally(msgspec.Struct, frozen=True, gc=False):
    """Counts of ``rows`` rows. Rates are derived and ``None`` where there is nothing to divide by.

    >>> row = Tally(rows=1, wrong_rows=1, words=ErrorCount(1, 0, 1, 2, 3), characters=ErrorCount(2, 0, 1, 9, 11),
    ...             keywords=KeywordCount(occurrences=1, hits=0))
    >>> (row + Tally.zero()).ker, row.wer, row.ser
    (1.0, 0.6666666666666666, 1.0)
    >>> Tally.zero().wer is None
    True
    """

    rows: int
    wrong_rows: int
    words: ErrorCount
    characters: ErrorCount
    keywords: KeywordCount
    row_rates: float = 0.0
    """Sum of the rows' own WERs, for the published mean of per-row rates."""

    @classmethod
    def zero(cls) -> Tally:
        """The empty tally."""
        return cls(0, 0, ErrorCount.zero(), ErrorCount.zero(), KeywordCount.zero())

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            rows=self.rows + other.rows,
            wrong_rows=self.wrong_rows + other.wrong_rows,
            words=self.words + other.words,
            characters=self.characters + other.characters,
            keywords=self.keywords + other.keywords,
            row_rates=self.row_rates + other.row_rates,
        )

    @property
    def wer(self) -> float | None:
        """Word errors over reference words, pooled."""
        return self.words.rate

    @property
    def wer_row_mean(self) -> float | None:
        """Mean of the rows' own WERs: the published column; not the headline."""
        return self.row_rates / self.rows if self.rows else None

    @property
    def cer(self) -> float | None:
        """Character errors over reference characters, pooled."""
        return self.characters.rate

    @property
    def ker(self) -> float | None:
        """Missed occurrences of terms over occurrences."""
        return self.keywords.ker

    @property
    def ser(self) -> float | None:
        """Share of rows with any word wrong."""
        return self.wrong_rows / self.rows if self.rows else None


class Score(Row, frozen=True, kw_only=True, gc=False):
    """One row's counts beside what the row is about."""

    id: str
    tally: Tally
    reference: str
    hypothesis: str
    term: str = ""
    entity_category: EntityCategory | None = None
    ipa_source: IpaSource | None = None
    noise_level: str = ""
    voice_id: str = ""
    context_type: str = ""
    audio_filepath: str = ""
    stratum: Stratum | None = None
    """What training has seen of the row; ``None`` before any split."""


def pooled(rows: Iterable[Score]) -> Tally:
    """The counts of all rows together."""
    return sum((row.tally for row in rows), Tally.zero())


class Subject(msgspec.Struct, frozen=True, gc=False):
    """What a score is about, and nothing of what it counts."""

    id: str
    term: str = ""
    entity_category: EntityCategory | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What two numbers must share to be laid side by side (after sacreBLEU)."""

    normaliser: str
    metric_version: str
    model: str
    model_digest: str
    manifest_digest: str
    rows: int

    def differences(self, other: Signature) -> list[str]:
        """Fields that forbid a comparison, with both values; the model may differ, that is the point.

        >>> a = Signature("clinical-v1", "1", "base", "aa", "m1", 10)
        >>> a.differences(Signature("flywheel-v1", "1", "tuned", "bb", "m1", 10))
        ['normaliser: clinical-v1 / flywheel-v1']
        """
        fields = ("normaliser", "metric_version", "manifest_digest", "rows")
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in fields)
        return [f"{name}: {mine} / {theirs}" for name, mine, theirs in pairs if mine != theirs]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a leaderboard: rates of a group of rows, the counts behind them, and 95 % intervals.

    Rates are fractions (0.25 is 25 %) and ``None`` where there is nothing to divide by.
    """

    key: str
    """What the rows share: a category, a source, a term, ...; ``all`` in the headline."""
    rows: int
    wer: float | None
    cer: float | None
    ker: float | None
    ser: float | None
    wer_row_mean: float | None
    """Published mean of the rows' own WERs, beside the pooled ``wer``."""
    terms: int
    """Different terms: the number of independent things KER was measured on."""
    words: int
    """Reference words."""
    characters: int
    """Reference characters."""
    occurrences: int
    """Occurrences of terms: what KER divides by."""
    misses: int
    """Occurrences that were not heard: what KER counts."""
    false_insertions: int
    """Times a listed term (any of the board's) was heard in these rows more often than said."""
    wer_low: float | None
    wer_high: float | None
    cer_low: float | None
    cer_high: float | None
    ker_low: float | None
    ker_high: float | None
    ser_low: float | None
    ser_high: float | None
    entity_category: str = ""
    """Category of the term, in ``by_term``."""
    variant_misses: int | None = None
    """Misses that no registered spelling mends either; ``None`` without a list of terms."""
    variant_ker: float | None = None
    """KER with registered spellings counted: beside ``ker``, never instead of it."""
    variant_ker_low: float | None = None
    variant_ker_high: float | None = None


@dataclass(frozen=True, slots=True)
class ConfusionLine:
    """What was heard instead of a term, and how often."""

    term: str
    heard: str
    """Empty if nothing was."""
    count: int
    kind: str
    """``listed drug`` (gravest: a drug heard as another listed drug), ``listed term``, ``look-alike``, ..."""
    similarity: float
    """How alike the two are written, 0 to 1."""
    entity_category: str = ""
    """Category of the term that was said."""


@dataclass(frozen=True, slots=True)
class FalseInsertion:
    """A listed term that was heard where nobody said it."""

    term: str
    count: int
    rows: int
    entity_category: str = ""


@dataclass(frozen=True, slots=True)
class NumberLine:
    """Errors of one kind of number word: ``value``, ``unit``, ``negation`` or ``laterality``."""

    kind: str
    errors: int
    length: int
    """How many the references hold."""
    rate: float | None
    rows: int
    """Rows with an error of this kind."""


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """A model's numbers on one manifest: five published sections, then our own. Written as it stands to JSON."""

    signature: Signature
    headline: Line
    by_entity_category: list[Line]
    by_ipa_source: list[Line]
    by_noise_level: list[Line]
    by_term: list[Line]
    """Worst first."""
    by_stratum: list[Line]
    by_voice: list[Line]
    by_context: list[Line]
    false_insertions: list[FalseInsertion]
    """The terms nobody said, most often heard first."""
    confusions: list[ConfusionLine]
    """Gravest first, then most often."""
    numbers: list[NumberLine]
    terms_digest: str = ""
    """Digest of the registered spellings that ``variant_ker`` counts; empty without a list of terms."""
