"""What may leave this machine: nothing, unless the run names the service that may receive it.

A service is named on the command line (``--allow nvcf,merriam-webster``), what goes there is said before anything goes,
and every sending leaves a line in ``egress.jsonl``. Keys are no part of this: they never stand in a log.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.jsonl import append_row
from clinical_asr.records import Row

_HOST = re.compile(r"\[([0-9a-fA-F:.]+)\](?::\d+)?|([^\s/@:\[\]]+)(?::\d+)?|([0-9a-fA-F:.]+)")
"""``[::1]:443``, ``name:443`` or ``::1``; nothing that hides another host behind an @ or a slash."""


class Service(StrEnum):
    """Who may be sent something. Closed: a service that is not named here cannot be reached."""

    NVCF = "nvcf"
    MERRIAM_WEBSTER = "merriam-webster"
    LLM = "llm"
    ENDPOINT = "endpoint"
    HUB = "hub"

    @property
    def receives(self) -> str:
        """What goes there and when, for the disclosure."""
        return {
            Service.NVCF: "sentences to be spoken and clips to be transcribed, to NVIDIA's hosted functions",
            Service.MERRIAM_WEBSTER: "single terms, one query each, to dictionaryapi.com",
            Service.LLM: "terms and the prompt around them, to the language model endpoint you named",
            Service.ENDPOINT: "sentences to be spoken and clips to be transcribed, to the speech endpoint you named",
            Service.HUB: "the name of a base, to the model hub it is downloaded from",
        }[self]


class Sending(Row, frozen=True, kw_only=True):
    """One thing that left: whose row, to which host, how many bytes, when."""

    service: Service
    host: str
    subject: str
    """Row id or term."""
    bytes: int
    at: str
    """ISO 8601 time, UTC."""


@dataclass(frozen=True)
class Egress:
    """What this run may send and where it is written down. The default sends nothing."""

    allowed: frozenset[Service] = frozenset()
    log: Path | None = None

    def require(self, service: Service, host: str) -> None:
        """Raises FlywheelError unless ``service`` is allowed or ``host`` is this machine."""
        if service not in self.allowed and not is_local(host):
            raise FlywheelError(
                f"this run may send nothing to {host}",
                "egress",
                f"add --allow {service.value} if it may: that sends {service.receives}",
            )

    def record(self, service: Service, host: str, subject: str, size: int) -> None:
        """Write down that ``size`` bytes left; what stays on this machine has not."""
        if self.log is not None and not is_local(host):
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            append_row(self.log, Sending(service=service, host=host, subject=subject, bytes=size, at=at))

    def disclosure(self) -> list[str]:
        """What a person must be told before the first byte goes, one line a service.

        >>> Egress(frozenset({Service.MERRIAM_WEBSTER})).disclosure()
        ['merriam-webster: single terms, one query each, to dictionaryapi.com']
        """
        return [f"{service.value}: {service.receives}" for service in Service if service in self.allowed]


def parse_allowed(names: Sequence[str]) -> frozenset[Service]:
    """Services by name. Raises ConfigError naming those there are.

    >>> sorted(parse_allowed(["nvcf"]))
    [<Service.NVCF: 'nvcf'>]
    """
    known = {service.value: service for service in Service}
    for name in names:
        if name not in known:
            raise ConfigError(f"{name!r} is no service", "--allow", f"one of {', '.join(known)}")
    return frozenset(known[name] for name in names)


def is_local(host: str) -> bool:
    """True for this machine: ``localhost`` or a loopback address, with or without a port.

    >>> [is_local(host) for host in ("127.0.0.1:50051", "localhost", "[::1]:443", "grpc.nvcf.nvidia.com:443")]
    [True, True, True, False]
    """
    found = _HOST.fullmatch(host)
    if not found:
        return False
    name = str(found[1] or found[2] or found[3])
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
