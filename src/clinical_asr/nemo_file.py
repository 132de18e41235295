"""What stands in a ``.nemo`` file, read without running anything in it; and the one way to restore one.

A ``.nemo`` is a tar of ``model_config.yaml``, a PyTorch zip of weights and a tokenizer. This module is no engine:
engines and stages that must know a base's architecture share it.
"""

from __future__ import annotations

import logging
import pickletools
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from clinical_asr.errors import MissingDependency, ModelError

CONFIG, LARGEST_CONFIG = "model_config.yaml", 64 * 2**20
MODEL_CLASSES = "nemo.collections.asr.models."
SAFE_GLOBALS = ("torch", "collections", "numpy")
"""Packages whose names a pickled table of tensors may mention; NeMo's own loader is stricter still."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What fine-tuning and deployment must know about a base; read from its config, never guessed from its name."""

    target: str
    """Dotted class NeMo restores."""
    decoder: str
    """``tdt``, ``rnnt``, ``ctc``, ``hybrid`` or ``other``."""
    layers: int
    width: int
    mels: int
    vocabulary: int
    sample_rate: int
    durations: tuple[int, ...]
    sigma: float
    omega: float
    streaming: bool
    """Cache-aware: the encoder sees a limited right context."""
    adapters: bool


def read_architecture(path: Path) -> Architecture:
    """The architecture of a ``.nemo``. Raises ModelError if the file cannot be read safely."""
    return architecture_of(read_config(path), str(path))


def read_config(path: Path) -> dict[str, Any]:
    """The ``model_config.yaml`` of a ``.nemo``, parsed as plain YAML (no tags, nothing instantiated)."""
    import yaml

    with _opened(path) as archive:
        document = _member(archive, path, CONFIG).read(LARGEST_CONFIG)
    try:
        config = yaml.safe_load(document)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"its {CONFIG} is not YAML ({_one_line(error)})", where=str(path), mend=GET_AGAIN) from None
    if not isinstance(config, dict):
        raise ModelError(f"its {CONFIG} is empty", where=str(path), mend=GET_AGAIN)
    return config


GET_AGAIN = "get the file again"


class _opened:  # noqa: N801 - reads as a function
    """An archive whose every read error, while it is open, becomes a ModelError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> tarfile.TarFile:
        try:
            self.archive = tarfile.open(self.path, "r:*")
        except FileNotFoundError:
            raise ModelError("no such file", where=str(self.path), mend="check the path of the base") from None
        except (OSError, EOFError, tarfile.TarError) as error:
            raise ModelError(f"is not a .nemo archive ({_one_line(error)})", str(self.path), GET_AGAIN) from None
        return self.archive

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        self.archive.close()
        if isinstance(error, OSError | EOFError | tarfile.TarError | zipfile.BadZipFile):
            raise ModelError(f"is damaged ({_one_line(error)})", str(self.path), GET_AGAIN) from None


def _member(archive: tarfile.TarFile, path: Path, ending: str) -> IO[bytes]:
    for entry in archive:
        if entry.isfile() and entry.name.endswith(ending):
            file = archive.extractfile(entry)
            if file is not None:
                return file
    raise ModelError(f"holds no {ending}", where=str(path), mend="is it a NeMo model?")


def architecture_of(config: dict[str, Any], where: str = "config") -> Architecture:
    """Read a model config.

    >>> architecture_of({"target": "nemo.collections.asr.models.EncDecCTCModelBPE", "decoder": {}}).decoder
    'ctc'
    """
    target = str(config.get("target", ""))
    if not target.startswith(MODEL_CLASSES):
        mend = "only NeMo speech recognition models can be a base"
        raise ModelError(f"its class is {target or 'not named'}", where=where, mend=mend)
    encoder, loss = _section(config, "encoder"), _section(config, "loss")
    tdt = {**_section(loss, "tdt_kwargs")} if loss.get("loss_name") == "tdt" else {}
    return Architecture(
        target=target,
        decoder=_decoder_kind(target, loss),
        layers=int(encoder.get("n_layers") or 0),
        width=int(encoder.get("d_model") or 0),
        mels=int(encoder.get("feat_in") or 0),
        vocabulary=len(config.get("labels") or _section(config, "decoder").get("vocabulary") or ()),
        sample_rate=int(config.get("sample_rate") or _section(config, "preprocessor").get("sample_rate") or 0),
        durations=tuple(tdt.get("durations") or ()),
        sigma=float(tdt.get("sigma") or 0.0),
        omega=float(tdt.get("omega") or 0.0),
        streaming=_is_streaming(encoder),
        adapters=bool(config.get("adapters")),
    )


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _decoder_kind(target: str, loss: dict[str, Any]) -> str:
    name = target.removeprefix(MODEL_CLASSES)
    if "Hybrid" in name:
        return "hybrid"
    if "RNNT" in name:
        return "tdt" if loss.get("loss_name") == "tdt" else "rnnt"
    return "ctc" if "CTC" in name else "other"


def _is_streaming(encoder: dict[str, Any]) -> bool:
    """Cache-aware encoders are causal: in the down-sampling, the convolutions or a limited attention context.

    >>> _is_streaming({"att_context_size": [-1, -1]}), _is_streaming({"att_context_size": [[70, 13], [70, 0]]})
    (False, True)
    """
    context = encoder.get("att_context_size") or [-1, -1]
    right = [c[1] if isinstance(c, list) else c for c in (context if isinstance(context[0], list) else context[1:2])]
    limited = encoder.get("att_context_style") == "chunked_limited" or any(edge >= 0 for edge in right)
    causal = bool(encoder.get("causal_downsampling")) or encoder.get("conv_context_size") == "causal"
    return limited or causal


def check_archive(path: Path) -> None:
    """Refuse a ``.nemo`` that is damaged or that could do anything but hold tensors. Reads the whole file once.

    Checks: no member leaves the archive's folder, no links or devices; the weights are a zip whose every record has
    its CRC-32 (PyTorch does not look) and whose table of contents names nothing but tensors. Raises ModelError.
    """
    with _opened(path) as archive:
        for entry in archive:
            _check_entry(path, entry)
        _member(archive, path, CONFIG).close()
        with _member(archive, path, ".ckpt") as weights:
            _check_weights(path, weights)


def _check_entry(path: Path, entry: tarfile.TarInfo) -> None:
    name = PurePosixPath(entry.name)
    if name.is_absolute() or ".." in name.parts:
        raise ModelError(f"its member {entry.name!r} points outside the archive", str(path), "do not use this file")
    if not (entry.isfile() or entry.isdir()):
        raise ModelError(f"its member {entry.name!r} is a link or device", str(path), "do not use this file")


def _check_weights(path: Path, weights: IO[bytes]) -> None:
    if not zipfile.is_zipfile(weights):
        why = "its weights are a bare pickle or damaged, which may run code when loaded"
        raise ModelError(why, str(path), "save it again with a current NeMo, or get the file again")
    with zipfile.ZipFile(weights) as records:
        damaged = records.testzip()
        if damaged is not None:
            raise ModelError(f"its weights are damaged (CRC of {damaged})", str(path), GET_AGAIN)
        for table in (name for name in records.namelist() if name.endswith(".pkl")):
            foreign = [name for name in _pickled_names(records.read(table)) if not _is_safe(name)]
            if foreign:
                raise ModelError(f"its weights would call {foreign[0]}", str(path), "do not use this file")


def _is_safe(name: str) -> bool:
    return name.split(".")[0] in SAFE_GLOBALS


def _pickled_names(table: bytes) -> Iterator[str]:
    """Every ``module.name`` a pickle would import; the pickle is read as text, not run."""
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(table):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1)
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def restore(path: Path, device: str = "cpu") -> Any:
    """The model, in memory, on ``device``, in eval mode. Raises ModelError, or MissingDependency without NeMo."""
    import_nemo()
    from nemo.collections.asr.models import ASRModel

    check_archive(path)
    try:
        return ASRModel.restore_from(str(path), map_location=device).eval()
    except Exception as error:  # NeMo raises anything for a config it does not understand
        why = f"NeMo cannot restore it ({_one_line(error)})"
        raise ModelError(why, where=str(path), mend="is it a NeMo 1.20+ model?") from None


def import_nemo() -> None:
    """Import NeMo without its banners. Raises MissingDependency."""
    import numpy as np

    if not hasattr(np, "row_stack"):  # gone in numpy 2.4; older numba-cuda needs it to compile the TDT loss
        np.row_stack = np.vstack
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
