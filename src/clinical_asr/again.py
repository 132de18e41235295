"""What a finished cycle was asked for, as options that ask for it again. Words in capitals are a person's to fill in.

A request keeps files by their digest and a recipe by its name: where those lay, nothing tells.
"""

from __future__ import annotations

from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr.config import ComparisonConfig, GateConfig, SplitConfig, load_recipe, recipe_names
from clinical_asr.errors import FlywheelError
from clinical_asr.jsonl import read_json
from clinical_asr.text import DEFAULT_NORMALISER

KEEP, OWN = "keep", "RECIPE.yaml"


class Asked(msgspec.Struct, kw_only=True):
    """The part of a request that a turn on the same rows needs; the defaults are those of the command."""

    base_name: str = ""
    recipe: dict[str, Any] = {}
    guard: str | None = None
    replay: str | None = None
    selection: str | None = None
    guard_rows: int = 480
    gate: GateConfig = GateConfig()
    split: SplitConfig = SplitConfig(hold_out_sentences=0.1)
    comparison: ComparisonConfig = ComparisonConfig()
    normaliser: str = DEFAULT_NORMALISER
    seed: int = 42
    ladder: bool = False

    @property
    def recipe_name(self) -> str:
        """What the recipe was called; empty if nothing tells."""
        return str(self.recipe.get("name", ""))

    @property
    def recipe_word(self) -> str:
        """What ``--recipe`` takes: a shipped recipe's name, if it was that one; else a file of the person's own."""
        return self.recipe_name if not self.recipe or _is_shipped(self.recipe) else OWN


OPTIONS = {
    "--priority": "gate.priority_categories", "--min-rows": "gate.min_rows", "--tune-above": "gate.tune_above",
    "--guard-rows": "guard_rows", "--hold-out-voices": "split.hold_out_voices",
    "--hold-out-sentences": "split.hold_out_sentences", "--hold-out-terms": "split.hold_out_terms",
    "--guard-margin": "comparison.guard_margin", "--normaliser": "normaliser", "--seed": "seed",
}  # fmt: skip
"""Option of ``clinical-asr cycle`` -> where a request has it."""


def asked(path: Path) -> Asked:
    """The request in this file. Raises ManifestError if it cannot be read."""
    found: Asked = read_json(path, Asked)
    return found


def options(order: Asked) -> dict[str, str]:
    """Option -> word of everything that differs from the command's defaults; an option without a word has none.

    >>> options(Asked(gate=GateConfig(min_rows=60), replay="3f"))
    {'--min-rows': '60', '--replay': 'REPLAY.jsonl'}
    """
    usual = Asked()
    values = {flag: (attrgetter(place)(order), attrgetter(place)(usual)) for flag, place in OPTIONS.items()}
    told = {flag: _word(value) for flag, (value, default) in values.items() if value != default}
    files = [name for name in ("guard", "replay", "selection") if getattr(order, name)]
    told |= {f"--{name}": f"{name.upper()}.jsonl" for name in files}
    told |= {"--recipe": order.recipe_word} if order.recipe_word not in ("", KEEP) else {}
    return told | ({"--ladder": ""} if order.ladder else {})


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_word, value))
    return str(value.value) if isinstance(value, Enum) else f"{value:g}" if isinstance(value, float) else str(value)


def _is_shipped(recipe: dict[str, Any]) -> bool:
    name = str(recipe.get("name", ""))
    try:
        return name in recipe_names() and msgspec.to_builtins(load_recipe(name)) == _plain(recipe)
    except FlywheelError:
        return False


def _plain(recipe: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in recipe.items()}
