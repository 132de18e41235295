"""What is wrong with a field, as a person wants to read it: msgspec's words, with the place and the mend."""

from __future__ import annotations

from pathlib import Path

import msgspec

from clinical_asr.errors import ManifestError


def validation_error(path: Path, line_number: int, error: msgspec.ValidationError) -> ManifestError:
    """msgspec says ``<why> - at `$.field` ``; a person wants file, line, field, reason, mend."""
    why, _, at = str(error).partition(" - at ")
    field = at.strip("`").removeprefix("$").removeprefix(".").split(" ")[0]
    return ManifestError(path, line_number, field, why[:1].lower() + why[1:], _mend(field, why))


_MENDS = {
    "entity_category": "use one of: drug, procedure, anatomy, condition, lab, role",
    "ipa_source": "use one of: override, merriam-webster, g2p",
    "Expected `str`": "write it as text, in quotes",
    "Expected `float`": "write it as a number, without quotes",
    "Expected `int`": "write it as a whole number, without quotes",
    "Expected `bool`": "write true or false, without quotes",
    "Object missing required field `pred_text`": "transcribe it: clinical-asr hypotheses",
    "Object missing required field": "add the field",
}
"""What mends a field, or a kind of complaint of msgspec's."""


def _mend(field: str, why: str) -> str:
    kinds = (mend for beginning, mend in _MENDS.items() if why.startswith(beginning))
    return _MENDS.get(field) or next(kinds, "")
