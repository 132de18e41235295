"""Two groups of rows, one heard well and one badly: is the audio at fault rather than the model? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Clean rows heard well, those of the noisiest level badly; thresholds and rows as for pronunciations."""
    noisy = [line for line in board.by_noise_level if _snr(line.key) is not None]
    noisy = sorted(noisy, key=lambda line: _snr(line.key) or 0.0)[:1]
    clean = [line for line in board.by_noise_level if line.key == "clean"]
    return _gap(clean, "clean", noisy, noisy[0].key if noisy else "snr_5db", config)


def _snr(noise_level: str) -> float | None:
    """SNR in dB of a noise level's name.

    >>> _snr("snr_5db"), _snr("snr_-3db"), _snr("clean")
    (5.0, -3.0, None)
    """
    digits = noise_level.removeprefix("snr_").removesuffix("db")
    try:
        return float(digits)
    except ValueError:
        return None


def _gap(good: Sequence[Line], good_name: str, bad: Sequence[Line], bad_name: str, config: GateConfig) -> Gap:
    good_ker, bad_ker = pooled_ker(good), pooled_ker(bad)
    good_rows, bad_rows = sum(line.rows for line in good), sum(line.rows for line in bad)
    enough = min(good_rows, bad_rows) >= config.min_rows_per_source
    found = enough and good_ker is not None and bad_ker is not None
    found = found and good_ker <= config.saturated_below and bad_ker > config.tune_above  # type: ignore[operator]
    return Gap(good_name, good_rows, good_ker, bad_name, bad_rows, bad_ker, found)
