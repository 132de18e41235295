"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clinical_asr.egress import Egress
    from clinical_asr.records import EntityCategory

VOICES = "en-us+Alicia-r160-p50,en-us+m7-r170-p45,en-gb+f5-r155-p55,en-gb-x-rp+paul-r165-p40"
"""Default voices of a benchmark: two women and two men, three accents, none of which the embedded base has heard."""

Terms = Annotated[Path, typer.Option(help="CSV file with the header term,entity_category.")]
Manifest = Annotated[Path, typer.Option(help="NeMo manifest, one JSON object a line.")]
Output = Annotated[Path, typer.Option(help="File to write.")]
Folder = Annotated[Path, typer.Option(help="Folder to write into; made if it is not there.")]
Sha256 = Annotated[str, typer.Option("--sha256", help="Digest the model must have, 64 hex digits; another is refused.")]
Seed = Annotated[int, typer.Option(help="Seed of every draw: the same seed gives the same files.")]
Voices = Annotated[str, typer.Option(help="Voice ids of eSpeak NG, with commas: accent+variant-r<words/min>-p<pitch>.")]
NoiseLevels = Annotated[
    str, typer.Option(help="In turn, with commas: clean, or room_<s>s, telephone, snr_<dB>db, joined by +.")
]
NOISE_LEVELS = "clean,snr_15db,snr_5db"
"""Default noise levels of a benchmark."""
Engine = Annotated[str, typer.Option(help="espeak (here, offline) or magpie (a service).")]
SpeechEndpoint = Annotated[
    str, typer.Option("--endpoint", help="HOST:PORT of your own Magpie; else NVIDIA's hosted one.")
]
AllowSpeech = Annotated[
    str, typer.Option("--allow", help="What may receive sentences: nvcf, or endpoint for your own.")
]
TlsCa = Annotated[Path | None, typer.Option(help="PEM certificate of the authority of your own endpoint.")]
RequestsPerMinute = Annotated[float, typer.Option(help="Limit of the service; kept to. 0: none known.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before a long run on a service.")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder that all audio must lie in; by default the manifest's own.")
]
Priority = Annotated[
    str, typer.Option(help="Categories that decide, with commas: drug, procedure, anatomy, condition, lab, role.")
]
Normaliser = Annotated[str, typer.Option(help="Text normaliser of the scores: clinical-v1 or flywheel-v1.")]
GuardMargin = Annotated[float, typer.Option(help='Rise of guard WER still "not worse"; 0.003 is 0.3 points.')]
GuardUpper = Annotated[float, typer.Option(help="Most that the upper end of the rise's 95 % interval may be.")]
Kind = Annotated[str, typer.Option(help="clinical (rows have a term), general, or auto: what the first row is.")]


def permitted(allow: str, log: Path) -> Egress:
    """What ``--allow`` lets out of this machine; each sending is written to ``log``. Raises ConfigError."""
    from clinical_asr.egress import Egress, parse_allowed

    return Egress(parse_allowed(listed(allow, "--allow")) if allow.strip() else frozenset(), log)


def listed(text: str, flag: str) -> tuple[str, ...]:
    """The parts of a list with commas. Raises ConfigError if there is none, or one twice.

    >>> listed("clean, snr_5db", "--noise-levels")
    ('clean', 'snr_5db')
    """
    from clinical_asr.errors import ConfigError

    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts or len(set(parts)) < len(parts):
        raise ConfigError(f"{text!r} holds {'something twice' if parts else 'nothing'}", flag, "separate by commas")
    return parts


def noise_levels(text: str) -> tuple[str, ...]:
    """Noise levels, each proved to be one before any work begins. Raises ConfigError naming the flag and the grammar.

    >>> noise_levels("clean, telephone+snr_10db")
    ('clean', 'telephone+snr_10db')
    """
    from clinical_asr.conditions import parse
    from clinical_asr.errors import ConfigError

    levels = listed(text, "--noise-levels")
    for level in levels:
        try:
            parse(level)
        except ConfigError as error:
            raise ConfigError(error.what, "--noise-levels", error.mend) from None
    return levels


def categories(text: str, flag: str = "--priority") -> tuple[EntityCategory, ...]:
    """Categories by name. Raises ConfigError naming the six."""
    from clinical_asr.errors import ConfigError
    from clinical_asr.records import EntityCategory
    from clinical_asr.terms import suggestion

    known = {category.value: category for category in EntityCategory}
    for name in listed(text, flag):
        if name not in known:
            raise ConfigError(f"{name!r} is not a category", flag, suggestion(name))
    return tuple(known[name] for name in listed(text, flag))


def not_over(output: Path, *inputs: Path | None, flag: str = "--output") -> Path:
    """``output``, if it is none of the inputs and no cycle's. Raises ConfigError: neither is ever overwritten."""
    from clinical_asr.errors import ConfigError

    for path in filter(None, inputs):
        if output.resolve() == path.resolve():
            raise ConfigError("is also what is read", str(output), "write to another file")
    return apart_from_cycles(output, flag)


def apart_from_cycles(output: Path, flag: str = "--output") -> Path:
    """``output``, if no cycle writes it itself. Raises ConfigError: what a cycle rests on, and decided, stays."""
    from clinical_asr.cycle import is_a_cycles_own
    from clinical_asr.errors import ConfigError

    if is_a_cycles_own(output):
        what = "is a cycle's own file, and stays as the cycle wrote it"
        raise ConfigError(what, str(output), f"write outside the cycle's folder with {flag}")
    return output
