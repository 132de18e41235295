"""A prompt for each of the four stages: what to do in which order, by which tools, and what to say first.

The texts are data (``data/agent.yaml``); every threshold in them is taken from the code.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from clinical_asr.config import ComparisonConfig, GateConfig
from clinical_asr.doctor import MIN_VRAM_GB
from clinical_asr.errors import FlywheelError


class Prompt(msgspec.Struct, frozen=True):
    """One prompt and the one argument it takes; ``otherwise`` stands for that where it is not given."""

    title: str
    argument: str
    about: str
    otherwise: str
    text: str


class _Page(msgspec.Struct, frozen=True):
    always: str
    prompts: dict[str, Prompt]


@cache
def _page() -> _Page:
    import yaml

    document = (resources.files("clinical_asr") / "data" / "agent.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(document), _Page)


def offered() -> dict[str, Prompt]:
    """All prompts by name."""
    return _page().prompts


def written(name: str, given: str = "") -> str:
    """The prompt's text with its argument and the thresholds put in. Raises FlywheelError for one there is not.

    >>> "rise of general-English WER by more than 0.3 points" in written("finetune", "m.jsonl")
    True
    """
    if name not in offered():
        raise FlywheelError("no such prompt", name[:80], f"one of {', '.join(offered())}")
    prompt, gate, kept = offered()[name], GateConfig(), ComparisonConfig()
    text = prompt.text.format(
        it=given or prompt.otherwise, vram=MIN_VRAM_GB, tune_above=gate.tune_above, min_rows=gate.min_rows,
        min_rows_per_category=gate.min_rows_per_category, saturated_below=gate.saturated_below,
        keep_reduction=kept.keep_reduction, guard_points=100 * kept.guard_margin,
    )  # fmt: skip
    return f"{text}\n\n{_page().always}"
