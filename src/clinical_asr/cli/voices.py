"""The speech engine that a command line asks for: eSpeak NG here, or Magpie over the network if the run allows it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clinical_asr.cli import options as o

if TYPE_CHECKING:
    from clinical_asr.engines.riva_tts import SpeechEndpoint
    from clinical_asr.outlook import Outlook

ENGINES = ("espeak", "magpie")


@dataclass(frozen=True)
class Speech:
    """What was asked for on the command line; nothing is connected yet."""

    engine: str = "espeak"
    endpoint: str = ""
    allow: str = ""
    tls_ca: Path | None = None
    requests_per_minute: float = 0.0
    workers: int = 0

    def __post_init__(self) -> None:
        from clinical_asr.egress import parse_allowed
        from clinical_asr.errors import ConfigError

        parse_allowed([name.strip() for name in self.allow.split(",") if name.strip()])
        if self.engine not in ENGINES:
            raise ConfigError(f"{self.engine!r} is no speech engine", "--engine", f"one of {', '.join(ENGINES)}")
        if self.engine == "espeak" and self.endpoint:
            raise ConfigError("eSpeak NG speaks on this machine", "--endpoint", "add --engine magpie, or leave it out")

    @property
    def remote(self) -> bool:
        """True if sentences go to a service."""
        return self.engine == "magpie"

    def chosen_voices(self, voices: str, flag: str = "--voices") -> tuple[str, ...]:
        """The voices asked for, or the engine's own. Raises ConfigError for one that eSpeak NG has not."""
        from clinical_asr.cli.engines import check_voices
        from clinical_asr.engines.riva_tts import MAGPIE_VOICES

        if not self.remote:
            return check_voices(o.listed(voices, flag), flag)
        return MAGPIE_VOICES if voices == o.VOICES else o.listed(voices, flag)

    def one_voice(self, voice: str) -> str:
        """The voice of ``--voice``; by default the engine's first. Raises ConfigError for several, or none such."""
        from clinical_asr.errors import ConfigError

        chosen = self.chosen_voices(voice or o.VOICES, "--voice")
        if voice and len(chosen) > 1:
            raise ConfigError(f"{voice!r} names {len(chosen)} voices", "--voice", "one voice says all clips")
        return chosen[0]

    def flags(self) -> str:
        """What asks another command for the same engine: nothing for the offline one."""
        told = {"--engine": self.engine, "--endpoint": self.endpoint, "--allow": self.allow, "--tls-ca": self.tls_ca}
        words = [word for flag, value in told.items() if value for word in (flag, str(value))]
        return " " + shlex.join(words) if self.remote else ""

    @property
    def processes(self) -> int:
        """Worker processes: as many as there are cores for eSpeak NG; a service is asked by this process alone."""
        return 1 if self.remote else self.workers or len(os.sched_getaffinity(0))


@contextmanager
def speaking(speech: Speech, voices: tuple[str, ...], log: Path) -> Iterator[tuple[Any, Any]]:
    """(synthesise, markup), connected. What leaves the machine is told first and written to ``log``.

    Raises FlywheelError if the run does not allow it, ConfigError for a voice that the service has not.
    """
    if not speech.remote:
        from clinical_asr.cli.engines import markup, synthesiser

        yield synthesiser(), markup()
        return
    from clinical_asr.engines.riva_tts import RivaSpeech

    endpoint, egress = _endpoint(speech), o.permitted(speech.allow, log)
    egress.require(endpoint.service, endpoint.address)
    for line in egress.disclosure():
        typer.echo(f"leaves this machine: {line}")
    with RivaSpeech(endpoint, egress) as engine:
        _require_voices(engine.voices(), voices, endpoint.address)
        try:
            yield engine, _as_ssml
        finally:
            if engine.drops:
                typer.echo(f"{engine.drops} requests were refused or broke off and were made again")


def _as_ssml(text: str, ipa: Mapping[str, str]) -> str:
    """A whole document: without its root the service would read the tags aloud."""
    from clinical_asr.pronunciations import ssml

    return f"<speak>{ssml(text, ipa)}</speak>"


def _endpoint(speech: Speech) -> SpeechEndpoint:
    """Read from the environment: ``TTS_NVCF_FUNCTION_ID``, and the key that belongs to the service."""
    from clinical_asr.cli.endpoints import key_for
    from clinical_asr.egress import is_local
    from clinical_asr.engines.riva_tts import MAGPIE_FUNCTION, SpeechEndpoint
    from clinical_asr.riva_service import HOSTED

    address = speech.endpoint or HOSTED
    ours = address == HOSTED
    return SpeechEndpoint(
        address=address,
        function_id=os.environ.get("TTS_NVCF_FUNCTION_ID", MAGPIE_FUNCTION) if ours else "",
        key="" if is_local(address) else key_for(address),
        ca=speech.tls_ca.read_bytes() if speech.tls_ca else None,
        tls=True if speech.tls_ca else None,
        requests_per_minute=speech.requests_per_minute,
    )


def _require_voices(known: list[str], wanted: tuple[str, ...], where: str) -> None:
    from clinical_asr.errors import ConfigError

    unknown = [voice for voice in wanted if known and voice not in known]
    if unknown:
        raise ConfigError(f"{where} has no voice {unknown[0]!r}", "--voices", f"one of {', '.join(known)}")


def tell_plan(ahead: Outlook, speech: Speech, *, yes: bool) -> None:
    """The plan before it runs; on a service, more than 100 requests need a yes."""
    from clinical_asr.outlook import ASK_ABOVE

    lines = ahead.lines() + (ahead.hosted_lines(speech.requests_per_minute) if speech.remote else [])
    for line in lines:
        typer.echo(f"plan: {line}")
    if speech.remote and ahead.to_speak > ASK_ABOVE:
        require_yes(f"Send {ahead.to_speak} sentences?", yes)


def require_yes(question: str, yes: bool, ask: Callable[[str], bool] = typer.confirm) -> None:
    """Go on only after a yes, typed or given as ``--yes``. Raises ConfigError where nobody can be asked."""
    import sys

    from clinical_asr.errors import ConfigError

    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Nobody is here to answer", "--yes", "add --yes if it may")
    if not ask(question):
        raise typer.Exit(2)
