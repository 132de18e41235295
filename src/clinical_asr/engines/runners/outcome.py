"""What a stock run leaves behind, read back: the model, what it said of its rows, its validation scores."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from clinical_asr import out_of_memory
from clinical_asr.bases import adopt
from clinical_asr.config import TrainingConfig, halved
from clinical_asr.engines.runners import stock
from clinical_asr.engines.runners.staging import log_of
from clinical_asr.errors import TrainingError
from clinical_asr.training import EpochReport, TrainingJob, TrainingReport

_LOADED = re.compile(r"Dataset (?:successfully )?loaded with (\d+) (?:files|items)")
_SCORED = re.compile(r"val_wer=([0-9.]+?)-epoch=(\d+)")
_NO_MEMORY = re.compile(
    f"{out_of_memory.WORDS}|a GPU's memory is too small for its share"  # said by one of several processes of ours
)
_KILLED = re.compile(r"^\s*traceback : (Signal \d+ .*)", re.MULTILINE)
_FOR_HELP = re.compile(r"(Run|See) '(docker|podman) .*--help'")
_DESERTED = "another process of the run has ended"


def collect(staged: Path, job: TrainingJob, config: TrainingConfig, notes: list[str]) -> TrainingReport:
    """The script's best model under the name the driver expects, and the report.

    Raises TrainingError if the script wrote no model, more than one, or trained other rows than were declared.
    """
    rows = loaded_rows(_last_run(log_of(job.output)), len(job.examples))
    epochs = _epochs(staged / stock.RESULTS, rows)
    model = _model(staged / stock.RESULTS)
    digest = adopt(model, job.output)
    steps = -(-rows // (config.batch_size * config.accumulate_grad_batches)) * config.epochs
    return TrainingReport(
        digest=digest, epochs=epochs, best_epoch=epochs[-1].epoch if epochs else config.epochs, stopped_early=False,
        steps=steps, batch_size=config.batch_size, accumulate_grad_batches=config.accumulate_grad_batches,
        warmup_steps=config.warmup_steps, precision=config.precision, loss="NeMo's own", seconds=0.0,
        peak_memory_mb=0.0, resumed_after_epoch=0, notes=tuple(notes), versions={"image": stock.IMAGE},
        hardware="the container's GPU, named in its log",
    )  # fmt: skip


def loaded_rows(log: str, declared: int) -> int:
    """Rows the training loader really holds: NeMo drops what its filters dislike with one line of information.

    >>> loaded_rows("[NeMo I] Dataset loaded with 104 files totalling 0.15 hours", 104)
    104

    Raises TrainingError if it is another number, or if the log does not say.
    """
    found = _LOADED.search(log)
    if found is None or int(found[1]) != declared:
        said = f"{found[1]} rows" if found else "no number of rows"
        what = f"the script's loader speaks of {said}, {declared} were declared"
        raise TrainingError(what, "container", "check the durations in the manifest; nothing was kept")
    return declared


def _model(results: Path) -> Path:
    models = sorted(results.rglob("*.nemo"))
    best = [path for path in models if path.name == "adapted.nemo"] or models
    if len(best) != 1:
        what = f"the script wrote {len(models)} models, one was expected"
        raise TrainingError(what, str(results), "read the log beside the output")
    return best[0]


def _epochs(results: Path, rows: int) -> tuple[EpochReport, ...]:
    """The epochs whose checkpoint was kept, from the checkpoints' names: ``...--val_wer=0.1200-epoch=2.ckpt``."""
    scores = {int(m[2]) + 1: float(m[1]) for path in results.rglob("*.ckpt") if (m := _SCORED.search(path.name))}
    return tuple(
        EpochReport(epoch=epoch, loss=float("nan"), rows=rows, seconds=0.0, metrics={"val_wer": score})
        for epoch, score in sorted(scores.items(), key=lambda item: -item[1])
    )


def until_it_fits(
    config: TrainingConfig, run: Callable[[TrainingConfig], int], log: Path, words: Callable[[Path], str]
) -> tuple[TrainingConfig, list[str]]:
    """Run; out of memory, again at half the batch and twice the accumulation. What it ran with, and notes of that.

    Raises TrainingError with the run's ``words`` and where its log lies.
    """
    notes: list[str] = []
    while True:
        code = run(config)
        if code == 0:
            return config, notes
        if not ran_out_of_memory(log) or config.batch_size == 1:
            mend = "read the log, mend the cause and run the command again"
            raise TrainingError(f"training ended with exit code {code}: {words(log)}", str(log), mend)
        full, config = config.batch_size, halved(config)
        went_on = f"went on with {config.batch_size}, accumulating {config.accumulate_grad_batches}"
        notes.append(f"out of memory at batch {full}: {went_on}")


def ran_out_of_memory(log: Path) -> bool:
    """Whether the last run in ``log`` ended because the GPU was full."""
    return _NO_MEMORY.search(_last_run(log)) is not None


def last_words(log: Path) -> str:
    """The last line that says something: usually the exception. Where help is to be found is nothing of that kind.

    A log holds one ``$ command`` line for each run.
    """
    said = (line.strip() for line in _last_run(log).splitlines()[1:])
    lines = [line for line in said if line and not _FOR_HELP.match(line)]
    return lines[-1] if lines else "it said nothing"


def complaint(log: Path) -> str:
    """What this package said was wrong when it ran elsewhere, or which signal ended it; else its last words.

    Of several processes the one that failed counts, not those that it deserted.
    """
    text = _last_run(log)
    said = [line.strip() for line in text.splitlines() if line.startswith("error: ")]
    signals = [f"{found} (one of its processes)" for found in _KILLED.findall(text)]
    signals.sort(key=lambda found: "SIGTERM" in found)  # torchrun ends the others with it
    own = [line for line in said if _DESERTED not in line]
    return (own + signals + said + [last_words(log)])[0]


def _last_run(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return text[text.rfind("\n$ ") + 1 :]
