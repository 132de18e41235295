"""Corners of the split: hold-outs that swallow everything, categories of one row, chains of shared recordings."""

from __future__ import annotations

import pytest

from board import utterance
from clinical_asr.config import SplitConfig
from clinical_asr.errors import ConfigError
from clinical_asr.records import EntityCategory, Stratum
from clinical_asr.split import split


def test_a_hold_out_that_reaches_every_row_by_shared_recordings_is_refused() -> None:
    """Each recording is listed under both voices, so that holding out one voice holds out all recordings."""
    rows = [
        utterance(f"{i}{voice}", text=f"give cefazolin {i}", voice=voice, audio=f"{i}.wav")
        for i in range(6)
        for voice in ("v1", "v2")
    ]
    with pytest.raises(ConfigError, match=r"--hold-out-\*: leave no row to train on; hold out less"):
        split(rows, SplitConfig(hold_out_voices=1))


def test_the_only_row_of_a_category_may_be_held_out_with_its_voice() -> None:
    """Then it is judged, nothing of its category is trained on, and that is what the warning says."""
    rows = [utterance(f"{i}{v}", text=f"give cefazolin {i}", voice=v) for i in range(6) for v in ("v1", "v2")]
    lonely = [utterance("sister", text="call the sister", term="sister", category=EntityCategory.ROLE, voice=v)
              for v in ("v1", "v2")]  # fmt: skip
    told = {}
    for one in lonely:
        found = split([*rows, one], SplitConfig(hold_out_voices=1))
        told[found.strata["sister"]] = [warning for warning in found.warnings if warning.startswith("role")]
    assert told == {
        Stratum.TRAINED: ["role has one row: it is trained on and nothing of it is judged"],
        Stratum.NEW_TERM: ["role: 100% of 1 rows are held out"],
    }
