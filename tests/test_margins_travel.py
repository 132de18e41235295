"""What a candidate may cost is the same wherever it is chosen: here, by hand, or by this package elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import soundfile

from clinical_asr.cli import main
from clinical_asr.config import TrainingConfig
from clinical_asr.cycle import file_digest
from clinical_asr.engines.runners.package import PackageRunner
from clinical_asr.jsonl import read_json, read_rows, to_dict, write_rows
from clinical_asr.records import ClinicalUtterance, row_id
from clinical_asr.training import Candidate, EpochReport, Example, Margins, TrainingJob, TrainingReport, strongest

MINI = Path(__file__).parents[1] / "models" / "mini-fastconformer-tdt.nemo"
TWO = TrainingConfig(name="two", epochs=1, factors=(0.5, 1.0))
COSTS = {0.5: 0.0008, 1.0: 0.0025}
"""Rise of general WER at each factor; the upper end of its interval is twice that."""


def engine(job: TrainingJob, evaluate: Any, on_step: Any) -> TrainingReport:
    """Trains nothing, and chooses between both factors by the margins of the job."""
    base = {"ker": 1.0, "wer": 0.1, "guard_wer": 0.02, "guard_rise": 0.0}
    told = {factor: {**base, "ker": 0.3, "guard_rise": cost, "guard_high": 2 * cost} for factor, cost in COSTS.items()}
    found = tuple(Candidate(1, factor, metrics) for factor, metrics in told.items())
    chosen = strongest(found, job.margins.on(base))
    job.output.parent.mkdir(parents=True, exist_ok=True)
    job.output.write_bytes(f"factor {chosen.factor}".encode())
    return TrainingReport(
        digest=file_digest(job.output), epochs=(EpochReport(1, 1.5, len(job.examples), 0.1, found[1].metrics),),
        best_epoch=1, stopped_early=False, steps=1, batch_size=4, accumulate_grad_batches=1, warmup_steps=0,
        precision="32-true", loss="none", seconds=0.1, peak_memory_mb=1.0, resumed_after_epoch=0, notes=(),
        versions={}, hardware="none", base_metrics=base, candidates=found, chosen=chosen,
    )  # fmt: skip


Command = Callable[..., int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line in this process, with that engine; its exit code."""
    from clinical_asr.cli import engines

    monkeypatch.setattr(engines, "trainer", lambda fit=False: engine)

    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["clinical-asr", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0)

    return run


class Elsewhere:
    """A host that has this package and that engine."""

    def __init__(self, command: Command) -> None:
        self.command = command

    @contextmanager
    def holding(self, folder: Path) -> Iterator[PurePosixPath]:
        yield PurePosixPath(folder)

    def run(self, command: Sequence[str], log: Path) -> int:
        return self.command(*command[command.index("clinical_asr") + 1 :])


@pytest.fixture
def manifests(tmp_path: Path) -> dict[str, Path]:
    """A row to learn and a row to choose by."""
    found = {}
    for n, name in enumerate(("train", "validation")):
        audio, text = tmp_path / f"{name}.wav", f"give cefazolin {name}"
        soundfile.write(audio, np.full(16_000, 0.1 * (n + 1), np.float32), 16_000, subtype="PCM_16")
        key = row_id(file_digest(audio), text, "cefazolin")
        row = ClinicalUtterance(
            audio_filepath=audio.name, text=text, duration=1.0, id=key, term="cefazolin",
            entity_category="drug", ipa_source="g2p", voice_id="v", noise_level="clean", context_type="handoff",
        )  # fmt: skip
        found[name] = tmp_path / f"{name}.jsonl"
        write_rows(found[name], [row])
    return found


@pytest.mark.parametrize(
    ("margins", "factor"),
    [
        (Margins(), 1.0),
        (Margins(rise=0.001), 0.5),
        (Margins(rise=0.003, high=0.004), 0.5),
        (Margins(rise=0.001, at=0.005), 1.0),  # these rows are four times as hard as the guard set
    ],
)
def test_the_same_candidate_is_chosen_here_and_elsewhere(
    margins: Margins, factor: float, manifests: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    examples = []
    for path in manifests.values():
        (row,) = read_rows(path, ClinicalUtterance)
        examples.append(Example(row.id, tmp_path / row.audio_filepath, row.text, row.duration, to_dict(row)))
    job = TrainingJob(MINI, (examples[0],), TWO, tmp_path / "out" / "m.nemo", (examples[1],), margins=margins)
    for train in (engine, PackageRunner(Elsewhere(command))):
        report = train(job, None, None)
        assert report.chosen is not None and report.chosen.factor == factor


def finetune(manifests: dict[str, Path], *options: object) -> list[object]:
    recipe = manifests["train"].with_name("two.yaml")
    recipe.write_text("name: two\nepochs: 1\nfactors: [0.5, 1.0]\n")
    words: list[object] = ["finetune", "--base", "mini", "--recipe", recipe, "--output", recipe.with_name("m.nemo")]
    return [*words, *(word for name, path in manifests.items() for word in (f"--{name}", path)), *options]


def test_by_hand_a_margin_is_given_and_a_finished_model_of_another_one_is_not_it(
    manifests: dict[str, Path], command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = ("--guard-margin", 0.001, "--guard-wer", 0.01)  # twice as hard here
    assert command(*finetune(manifests, *strict)) == 0
    choice = read_json(tmp_path / "training_run_info.json")["selection"]
    assert choice["chosen"]["factor"] == 0.5 and choice["margins"]["rise"] == 0.002 and choice["margins"]["times"] == 2
    capsys.readouterr()
    assert command(*finetune(manifests, *strict)) == 0 and "complete already" in capsys.readouterr().out
    for others in ((), ("--guard-margin", 0.001), (*strict, "--guard-upper", 0.02)):
        assert command(*finetune(manifests, *others)) == 2
        assert "m.nemo: was made with another guard margin; name another folder" in capsys.readouterr().err


@pytest.mark.parametrize("margin", ["-0.001", "nan"])
def test_what_is_no_margin_is_refused(
    margin: str, manifests: dict[str, Path], command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*finetune(manifests, "--guard-margin", margin)) == 2
    assert "error: --guard-margin: needs 0 <= margin <= upper" in capsys.readouterr().err
