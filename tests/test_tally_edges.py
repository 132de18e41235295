"""A tally's rates are each their own count over their own length."""

from __future__ import annotations

from clinical_asr.error_count import ErrorCount
from clinical_asr.keywords import KeywordCount
from clinical_asr.tally import Tally


def test_each_rate_divides_its_own_count_by_its_own_length() -> None:
    tally = Tally(4, 3, ErrorCount(1, 1, 1, 8, 10), ErrorCount(2, 3, 4, 35, 40), KeywordCount(5, 3, 9), row_rates=1.4)
    assert (tally.wer, tally.cer, tally.ker, tally.ser) == (3 / 10, 9 / 40, 2 / 5, 3 / 4)
    assert tally.wer_row_mean == 1.4 / 4
    nothing = Tally.zero()
    assert {nothing.wer, nothing.cer, nothing.ker, nothing.ser, nothing.wer_row_mean} == {None}
