"""What stands in a ``.nemo`` file, read without running anything in it; and the one way to restore one.

A ``.nemo`` is a tar of ``model_config.yaml``, a PyTorch zip of weights and a tokenizer: foreign code, until it has been
checked. The rules stand in three rooms: ``archive`` (members), ``model_config`` (names NeMo would call) and
``checkpoint`` (the pickle among the weights). This module is no engine: engines and stages that must know a base's
architecture share it.
"""

from __future__ import annotations

import logging
import warnings
from copy import deepcopy
from pathlib import Path
from typing import IO, Any

from clinical_asr.architecture import Architecture, architecture_of
from clinical_asr.archive import CONFIG, DO_NOT_USE, WEIGHTS, Archive, one_line, opened
from clinical_asr.checkpoint import Tensor, tensors_of
from clinical_asr.cycle import file_state
from clinical_asr.errors import MissingDependency, ModelError
from clinical_asr.late_compiler import compiler_on_first_call
from clinical_asr.model_config import check_config, parse_config
from clinical_asr.nemo_connector import direct_connector

__all__ = [
    "Architecture", "architecture_of", "check_archive", "import_nemo", "keep", "read_architecture", "read_config",
    "read_tensors", "restore",
]  # fmt: skip


def read_architecture(path: Path) -> Architecture:
    """The architecture of a ``.nemo``. Raises ModelError if the file cannot be read safely."""
    return architecture_of(read_config(path), str(path))


def read_config(path: Path) -> dict[str, Any]:
    """The ``model_config.yaml`` of a ``.nemo``, as plain data. Raises ModelError if it asks for what no model needs."""
    with opened(path) as archive:
        return _checked_config(archive)


def _checked_config(archive: Archive) -> dict[str, Any]:
    config = parse_config(archive.read(CONFIG), str(archive.path))
    check_config(config, archive.members, str(archive.path))
    return config


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name, shape and type of every tensor of a ``.nemo``; no weight is loaded. Raises ModelError."""
    with opened(path) as archive, archive.open(WEIGHTS) as weights:
        return tensors_of(weights, str(path))


_passed: set[Any] = set()


def check_archive(path: Path) -> None:
    """Refuse a ``.nemo`` that is damaged or that could do anything but hold a model. Reads the whole file once.

    Checks: every member belongs there and stays there; the config names nothing but parts of a speech model; the
    weights are a zip whose every record has its CRC-32 (PyTorch does not look) and whose table of contents names
    nothing but tensors; no other member is a pickle. A file that has passed and not changed since is not read again by
    this process. Raises ModelError.
    """
    state = file_state(path) if path.exists() else None
    if state in _passed:
        return
    _read_all(path)
    _passed.add(state)


def _read_all(path: Path) -> None:
    with opened(path) as archive:
        _checked_config(archive)
        for name in archive.members.keys() - {CONFIG, WEIGHTS}:
            with archive.open(name) as artifact:
                _refuse_pickle(path, name, artifact)
        with archive.open(WEIGHTS) as weights:
            tensors_of(weights, str(path), verify=True, read_at=archive.reader(WEIGHTS))


def _refuse_pickle(path: Path, name: str, artifact: IO[bytes]) -> None:
    """Tokenizers are text or protocol buffers; a pickle under such a name waits for somebody to load it."""
    head = artifact.read(4)
    if head == b"PK\x03\x04" or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        raise ModelError(f"its member {name!r} is a pickle or a zip, not a tokenizer", str(path), DO_NOT_USE)


def restore(path: Path, device: str = "cpu") -> Any:
    """The model, in memory, on ``device``, in eval mode. Raises ModelError, or MissingDependency without NeMo."""
    import_nemo()
    from lightning.fabric import Fabric
    from nemo.collections.asr.models import ASRModel

    kept = _kept.take(path, device)
    if kept is not None:
        return kept
    check_archive(path)
    try:
        with Fabric(accelerator="cpu").init_module(empty_init=True):  # all weights come from the file: none is drawn
            connector = direct_connector()()
            return ASRModel.restore_from(str(path), map_location=device, save_restore_connector=connector).eval()
    except Exception as error:  # NeMo raises anything for a config it does not understand
        why = f"NeMo cannot restore it ({one_line(error)})"
        raise ModelError(why, where=str(path), mend="is it a NeMo 1.20+ model?") from None


def keep(model: Any, path: Path) -> None:
    """``model`` holds what stands in ``path``: the next :func:`restore` of the unchanged file gives it back, unread.

    At most one is kept. Whoever still holds it must be done with it by then.
    """
    _kept.put(model, path)


class _Kept:
    """The one model in memory that need not be read again: a turn of the wheel needs each of its models twice."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._model: Any = None
        self._decoding: Any = None

    def put(self, model: Any, path: Path) -> None:
        """Keep it, and how its decoder was set up in the file."""
        self._key, self._model = self._key_of(path, next(model.parameters()).device.type), model
        self._decoding = deepcopy(model.cfg.get("decoding"))

    def take(self, path: Path, device: str) -> Any:
        """The kept model as :func:`restore` gives one, or None; whatever is kept is let go."""
        (key, model), fits = (self._key, self._model), self._model is not None
        fits = fits and key == self._key_of(path, device)
        decoding, self._decoding = self._decoding, None
        self._key, self._model = (), None
        if not fits:
            return None
        if model.cfg.get("decoding") != decoding:
            model.change_decoding_strategy(decoding, verbose=False)
        return model.eval().requires_grad_(True)

    @staticmethod
    def _key_of(path: Path, device: str) -> tuple[Any, ...]:
        return *file_state(path), device


_kept = _Kept()


def give_numpy_its_rows_back() -> None:
    """A name that numpy 2.4 has dropped; an older numba-cuda needs it to compile the TDT loss."""
    import numpy as np

    if not hasattr(np, "row_stack"):
        np.row_stack = np.vstack


def import_nemo() -> None:
    """Import NeMo without its banners. Raises MissingDependency."""
    give_numpy_its_rows_back()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), compiler_on_first_call():
            warnings.simplefilter("ignore")
            _refuse_conditional_nodes()
            import nemo.collections.asr  # noqa: F401 - the slow part; its banners end here
            from nemo.utils import logging as nemo_logging
    except ImportError:
        raise MissingDependency("NeMo", "nemo") from None
    finally:
        logging.disable(logging.NOTSET)
    nemo_logging.set_verbosity(nemo_logging.ERROR)
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(nemo|lightning|torch)\b")


def _refuse_conditional_nodes() -> None:
    """Let NeMo search with the graphs that it makes for older drivers.

    Those for newer ones hold loops, whose bodies use memory that PyTorch believes to be free: what others put there is
    overwritten, and where it was given back the process dies of an illegal access
    (https://github.com/NVIDIA-NeMo/Speech/issues/15423, docs/lab-notes.md). To be called before NeMo's models are
    imported, since they take the check under its own name.
    """
    from nemo.core.utils import cuda_python_utils

    def refuse() -> None:
        raise OSError("loops in CUDA graphs are not used")

    cuda_python_utils.check_cuda_python_cuda_graphs_conditional_nodes_supported = refuse
