"""Two groups of rows, one heard well and one badly: is the audio at fault rather than the model? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clinical_asr import conditions
from clinical_asr.conditions import Condition
from clinical_asr.config import GateConfig
from clinical_asr.firmness import pooled_ker
from clinical_asr.records import IpaSource
from clinical_asr.tally import Leaderboard, Line


@dataclass(frozen=True)
class Gap:
    """Two groups of rows, one heard well and one badly: the difference points at its cause."""

    good: str
    good_rows: int
    good_ker: float | None
    bad: str
    bad_rows: int
    bad_ker: float | None
    found: bool

    @property
    def reason(self) -> str:
        """In words, of a pronunciation gap."""
        return (
            f"pronunciation gap: KER {self.bad_ker:.3f} on {self.bad_rows} {self.bad} rows but {self.good_ker:.3f} on "
            f"{self.good_rows} {self.good} rows: the audio is wrong, not the model"
        )


def pronunciation_gap(board: Leaderboard, config: GateConfig) -> Gap:
    """Verified pronunciations heard well (KER <= ``saturated_below``), guessed ones badly (> ``tune_above``).

    Looked for in the section by ``ipa_source``; either side needs ``min_rows_per_source`` rows.
    """
    verified = [s.value for s in (IpaSource.MERRIAM_WEBSTER, IpaSource.OVERRIDE)]
    good = [line for line in board.by_ipa_source if line.key in verified]
    bad = [line for line in board.by_ipa_source if line.key == IpaSource.G2P.value]
    return _gap(good, "/".join(verified), bad, IpaSource.G2P.value, config)


def robustness_gap(board: Leaderboard, config: GateConfig) -> Gap:
    """Clean rows heard well, those of the noisiest level badly; thresholds and rows as for pronunciations.

    Noise in a room or on the telephone is looked at apart from noise alone, so that neither hides the other: the gap
    of the lowest SNR that is one, else what there is at the lowest SNR.
    """
    clean = [line for line in board.by_noise_level if line.key == conditions.CLEAN]
    gaps = [_gap(clean, conditions.CLEAN, [line], line.key, config) for line in _noisiest(board.by_noise_level)]
    nothing = _gap(clean, conditions.CLEAN, [], "snr_5db", config)
    return next((gap for gap in gaps if gap.found), gaps[0] if gaps else nothing)


def _noisiest(lines: Sequence[Line]) -> list[Line]:
    """The line of the lowest SNR for noise alone, on the telephone, in each room; the lowest of them first."""
    told = [(condition.snr, condition, line) for line in lines if (condition := conditions.known(line.key))]
    noisy = sorted(((snr, where, line) for snr, where, line in told if snr is not None), key=lambda one: one[0])
    lowest: dict[Condition, Line] = {}
    for _, condition, line in noisy:
        lowest.setdefault(replace(condition, snr=None), line)
    return list(lowest.values())


def _gap(good: Sequence[Line], good_name: str, bad: Sequence[Line], bad_name: str, config: GateConfig) -> Gap:
    good_ker, bad_ker = pooled_ker(good), pooled_ker(bad)
    good_rows, bad_rows = sum(line.rows for line in good), sum(line.rows for line in bad)
    enough = min(good_rows, bad_rows) >= config.min_rows_per_source
    found = enough and good_ker is not None and bad_ker is not None
    found = found and good_ker <= config.saturated_below and bad_ker > config.tune_above  # type: ignore[operator]
    return Gap(good_name, good_rows, good_ker, bad_name, bad_rows, bad_ker, found)
