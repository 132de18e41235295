"""NVIDIA NeMo Data Designer as the writer of sentences: many requests at once to an OpenAI-compatible endpoint.

The library is made to reach out further than its endpoint: usage events, a metrics port, a tokenizer's file for its
statistics. None of that happens here: telemetry must be off before the library is imported, and nothing is profiled.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import urlsplit

from clinical_asr.egress import Egress, Service
from clinical_asr.errors import FlywheelError, MissingDependency

TELEMETRY = "NEMO_TELEMETRY_ENABLED"


class Request(Protocol):
    """What is asked for, see :class:`clinical_asr.composition.Request`."""

    @property
    def conversation(self) -> Sequence[Mapping[str, str]]: ...

    @property
    def subject(self) -> str: ...


@dataclass
class DataDesigner:
    """Callable: requests in, replies out, in order; empty where the library dropped a row.

    Raises MissingDependency, FlywheelError (egress, telemetry that is on, an endpoint that gives nothing).
    """

    url: str
    """The endpoint's root, as ``http://127.0.0.1:8000/v1``."""
    model: str
    egress: Egress
    key: str = field(default="", repr=False)
    timeout: float = 60.0
    parallel: int = 4
    """Requests under way at a time."""
    temperature: float = 0.8
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        self.host = urlsplit(self.url).netloc
        self.egress.require(Service.LLM, self.host)

    def __call__(self, requests: Iterable[Request]) -> list[str]:
        """All replies of one round."""
        asked = list(requests)
        if not asked:
            return []
        designer, config = _library()
        for request in asked:
            size = sum(len(message["content"].encode()) for message in request.conversation)
            self.egress.record(Service.LLM, self.host, request.subject, size)
        with TemporaryDirectory() as folder:
            replies = self._generate(designer, config, asked, Path(folder))
        return [replies.get(place, "") for place in range(len(asked))]

    def _generate(self, designer: Any, config: Any, asked: Sequence[Request], folder: Path) -> dict[int, str]:
        """Place to reply; the rows come back in any order."""
        builder = self._builder(config, asked)
        provider = config.ModelProvider(name="endpoint", endpoint=self.url, provider_type="openai",
                                        api_key=self.key or "none")  # fmt: skip
        work = designer(artifact_path=folder, model_providers=[provider])
        work.set_run_config(config.RunConfig(otel_metrics_port=None, disable_early_shutdown=True))
        try:
            rows = work.create(builder, num_records=len(asked)).load_dataset()
        except Exception as error:  # its own family of errors, and those of the HTTP client below it
            why = " ".join(str(error).split())[:160].replace(self.key or "\0", "***")
            raise FlywheelError(
                f"Data Designer got nothing ({why})", self.host, "check --llm and --llm-model"
            ) from None
        return {int(row["place"]): str(row["reply"] or "") for row in rows.to_dict("records")}

    def _builder(self, config: Any, asked: Sequence[Request]) -> Any:
        import pandas

        inference = config.ChatCompletionInferenceParams(
            temperature=self.temperature, max_tokens=self.max_tokens, max_parallel_requests=self.parallel,
            timeout=max(1, round(self.timeout)),
        )  # fmt: skip
        model = config.ModelConfig(alias="writer", model=self.model, provider="endpoint", skip_health_check=True,
                                   inference_parameters=inference)  # fmt: skip
        builder = config.DataDesignerConfigBuilder(model_configs=[model])
        seeds = [{"place": place, "request": _flat(request.conversation[1:])} for place, request in enumerate(asked)]
        builder.with_seed_dataset(config.DataFrameSeedSource(df=pandas.DataFrame(seeds)))
        system = asked[0].conversation[0]["content"]
        builder.add_column(config.LLMTextColumnConfig(name="reply", prompt="{{ request }}", system_prompt=system,
                                                      model_alias="writer"))  # fmt: skip
        return builder


def _flat(conversation: Sequence[Mapping[str, str]]) -> str:
    """A conversation as one request: the library's columns know no earlier turns.

    >>> _flat([{"role": "user", "content": "Write."}, {"role": "assistant", "content": "A."}])
    'Write.\\n\\nYour earlier answer: A.'
    """
    lead = {"assistant": "Your earlier answer: "}
    return "\n\n".join(f"{lead.get(message['role'], '')}{message['content']}" for message in conversation)


def _library() -> tuple[Any, Any]:
    """(DataDesigner without its profiler, the configuration module). Raises FlywheelError if it would phone home."""
    try:
        import data_designer.config as config
        from data_designer.engine.models.telemetry import TELEMETRY_ENABLED
        from data_designer.interface import DataDesigner as Designer
    except ImportError:
        raise MissingDependency("NeMo Data Designer", "designer") from None
    if TELEMETRY_ENABLED:
        raise FlywheelError("would send usage events", "Data Designer", f"set {TELEMETRY}=false before it is imported")
    logging.getLogger("data_designer").setLevel(logging.ERROR)

    class Quiet(Designer):  # type: ignore[misc]
        """Its profile counts tokens, for which it downloads a file; nobody reads it here."""

        def _create_dataset_profiler(self, *_: Any, **__: Any) -> Any:
            return _NoProfile()

    return Quiet, config


class _NoProfile:
    def profile_dataset(self, *_: Any, **__: Any) -> None:
        return None
