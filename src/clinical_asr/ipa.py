"""The International Phonetic Alphabet as far as English needs it: what may stand in an ``ipa`` field."""

from __future__ import annotations

import re

from clinical_asr.errors import FlywheelError

_NOT_IPA = re.compile(r"[0-9A-Z<>&\[\]{}()@#\"]")


def require_ipa(ipa: str) -> None:
    """Raises FlywheelError naming the first character that no IPA transcription of English has.

    >>> require_ipa("sɛˈfæzəlɪn")
    """
    wrong = _NOT_IPA.search(ipa)
    if wrong:
        raise FlywheelError(f"{wrong.group()!r} is not an IPA letter", "IPA", "write IPA, like sɛˈfæzəlɪn")
