"""ladder: what phrase boosting, fine-tuning and both together buy, on the same held-out rows. Pure.

Four rungs in the order of what they cost: the base, the base with a decoder that leans towards a list of terms, the
fine-tuned model, and both. Each is set against the base in the same way as a comparison sets a tuned model against it:
KER of held-out rows of the priority categories whose term was taught, paired by term, and WER of the guard set, paired
by sentence. The cheapest rung that meets the target is named. ``ladder.json`` is the value as it stands::

    {"cheapest", "reason", "target": {"ker", "rise", "high"}, "priority_categories",
     "rungs": [{"name", "meets", "because", "strength", "ker", "false_insertions", "guard": {...}, ...}, ...],
     "choices": {"base + boosting": {"strength", "trials": [{"strength", "metrics"}, ...], ...}, ...},
     "listed_terms", "taught_terms", "rows", "guard_rows", "left_out"}

The strength of boosting is chosen by other rows than those above; see :class:`Choice`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clinical_asr.board_table import BoardTable
from clinical_asr.changes import Guard, guard_of, paired_rows, paired_test
from clinical_asr.config import ComparisonConfig
from clinical_asr.errors import ScoringError
from clinical_asr.mishearings import ListedTerms, misheard
from clinical_asr.records import Seconds, Stratum
from clinical_asr.statistics import PairedComparison
from clinical_asr.tally import Line, Score, Signature, pooled
from clinical_asr.text import term_key
from clinical_asr.training import Margins, choose

BASE, BASE_BOOSTED, TUNED, TUNED_BOOSTED = "base", "base + boosting", "tuned", "tuned + boosting"
RUNGS = (BASE, BASE_BOOSTED, TUNED, TUNED_BOOSTED)
"""In the order of what they cost: a list of terms costs nothing to make, a training does, both are to be kept up."""
STRENGTHS = (0.25, 0.5, 1.0)
"""Candidates: beyond 1 a decoder invents terms (``docs/lab-notes.md``)."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a rung must reach: KER at most ``ker``, general WER not worse beyond the margins. All absolute."""

    ker: float
    rise: float
    high: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One strength on the rows that choose; ``guard_rise`` and ``guard_high`` are since the plain base."""

    strength: float
    metrics: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Choice:
    """How the strength of a rung was chosen: by training rows that the model was not trained on, and by general speech
    that is not the guard set's. No held-out row chooses."""

    strength: float
    trials: tuple[Trial, ...]
    plain: dict[str, float | None]
    """The same model without boosting."""
    rows: int
    general_rows: int
    borrowed: bool = False
    """The base's strength: this model was trained on every row that could have chosen."""


@dataclass(frozen=True, slots=True)
class Climbed:
    """What was heard on one rung."""

    name: str
    rows: Sequence[Score]
    """Held-out rows, the same on every rung."""
    guard: Sequence[Score]
    signature: Signature
    strength: float = 0.0
    speed: float | None = None
    """Seconds of audio heard in a second, on this machine."""
    cpu_speed: float | None = None
    """The same in a second of processor time, which a busy machine slows less."""
    training: Seconds = 0.0


@dataclass(frozen=True, slots=True)
class Rung:
    """One line of the ladder. Rates are fractions, differences are this rung minus the base."""

    name: str
    because: str
    """Why it meets the target or not, or why it could not be tried."""
    tried: bool = False
    meets: bool = False
    strength: float = 0.0
    """Of boosting; 0 without."""
    rows: int = 0
    """Held-out rows that decide: priority categories, terms that were taught."""
    terms: int = 0
    misses: int = 0
    occurrences: int = 0
    ker: float | None = None
    ker_low: float | None = None
    ker_high: float | None = None
    against_base: PairedComparison | None = None
    """Paired by term; ``None`` for the base itself."""
    ker_taught: float | None = None
    """Held-out rows of every category, terms that were taught."""
    ker_never_taught: float | None = None
    wer: float | None = None
    """All held-out rows."""
    wer_low: float | None = None
    wer_high: float | None = None
    false_insertions: int = 0
    """Times a listed term was heard in a held-out row more often than said."""
    guard_false_insertions: int = 0
    """The same in general speech, where nobody says any."""
    confusions: int = 0
    """Terms heard as another listed term, held-out rows."""
    drugs_confused: int = 0
    """Of these, drugs heard as another drug: the gravest error."""
    guard: Guard | None = None
    speed: float | None = None
    """Seconds of audio heard in a second: the real-time factor, upside down."""
    cpu_speed: float | None = None
    """The same in a second of processor time."""
    training_minutes: float = 0.0
    model: str = ""
    model_digest: str = ""


@dataclass(frozen=True)
class Ladder:
    """All rungs, and the cheapest one that meets the target. See the module for the JSON shape."""

    cheapest: str
    """Empty if no rung meets the target."""
    reason: str
    target: Target
    priority_categories: list[str]
    rungs: list[Rung]
    choices: dict[str, Choice]
    listed_terms: int
    """Terms on the list of the boosted rungs: all terms of the benchmark."""
    taught_terms: int
    """Those of them that stand in training rows."""
    rows: int
    """Held-out rows on every rung."""
    guard_rows: int
    left_out: int
    """Rows that some rung could not hear and that therefore count on none."""


def choose_strength(
    trials: Sequence[Trial], plain: dict[str, float | None], rows: int, general_rows: int, margins: Margins
) -> Choice:
    """The strength with the lowest KER among those inside the margins; if there is none, what costs least.

    >>> told = {0.25: (0.8, 0.0), 0.5: (0.6, 0.001), 1.0: (0.4, 0.02)}
    >>> trials = [Trial(s, {"ker": ker, "wer": 0.1, "guard_rise": rise}) for s, (ker, rise) in told.items()]
    >>> choose_strength(trials, {"ker": 0.9}, rows=24, general_rows=200, margins=Margins()).strength
    0.5
    """
    return Choice(choose(trials, margins).strength, tuple(trials), plain, rows, general_rows)


def ladder(
    climbed: Sequence[Climbed],
    missing: Mapping[str, str],
    strata: Mapping[str, Stratum],
    vocabulary: Sequence[Score],
    choices: Mapping[str, Choice],
    config: ComparisonConfig,
    target_ker: float,
    left_out: int = 0,
) -> Ladder:
    """Lay the rungs side by side. ``missing`` says of each rung that was not tried why; the base is never missing.

    ``vocabulary`` are rows of the whole benchmark: their terms are the listed ones. Raises ScoringError unless all
    rungs heard the same rows.
    """
    base = climbed[0]
    _refuse_other_rows(climbed)
    target = Target(target_ker, config.guard_margin, config.guard_upper)
    tried = {one.name: _rung(one, base, strata, vocabulary, config, target) for one in climbed}
    rungs = [tried.get(name) or Rung(name, missing[name]) for name in RUNGS]
    listed = {term_key(row.term) for row in vocabulary if row.term}
    taught = {term_key(row.term) for row in vocabulary if row.term and strata.get(row.id) is not Stratum.NEW_TERM}
    cheapest = next((rung for rung in rungs if rung.meets), None)
    return Ladder(
        cheapest=cheapest.name if cheapest else "",
        reason=_reason(cheapest, target),
        target=target,
        priority_categories=[category.value for category in config.priority_categories],
        rungs=rungs,
        choices=dict(choices),
        listed_terms=len(listed),
        taught_terms=len(taught),
        rows=len(base.rows),
        guard_rows=len(base.guard),
        left_out=left_out,
    )


def _refuse_other_rows(climbed: Sequence[Climbed]) -> None:
    first = climbed[0]
    for other in climbed[1:]:
        differences = first.signature.differences(other.signature)
        if {row.id for row in first.guard} != {row.id for row in other.guard}:
            differences.append("other rows of the guard set")
        if differences:
            raise ScoringError(f"is not on the rows of {first.name}: {'; '.join(differences)}", where=other.name)


def _rung(
    one: Climbed, base: Climbed, strata: Mapping[str, Stratum], vocabulary: Sequence[Score],
    config: ComparisonConfig, target: Target,
) -> Rung:  # fmt: skip
    normaliser, pairs = one.signature.normaliser, paired_rows(base.rows, one.rows)
    taught = [pair for pair in pairs if strata[pair[0].id] is not Stratum.NEW_TERM]
    decisive = [pair for pair in taught if pair[0].entity_category in config.priority_categories]
    line, whole = (_line([pair[1] for pair in side], normaliser) for side in (decisive, pairs))
    listed = ListedTerms(vocabulary, normaliser)
    heard = misheard(one.rows, listed, normaliser)
    mixed_up = [found for found in heard.confusions() if found.kind in ("listed drug", "listed term")]
    guard_pairs = paired_rows(base.guard, one.guard) if one.guard else []
    guard = guard_of(guard_pairs, config.guard_margin, config.guard_upper)
    why = _short_of(line.ker if line else None, guard, target)
    return Rung(
        name=one.name, because=why or _reached(line, guard), tried=True, meets=not why, strength=one.strength,
        rows=len(decisive),
        **({name: getattr(line, name) for name in _OF_THE_DECISIVE} if line else {}),
        against_base=paired_test(decisive) if one is not base else None,
        ker_taught=_ker([pair[1] for pair in taught]),
        ker_never_taught=_ker([pair[1] for pair in pairs if strata[pair[0].id] is Stratum.NEW_TERM]),
        **({name: getattr(whole, name) for name in ("wer", "wer_low", "wer_high")} if whole else {}),
        false_insertions=heard.unsaid,
        guard_false_insertions=misheard(one.guard, listed, normaliser).unsaid,
        confusions=sum(found.count for found in mixed_up),
        drugs_confused=sum(found.count for found in mixed_up if found.kind == "listed drug"),
        guard=guard, speed=one.speed, cpu_speed=one.cpu_speed, training_minutes=one.training / 60,
        model=one.signature.model, model_digest=one.signature.model_digest,
    )  # fmt: skip


_OF_THE_DECISIVE = ("terms", "misses", "occurrences", "ker", "ker_low", "ker_high")


def _line(rows: Sequence[Score], normaliser: str) -> Line | None:
    """The line of a board, with its intervals over terms; None without rows."""
    if not rows:
        return None
    return BoardTable(rows, ListedTerms(rows, normaliser), normaliser).headline()


def _ker(rows: Sequence[Score]) -> float | None:
    return pooled(rows).ker


# --- the target -------------------------------------------------------------------------------------------------------


def _short_of(ker: float | None, guard: Guard, target: Target) -> str:
    """What keeps a rung from the target; empty if nothing does."""
    why = []
    if ker is None:
        why.append("no held-out row of a priority category has a term that was taught")
    elif ker > target.ker:
        why.append(f"KER {_percent(ker)} is above {_percent(target.ker)}")
    if guard.difference is None or guard.high is None:
        why.append("no guard set says what it costs in general speech")
    elif guard.worse:
        why.append(f"general WER rises by {_points(guard.difference)}, allowed {_points(target.rise)}")
    elif not guard.proven:
        why.append(f"general WER may rise by {_points(guard.high)} (95 %), allowed {_points(target.high)}")
    return "; ".join(why)


def _reached(line: Line | None, guard: Guard) -> str:
    ker = line.ker if line else None
    return f"KER {_percent(ker)}, general WER {100 * (guard.difference or 0.0):+.2f} points"


def _percent(rate: float | None) -> str:
    return "unknown" if rate is None else f"{100 * rate:.1f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:.2f} points"


def _reason(cheapest: Rung | None, target: Target) -> str:
    asked = f"KER at most {_percent(target.ker)}, general WER at most {100 * target.rise:+.2f} points"
    if cheapest is None:
        return f"no rung meets the target ({asked})"
    return f"{cheapest.name} is the cheapest rung that meets the target ({asked}): {cheapest.because}"
