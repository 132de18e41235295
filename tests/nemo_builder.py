"""``.nemo`` archives put together by hand, good and bad, without NeMo or PyTorch."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

TDT: dict[str, Any] = {
    "target": "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel",
    "sample_rate": 16000,
    "labels": list("abc"),
    "preprocessor": {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor", "window_stride": 0.01,
    },
    "encoder": {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder", "n_layers": 24, "d_model": 1024, "feat_in": 128,
        "att_context_size": [-1, -1], "subsampling_factor": 8,
    },
    "loss": {"loss_name": "tdt", "tdt_kwargs": {"durations": [0, 1, 2, 3, 4], "sigma": 0.02, "omega": 0.1}},
}  # fmt: skip
CTC = {**TDT, "target": "nemo.collections.asr.models.EncDecCTCModelBPE", "loss": {}}
RNNT = {**TDT, "loss": {"loss_name": "default"}}
HYBRID = {**TDT, "target": "nemo.collections.asr.models.EncDecHybridRNNTCTCBPEModel"}
STREAMING = {**RNNT, "encoder": {**TDT["encoder"], "att_context_size": [[70, 13], [70, 0]]}}

Member = tuple[str | tarfile.TarInfo, bytes]


def weights(table: bytes | None = None, extra: dict[str, bytes] | None = None, packed: bool = False) -> bytes:
    """What ``torch.save`` writes: a zip with a pickled table and raw numbers."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as records:
        records.writestr("model_weights/data.pkl", pickle.dumps({}, 2) if table is None else table)
        records.writestr("model_weights/data/0", b"\x00\x01\x02\x03" * 2000)
        for name, content in (extra or {}).items():
            records.writestr(name, content)
    return out.getvalue()


def tensor_table(name: str = "encoder.weight", shape: tuple[int, ...] = (40, 50), numel: int = 2000) -> bytes:
    """A table of one float32 tensor over record 0, written opcode by opcode as PyTorch would."""

    def tuple_of(values: Iterable[int]) -> bytes:
        return b"(" + b"".join(b"M" + value.to_bytes(2, "little") for value in values) + b"t"

    def text(value: str) -> bytes:
        return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()

    stride = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        stride[axis] = stride[axis + 1] * shape[axis + 1]
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += b"M" + numel.to_bytes(2, "little") + b"tQ"
    empty = b"ccollections\nOrderedDict\n)R"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + tuple_of(shape) + tuple_of(stride)
    return b"\x80\x02" + empty + text(name) + rebuilt + b"\x89" + empty + b"tRs."


def write(path: Path, members: Iterable[Member], mode: str = "w") -> Path:
    """A tar of these members, in this order."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            entry = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def nemo(path: Path, config: Any = None, ckpt: bytes | None = None, *extra: Member, mode: str = "w") -> Path:
    """A ``.nemo`` that passes, unless it is given something that does not."""
    document = config if isinstance(config, bytes) else yaml.safe_dump(TDT if config is None else config).encode()
    members: list[Member] = [("./model_config.yaml", document), ("./model_weights.ckpt", ckpt or weights())]
    return write(path, [*members, *extra], mode)


def link(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is a link, a device or a pipe."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry
