"""What the person alone may allow: what costs, leaves this machine or is replaced, and what they must say themselves.

Pure but for looking whether a file is there. The answers are fetched elsewhere: from the person's client, nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clinical_asr.agent.call import Call
from clinical_asr.bases import HUB_ID, refuse_name
from clinical_asr.egress import Service, is_local, parse_allowed
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.rental import Rental


@dataclass(frozen=True)
class Need:
    """One thing to be allowed: what it is, and the service that then gets something."""

    text: str
    service: Service | None = None


def needs(call: Call) -> list[Need]:
    """Everything about this call that the person must agree to; empty if nothing.

    Raises FlywheelError for what no tool may start, with the command that the person can type.
    """
    return [need for rule in RULES for need in rule(call)]


def question(call: Call, wanted: list[Need]) -> str:
    """What the person reads: the command as it will run, and each thing it needs leave for."""
    lines = [f"An agent asks to run, in {call.project.root}:", "", f"    {call.typed().split(' && ', 1)[1]}", ""]
    lines += [f"- {need.text}" for need in wanted]
    lines += [f"- {WORDS[name]}" for name in call.waits_for_words]
    return "\n".join(lines)


WORDS = {
    "waive_audition": "It skips the audition: nobody will have listened to how the terms are spoken. "
    "Say why in your own words (20 letters or more); they are kept in the notes.",
    "not_promoted": "It hands over a model that the comparison did not promote. "
    "Say why in your own words (20 letters or more); they stand in its card.",
}


def _rented(call: Call) -> Iterator[Need]:
    """A rented machine needs a typed YES at a terminal; no tool can give it. What leaves this process's machine, or
    fetches an image, needs leave."""
    kind, _, detail = str(call.full.get("runner") or "local").partition(":")
    if kind == "brev":
        cost = "; ".join(Rental(max_cost=call.full["max_cost"]).cost_lines())
        raise FlywheelError(f"rents a machine, which only a person can do ({cost})", "--runner brev",
                            f"type it yourself: {call.typed()}")  # fmt: skip
    if not re.fullmatch(DETAILS.get(kind, ""), detail):
        raise ConfigError(f"{detail!r} is nothing a tool may pass", f"--runner {kind}", "see clinical-asr cycle --help")
    if kind == "container":
        yield Need("It runs NVIDIA's NeMo image in a container on this machine, and downloads it if it is not here.")
    elif kind in ("ssh", "ssh+container"):
        yield Need(f"It copies the benchmark's sentences and audio, and the base, to {detail}, and works there.")
    elif kind not in ("local", "torchrun"):
        yield Need(f"It submits a batch job ({kind}), which takes the benchmark's sentences and audio, and the base, "
                   "and may cost.")  # fmt: skip


def _sends(call: Call) -> Iterator[Need]:
    """Services that are to be sent something."""
    allow = [name.strip() for name in str(call.full.get("allow") or "").split(",") if name.strip()]
    for service in sorted(parse_allowed(allow)):
        yield Need(f"It sends {service.receives}. A hosted service may cost.", service)


def _addresses(call: Call) -> Iterator[Need]:
    """An address that is not this machine, named with or without its leave."""
    endpoint = str(call.full.get("endpoint") or "")
    if endpoint and not is_local(endpoint):
        yield Need(f"It speaks to the speech service at {endpoint}.")
    writer = str(call.full.get("llm") or "")
    if writer and not is_local(_host(writer)):
        yield Need(f"It speaks to the language model at {writer}.")


def _host(url: str) -> str:
    """
    >>> _host("http://127.0.0.1:8000/v1"), _host("http://127.0.0.1@elsewhere.org/v1")
    ('127.0.0.1:8000', '127.0.0.1@elsewhere.org')
    """
    return url.split("://", 1)[-1].split("/", 1)[0]


def _downloads(call: Call) -> Iterator[Need]:
    """A base that is no file here and may lie on the model hub. Raises ModelError for one refused by its name."""
    if call.tool.name == "advise":  # names a base, fetches none
        return
    for option in [one.name for one in call.tool.parameters if one.name in BASES and one.kind is str]:
        name = str(call.full.get(option) or "")
        here = call.project.root / name
        if HUB_ID.fullmatch(name) and not here.is_file() and not name.endswith(".nemo"):
            refuse_name(name)
            yield Need(f"It downloads the base {name!r}: it sends {Service.HUB.receives}.", Service.HUB)


def _replaces(call: Call) -> Iterator[Need]:
    """Files that are there and would be written anew; ``--force`` in any case."""
    if call.full.get("force"):
        yield Need("It replaces what is there (--force); models and comparisons may rest on it.")
    if call.tool.keeps:
        return
    there = [path for path in call.tool.made(call.full) if (call.project.root / path).is_file()]
    if there:
        yield Need(f"It replaces {', '.join(there)}.")


def _agreed(call: Call) -> Iterator[Need]:
    if call.full.get("yes"):
        yield Need("It answers yes (--yes) to what the command would ask: a long run on a service, a batch job.")


BASES = ("base", "model")
_HOST_NAME = r"(?!-)[\w.@-]+"
DETAILS = {"container": "(docker|podman)?", "ssh": _HOST_NAME, "ssh+container": _HOST_NAME, "slurm": r"(?!-)[\w-]*",
           "torchrun": "[0-9]{0,3}"}  # fmt: skip
"""What may stand behind the colon of a runner: a program or an option of ssh must not."""
RULES: tuple[Callable[[Call], Iterator[Need]], ...] = (_rented, _sends, _addresses, _downloads, _replaces, _agreed)
