"""Under which licence a tuned model may be passed on: that of its base, as far as it is known. Data."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clinical_asr.errors import ModelError


@dataclass(frozen=True)
class Licence:
    """A licence and what it asks for."""

    identifier: str
    """As Hugging Face spells it: lower-case SPDX."""
    attribution: str = ""
    """Sentence that has to go along; empty if none is known to be needed."""


LICENCES = {
    r"mini": Licence("apache-2.0"),
    r"nvidia/(parakeet-(tdt|rnnt|ctc|tdt_ctc)-[\w.]+(-v\d)?|stt_en_(fast)?conformer_ctc_large)": Licence("cc-by-4.0"),
}
"""Name of a base, whole -> its licence. A name that merely looks alike gets none."""


def licence_of(base: str, stated: str = "") -> Licence:
    """The licence of a model tuned from ``base``; ``stated`` is what a person says it is.

    >>> licence_of("nvidia/parakeet-tdt-0.6b-v2").attribution
    'Fine-tuned from nvidia/parakeet-tdt-0.6b-v2 by NVIDIA, licensed under CC BY 4.0; changed by fine-tuning.'

    Raises ModelError if neither says.
    """
    known = next((licence for pattern, licence in LICENCES.items() if re.fullmatch(pattern, base)), None)
    identifier = stated.strip().lower() or (known.identifier if known else "")
    if not identifier:
        what = f"nobody knows under which licence {base or 'the base'} may be passed on"
        raise ModelError(what, "--licence", "name it as its card does, such as --licence cc-by-4.0")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", identifier):
        raise ModelError(f"{stated!r:.60} is no licence identifier", "--licence", "such as cc-by-4.0 or apache-2.0")
    if identifier != "cc-by-4.0":
        return Licence(identifier)
    owner = "NVIDIA" if base.startswith("nvidia/") else "its authors"
    told = f"Fine-tuned from {base} by {owner}, licensed under CC BY 4.0; changed by fine-tuning."
    return Licence(identifier, told)
