"""The narrow-band telephone: 300 to 3400 Hz (ITU-T G.712), sampled at 8 kHz, 8-bit mu-law (ITU-T G.711)."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_asr.loudness import Samples
from clinical_asr.records import SAMPLE_RATE

RATE = 8_000  # Hz
BAND = (300.0, 3400.0)  # Hz
ORDER = 8  # of the band-pass: at least 40 dB down at 100 Hz and at 4500 Hz


def narrow(samples: Samples) -> Samples:
    """What passes the line's filters, still at 16 kHz: linear, so speech and noise may pass apart."""
    from scipy.signal import sosfilt

    passed: Samples = sosfilt(_filter(), samples).astype(np.float32)
    return passed


@lru_cache(maxsize=1)
def _filter() -> NDArray[np.floating[Any]]:
    from scipy.signal import butter

    sections: NDArray[np.floating[Any]] = butter(ORDER, BAND, "bandpass", fs=SAMPLE_RATE, output="sos")
    return sections


def companded(samples: Samples) -> Samples:
    """Down to 8 kHz, through mu-law and back to 16 kHz; the same number of samples."""
    import soundfile
    import soxr

    coded = io.BytesIO()
    low = np.clip(soxr.resample(samples, SAMPLE_RATE, RATE, quality="HQ"), -1.0, 1.0)
    soundfile.write(coded, low, RATE, subtype="ULAW", format="WAV")
    coded.seek(0)
    decoded = soundfile.read(coded, dtype="float32")[0]
    wide = soxr.resample(decoded, RATE, SAMPLE_RATE, quality="HQ")
    whole = np.zeros(samples.size, dtype=np.float32)
    whole[: wide.size] = wide[: samples.size]
    return whole
