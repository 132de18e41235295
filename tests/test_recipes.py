"""Every shipped recipe parses, explains each key, and says what it promises."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import msgspec
import pytest
import yaml

from clinical_asr.config import TrainingConfig, load_recipe, recipe_names
from clinical_asr.errors import ConfigError

FOLDER = Path(str(resources.files("clinical_asr"))) / "recipes"


def test_the_three_recipes_are_there() -> None:
    assert recipe_names() == ["keep", "production", "smoke"]


@pytest.mark.parametrize("name", ["keep", "production", "smoke"])
def test_each_key_of_the_config_stands_in_the_recipe_with_a_comment(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    commented = {match[1] for line in lines if (match := re.fullmatch(r"(\w+): \S.*? +# \S.*", line))}
    assert commented == {field.name for field in msgspec.structs.fields(TrainingConfig)}
    assert load_recipe(name).name == name


def test_smoke_is_the_published_recipe() -> None:
    recipe = load_recipe("smoke")
    assert (recipe.epochs, recipe.batch_size, recipe.warmup_steps, recipe.gradient_clip) == (3, 4, 5, 1.0)
    assert (recipe.learning_rate, recipe.min_learning_rate, recipe.weight_decay) == (3e-4, 5e-6, 1e-3)
    assert (recipe.betas, recipe.precision, recipe.replay_ratio) == ((0.9, 0.98), "bf16-mixed", 0.0)


def test_smoke_has_none_of_what_keeps_the_language() -> None:
    recipe = load_recipe("smoke")
    assert (recipe.frozen, recipe.match_weight, recipe.factors, recipe.selection_fraction) == ((), 0.0, (1.0,), 0.0)
    assert recipe.distortion and not recipe.freeze_batch_norm


def test_keep_takes_the_published_schedule() -> None:
    """What differs is what keeps the language, so that the two can be compared."""
    kept, stock = (msgspec.structs.asdict(load_recipe(name)) for name in ("keep", "smoke"))
    assert {key for key in kept if kept[key] != stock[key]} == {
        "name", "epochs", "replay_ratio", "frozen", "freeze_batch_norm", "distortion", "match_weight", "factors",
        "selection_fraction",
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"factors": []}, {"factors": [1.5]}, {"match_weight": 1.0}, {"selection_fraction": 0.9}, {"match_weight": -1.0}],
)
def test_settings_that_cannot_work_are_refused_by_name(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(change))
    with pytest.raises(ConfigError, match=next(iter(change))):
        load_recipe(str(tmp_path / "own.yaml"))


def test_no_recipe_is_frugal_unless_it_is_asked_to_be() -> None:
    assert not any(load_recipe(name).frugal for name in recipe_names())


def test_production_warms_up_for_an_epoch_and_has_patience() -> None:
    recipe = load_recipe("production")
    assert 10 <= recipe.epochs <= 30
    assert (recipe.warmup_epochs, recipe.early_stop_patience) == (1.0, 3)


@pytest.mark.parametrize("change", [{"precision": "16-mixed"}, {"lora_rank": 8}, {"tokenizer": "new"}, {"epochs": 0}])
def test_what_the_method_refuses_is_refused_by_name(tmp_path: Path, change: dict[str, object]) -> None:
    recipe = yaml.safe_load((FOLDER / "smoke.yaml").read_text()) | change
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(ConfigError, match=next(iter(change))):
        load_recipe(str(tmp_path / "own.yaml"))


def test_the_table_of_recipes_has_a_row_for_each() -> None:
    table = (FOLDER / "README.md").read_text()
    assert all(f"| `{name}` |" in table for name in recipe_names())
