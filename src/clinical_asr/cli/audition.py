"""``clinical-asr audition``: a person listens to one clip per term, in a page or in the terminal, and judges it."""

from __future__ import annotations

import shlex
import webbrowser
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import counted, say

if TYPE_CHECKING:
    from clinical_asr.audition_desk import Desk
    from clinical_asr.cli.voices import Speech
    from clinical_asr.clips import ClipPlan

UNFINISHED = 3  # the gate says go back


def audition(
    terms: o.Terms,
    folder: Annotated[
        Path, typer.Option(help="The cycle's or the benchmark's folder: clips and verdicts go there.")
    ] = Path("cycles/cycle1"),
    overrides: Annotated[
        Path | None,
        typer.Option(help="Where fixes are added; by default pronunciation_overrides.csv in the folder."),
    ] = None,
    sentences: Annotated[
        Path | None, typer.Option(help="Your own sentences, JSONL; by default from the package's frames.")
    ] = None,
    pronunciations: Annotated[
        Path | None, typer.Option(help="Pronunciations, as the command of that name writes them.")
    ] = None,
    voice: Annotated[str, typer.Option(help="Voice id that says the clips; by default the engine's first.")] = "",
    engine: o.Engine = "espeak",
    endpoint: o.SpeechEndpoint = "",
    allow: o.AllowSpeech = "",
    tls_ca: o.TlsCa = None,
    requests_per_minute: o.RequestsPerMinute = 0.0,
    yes: o.Yes = False,
    by: Annotated[str, typer.Option(help="Who is listening; asked once if not given.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every term again, not only what is left.")] = False,
    terminal: Annotated[bool, typer.Option("--terminal", help="Listen here, without a browser.")] = False,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the page's address, open no browser.")] = False,
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.", min=0, max=65535)] = 0,
    seed: o.Seed = 42,
) -> None:
    """Listen to one clip of every term and say: good, fix the pronunciation, or drop. Full synthesis waits for it.

    Opens a page of this machine alone. Verdicts go to FOLDER/auditions.jsonl as they are given, fixes to the overrides;
    the same command again shows what is left. A verdict vouches for the engine that was heard: audio --engine magpie
    asks for an audition with --engine magpie. Exit codes: 0 all heard, 3 terms are left.

    Example: clinical-asr audition --terms examples/terms.csv --folder cycles/cycle1
    """
    from clinical_asr.audition_desk import Desk
    from clinical_asr.cli.audition_booth import booth, clips_of
    from clinical_asr.cli.voices import Speech, speaking

    speech = Speech(engine, endpoint, allow, tls_ca, requests_per_minute)
    chosen, fixes = speech.one_voice(voice), overrides or folder / "pronunciation_overrides.csv"
    plans = clips_of(terms, fixes, sentences, pronunciations, chosen, seed)
    if speech.remote:
        _tell_plan(plans(), folder, speech, yes=yes)
    then = partial(_then, terms, folder, fixes, speech, sentences, pronunciations, told=overrides is not None)
    with speaking(speech, (chosen,), folder / "egress.jsonl") as (synthesise, markup):
        desk = Desk(folder, booth(plans, fixes, chosen, speech, synthesise, markup), everything=everything)
        if not desk.listed:
            say(f"nothing is left to hear in {folder}; --all shows every term again")
        elif terminal:
            _listen_here(desk, by)
        else:
            _listen_in_a_page(desk, by, then, port, opens=not no_open)
    _conclude(desk, then)


def _tell_plan(plans: Sequence[ClipPlan], folder: Path, speech: Speech, *, yes: bool) -> None:
    from clinical_asr.cli.voices import tell_plan
    from clinical_asr.outlook import outlook

    tell_plan(outlook(plans, [folder / "audition"]), speech, yes=yes)


def _conclude(desk: Desk, then: Callable[[], str]) -> None:
    """What is left, or what to type next."""
    left = desk.left()
    if left:
        say(f"{counted(left, 'terms')} left; the same command shows what is left")
        raise typer.Exit(UNFINISHED)
    typer.echo(f"every term has its verdict: {desk.verdicts}")
    for command in then().splitlines():
        typer.echo(f"next: {command}")


def _listen_in_a_page(desk: Desk, by: str, then: Callable[[], str], port: int, *, opens: bool) -> None:
    from clinical_asr.audition_server import AuditionServer

    with AuditionServer(desk, port=port, by=by, then=then) as server:
        typer.echo(f"{counted(len(desk.listed), 'terms')} to hear: {server.url}")
        typer.echo("end with Finish on the page, or with Ctrl-C here")
        if opens and not webbrowser.open(server.ticket_url):
            typer.echo("no browser could be started: open the address, or use --terminal")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            if desk.left():
                raise


def _listen_here(desk: Desk, by: str) -> None:
    from clinical_asr.audition_terminal import listen

    listen(desk, by or desk.last_listener(), ask=_ask, tell=typer.echo, play=_player())


def _ask(question: str) -> str | None:
    """One line of standard input; ``None`` at its end."""
    try:
        return input(question)
    except EOFError:
        typer.echo("")
        return None


PLAYERS = (
    ("pw-play",), ("paplay",), ("aplay", "-q"), ("afplay",), ("ffplay", "-nodisp", "-autoexit", "-loglevel", "quiet"),
    ("play", "-q"),
)  # fmt: skip
"""Programs that play a WAV file and return when it has ended, the likeliest to be right first."""


def _player() -> Callable[[Path], bool] | None:
    """Plays a file to its end, True if that went well; ``None`` if this machine has no player."""
    import shutil
    import subprocess

    command = next((player for player in PLAYERS if shutil.which(player[0])), None)
    if command is None:
        return None

    def play(path: Path) -> bool:
        done = subprocess.run([*command, str(path.resolve())], stdin=subprocess.DEVNULL, capture_output=True)
        return done.returncode == 0

    return play


def _then(
    terms: Path, folder: Path, fixes: Path, speech: Speech, sentences: Path | None, said: Path | None, *, told: bool
) -> str:
    """What to type next, a command a line: the cycle whose folder this is, which speaks with eSpeak NG, or a benchmark.

    Pronunciations that were ``said`` from a file and needed no fix are spoken as they stand there.
    """
    number, kept = folder.name.removeprefix("cycle"), said if not fixes.exists() else None
    turns = number.isdigit() and not speech.remote and not kept
    given = ["--overrides", str(fixes)] if told or (fixes.exists() and not number.isdigit()) else []
    if turns:
        return shlex.join([*_cycle(terms, folder.parent, int(number)), *given])
    return "\n".join(_benchmark(terms, folder, sentences, kept, given, speech.flags()))


def _cycle(terms: Path, root: Path, number: int) -> list[str]:
    from clinical_asr.cycle import Cycle
    from clinical_asr.jsonl import read_json

    at = Cycle(root, number)
    base = read_json(at.request).get("base_name", "mini") if at.request.exists() else "mini"
    words = ["clinical-asr", "cycle", "--base", base, "--terms", str(terms), "--out", str(root)]
    return [*words, *(["--cycle", str(number)] if number != 1 else [])]


def _benchmark(
    terms: Path, folder: Path, sentences: Path | None, said: Path | None, given: list[str], engine: str
) -> list[str]:
    """The commands that speak a benchmark into ``folder``: files that are not there are written first."""
    texts, sounds = sentences or folder / "sentences.jsonl", said or folder / "pronunciations.jsonl"
    write = [["sentences", "--terms", terms, "--output", texts]] if not texts.exists() else []
    write += [["pronunciations", "--terms", terms, "--output", sounds, *given]] if not said else []
    speak = ["audio", "--sentences", texts, "--pronunciations", sounds, "--output-folder", folder]
    *first, last = (shlex.join(map(str, ["clinical-asr", *words])) for words in [*write, speak])
    return [*first, last + engine]
