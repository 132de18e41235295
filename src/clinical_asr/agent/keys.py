"""Keys stay with the person: which variables of the environment a command gets, and that no reply holds one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from clinical_asr.egress import Service
from clinical_asr.errors import ConfigError

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
ADDRESSES = {"ASR_ENDPOINT", "RAY_ADDRESS"}
"""Variables that would send something to a place that the call does not name."""
OF_SERVICE: dict[Service, tuple[str, ...]] = {
    Service.NVCF: ("NVIDIA_API_KEY",),
    Service.MERRIAM_WEBSTER: ("MERRIAM_WEBSTER_API_KEY",),
    Service.LLM: ("CLINICAL_ASR_LLM_KEY",),
    Service.ENDPOINT: ("CLINICAL_ASR_TOKEN",),
    Service.HUB: ("HF_TOKEN",),
}
PLAIN = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "160", "PYTHONUNBUFFERED": "1"}
SHORTEST = 6  # letters; anything shorter is in half of all texts


@dataclass(frozen=True)
class Environment:
    """The environment that the person's client started the server with."""

    given: Mapping[str, str]

    def for_command(self, allowed: Collection[Service], every: bool = False) -> dict[str, str]:
        """What a command gets: keys only of the services that the person allowed for this very call.

        ``every``: all of them, for a command that tells no more than whether they are set.

        >>> told = Environment({"PATH": "/bin", "NVIDIA_API_KEY": "nvapi-1", "HF_TOKEN": "hf-1"})
        >>> sorted(set(told.for_command({Service.HUB})) - set(PLAIN))
        ['HF_TOKEN', 'PATH']
        """
        wanted = {name for service in allowed for name in OF_SERVICE[service]}
        kept = {
            name: value for name, value in self.given.items()
            if (not SECRET.search(name) or every or name in wanted) and name not in ADDRESSES
        }  # fmt: skip
        offline = {} if Service.HUB in allowed else {"HF_HUB_OFFLINE": "1"}
        return {**kept, **PLAIN, **offline}

    @property
    def _values(self) -> list[str]:
        found = {value for name, value in self.given.items() if SECRET.search(name) and len(value) >= SHORTEST}
        return sorted(found, key=len, reverse=True)

    def scrubbed(self, value: Any) -> Any:
        """The same text, list or mapping with every key's value replaced.

        >>> Environment({"HF_TOKEN": "hf-secret"}).scrubbed({"output": ["it is hf-secret"]})
        {'output': ['it is [withheld]']}
        """
        if isinstance(value, str):
            for secret in self._values:
                value = value.replace(secret, "[withheld]")
            return value
        if isinstance(value, Mapping):
            return {self.scrubbed(key): self.scrubbed(one) for key, one in value.items()}
        return [self.scrubbed(one) for one in value] if isinstance(value, (list, tuple)) else value

    def refuse_secrets(self, value: Any, where: str) -> None:
        """Raises ConfigError if an argument holds a key: it would stand in the records of the job."""
        if self.scrubbed(value) != (list(value) if isinstance(value, tuple) else value):
            raise ConfigError("an argument holds a key", where, "keys stay in the environment; no tool takes one")
