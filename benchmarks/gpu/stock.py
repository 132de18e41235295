"""The stock way beside ours: NeMo's own fine-tuning script, and two further processes that evaluate with NeMo.

    python benchmarks/gpu/stock.py --cycle /tmp/cycle/cycle1 --base /tmp/cycle/base.nemo --out /tmp/stock \\
        --stock-script speech_to_text_finetune.py --stock-config speech_to_text_finetune.yaml

``cycle.py --stock-script ...`` does the same in the run of our own cycle. Script and configuration are NeMo's, and
stay there: take both from its repository at tag v3.0.0, ``examples/asr/speech_to_text_finetune.py`` and
``examples/asr/conf/asr_finetune/speech_to_text_finetune.yaml``. They run unchanged, on the rows that the cycle trained
on and held out, with the command that ``clinical-asr finetune --runner container`` uses.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from watched import watch

from clinical_asr.config import load_recipe
from clinical_asr.engines.runners import staging, stock
from clinical_asr.jsonl import read_rows
from clinical_asr.records import Utterance
from clinical_asr.training import Example

HERE = Path(__file__).resolve().parent


def measure(cycle: Path, base: Path, out: Path, script: Path, config: Path, recipe: str) -> dict[str, Any]:
    """Evaluate the base, train, evaluate the tuned model: three processes, as the published method has it.

    ``cycle`` is the folder of a finished cycle; ``out`` is emptied first. Exits if one of the three fails.
    """
    shutil.rmtree(out, ignore_errors=True)
    rows = {name: _examples(cycle / f"{name}.jsonl") for name in ("train", "validation")}
    staged = staging.stage(base, rows, out / "staged", PurePosixPath((out / "staged").resolve()))
    before = _run([*_evaluation(base, cycle), str(out / "base.jsonl")], out, "evaluate_base")
    trained = _run(_training(staged, script, config, recipe, len(rows["train"])), out, "train")
    tuned = _the_model(staged.here / stock.RESULTS)
    after = _run([*_evaluation(tuned, cycle), str(out / "tuned.jsonl")], out, "evaluate_tuned")
    parts = {"evaluate_base": before, "train": trained, "evaluate_tuned": after}
    return {
        "stock_s": round(sum(part["wall_s"] for part in parts.values()), 1),
        "stock_train_s": trained["wall_s"],
        "stock_peak_gb": max((part["peak_gb"] or 0.0) for part in parts.values()) or None,
        "stock_written_gb": trained["written_gb"],
        "stock_left_gb": round(_size(staged.here / stock.RESULTS) / 2**30, 3),
        "stock_rows": {name: len(examples) for name, examples in rows.items()},
        "stock_parts": parts,
    }


def _examples(manifest: Path) -> list[Example]:
    rows = read_rows(manifest, Utterance)
    return [Example(row.id, manifest.parent / row.audio_filepath, row.text, row.duration) for row in rows]


def _training(staged: staging.Stage, script: Path, config: Path, recipe: str, rows: int) -> list[str]:
    """The product's own command for the stock script; Hydra looks for the configuration beside the script."""
    import torch

    folder = staged.here.parent / "script"
    place = folder / "conf" / "asr_finetune" / "speech_to_text_finetune.yaml"
    place.parent.mkdir(parents=True)
    shutil.copyfile(config, place)
    copy = Path(shutil.copyfile(script, folder / "speech_to_text_finetune.py"))
    told, more = load_recipe(recipe), [f"hydra.run.dir={folder / 'hydra'}"]
    if not torch.cuda.is_available():  # to rehearse: fp32 as our own command takes, and nothing that asks for a GPU
        told, more = msgspec.structs.replace(told, precision="32-true"), [*more, "trainer.sync_batchnorm=false"]
    _python, *command = stock.command(told, staged.there, rows, PurePosixPath(copy))
    return [*command, *more]


def _evaluation(model: Path, cycle: Path) -> list[str]:
    return [str(HERE / "nemo_transcribe.py"), str(model), str(cycle / "manifest.jsonl")]


def _the_model(results: Path) -> Path:
    """The ``.nemo`` that NeMo's experiment manager left, under the name of the run."""
    models = sorted(results.rglob("adapted.nemo"))
    if len(models) != 1:
        sys.exit(f"the stock script left {len(models)} models in {results}")
    return models[0]


def _run(command: list[str], out: Path, name: str) -> dict[str, Any]:
    log = out / f"{name}.log"
    print(f"stock: {name} (log: {log})", file=sys.stderr, flush=True)
    found = watch(command, out / f"{name}.json", log)
    if found["exit_code"]:
        told = log.read_text(errors="replace").strip().splitlines()[-15:]
        sys.exit("\n".join([*told, f"stock: {name} ended with exit code {found['exit_code']}: {log}"]))
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def add_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """``--stock-script`` and ``--stock-config``."""
    note = "NeMo's own, from its repository at tag v3.0.0"
    parser.add_argument("--stock-script", type=Path, required=required, help=f"speech_to_text_finetune.py: {note}")
    parser.add_argument("--stock-config", type=Path, required=required, help=f"speech_to_text_finetune.yaml: {note}")


def main() -> None:
    """Time the stock way on the rows of a finished cycle; print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycle", type=Path, required=True, help="folder of a finished cycle: its rows are used")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="emptied first")
    parser.add_argument("--recipe", default="smoke")
    add_options(parser, required=True)
    asked = parser.parse_args()
    places = (asked.cycle, asked.base, asked.out, asked.stock_script, asked.stock_config)
    print(json.dumps(measure(*(place.resolve() for place in places), asked.recipe), indent=2))


if __name__ == "__main__":
    main()
