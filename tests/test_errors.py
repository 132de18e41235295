"""Errors travel between processes as they are: a worker's own error is the run's error, whatever it is made from."""

from __future__ import annotations

import pickle

import pytest

from clinical_asr.errors import ConfigError, FlywheelError, ManifestError, MissingDependency, ModelError


@pytest.mark.parametrize(
    "error",
    [
        FlywheelError("is full", "the disk", "make room"), ConfigError("is no number", "--ray", "use 2"),
        ManifestError("m.jsonl", 3, "text", "is empty"), MissingDependency("Ray", "ray"), ModelError("is none"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_error_is_the_same_in_another_process(error: FlywheelError) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error) and str(there) == str(error) and there.exit_code == error.exit_code
    assert vars(there) == vars(error) and there.args == error.args
