"""The weights of a ``.nemo``, seen without loading them: a zip of raw numbers and a pickle that says what they are.

A pickle is a program. This one is read opcode by opcode first: only the opcodes and names that a table of tensors needs
are let through (PyTorch's own weights-only loader allows the same opcodes and more names). Then its table of contents
is built from stand-ins that hold shapes and do nothing; no name in it is ever imported.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import zipfile
from dataclasses import dataclass
from typing import IO, Any

from clinical_asr.archive import DO_NOT_USE, GET_AGAIN, one_line
from clinical_asr.errors import ModelError
from clinical_asr.record_sums import ReadAt, first_damaged

STORAGES = {
    "FloatStorage": ("float32", 4), "HalfStorage": ("float16", 2), "BFloat16Storage": ("bfloat16", 2),
    "DoubleStorage": ("float64", 8), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1), "ByteStorage": ("uint8", 1), "BoolStorage": ("bool", 1),
}  # fmt: skip
"""PyTorch's storage classes: name -> (type of a number, bytes of one)."""

OPCODES = frozenset({
    "PROTO", "STOP", "MARK", "GLOBAL", "NEWOBJ", "REDUCE", "BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS",
    "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "NONE",
    "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING",
    "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "BINPERSID",
})  # fmt: skip
"""What PyTorch's weights-only unpickler understands; every other opcode is refused."""

RECORD = re.compile(
    r"(?P<root>[^/]+)/(?:data\.pkl|version|byteorder|\.format_version|\.storage_alignment"
    r"|data/(?P<key>\d+)|\.data/serialization_id)"
)
"""Records ``torch.save`` writes. TorchScript (``code/``, ``constants.pkl``) is a program and none of them."""
LARGEST_TABLE = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and number type of one tensor, and the storage record it lies in."""

    shape: tuple[int, ...]
    dtype: str
    record: str

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def tensors_of(
    weights: IO[bytes], where: str, *, verify: bool = False, read_at: ReadAt | None = None
) -> dict[str, Tensor]:
    """Name -> tensor of a checkpoint, from its table of contents alone; ``verify`` also reads all records' CRC-32.

    PyTorch does not look at the CRC. With ``read_at`` several threads read for it. Raises ModelError naming what is
    damaged or does not belong.
    """
    if not zipfile.is_zipfile(weights):
        why = "its weights are a bare pickle or damaged, which may run code when loaded"
        raise ModelError(why, where, "save it again with a current NeMo, or get the file again")
    with zipfile.ZipFile(weights) as records:
        table = _check_records(records, where)
        damaged = first_damaged(records, weights, read_at) if verify else None
        if damaged is not None:
            raise ModelError(f"its weights are damaged (CRC of {damaged})", where, GET_AGAIN)
        tensors, storages = read_table(records.read(table), where)
        sizes = {found["key"]: info.file_size for info, found in _matched(records) if found["key"]}
    for record, size in storages.items():
        if sizes.get(record) != size:
            raise ModelError(f"its weights lack a record of {size:,} bytes (data/{record})", where, GET_AGAIN)
    return tensors


def _matched(records: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, re.Match[str]]]:
    pairs = ((info, RECORD.fullmatch(info.filename)) for info in records.infolist())
    return [(info, found) for info, found in pairs if found is not None]


def _check_records(records: zipfile.ZipFile, where: str) -> str:
    """The name of the one table of contents. Raises ModelError for a record that ``torch.save`` does not write."""
    infos, matched = records.infolist(), _matched(records)
    names = [info.filename for info in infos]
    foreign = sorted(set(names) - {info.filename for info, _ in matched})
    packed = [info.filename for info in infos if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1]
    rules = [
        (foreign, f"hold a record that is no tensor ({foreign[:1]})"),
        (packed, f"are compressed ({packed[:1]}), which PyTorch never does: a bomb"),
        (len(set(names)) < len(names), "hold a record twice"),
        (len({found["root"] for _, found in matched}) != 1, "are not one checkpoint"),
        (min((info.header_offset for info in infos), default=1) != 0, "have something written before them"),
    ]
    for broken, what in rules:
        if broken:
            raise ModelError(f"its weights {what}", where, DO_NOT_USE)
    table = f"{matched[0][1]['root']}/data.pkl"
    if table not in names or records.getinfo(table).file_size > LARGEST_TABLE:
        raise ModelError("its weights have no table of contents", where, GET_AGAIN)
    return table


def read_table(table: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, int]]:
    """(tensors by name, bytes of each storage record) of a ``data.pkl``. Raises ModelError."""
    refuse_program(table, where)
    reader = _Reader(io.BytesIO(table))
    try:
        content = reader.load()
    except Exception as error:  # whatever a crooked program makes of the stand-ins
        raise ModelError(f"its table of weights cannot be read ({one_line(error)})", where, GET_AGAIN) from None
    found = {str(name): one for name, one in content.items() if isinstance(one, Tensor)} if _is_dict(content) else {}
    return found, reader.storages


def _is_dict(content: object) -> bool:
    return isinstance(content, dict)


def refuse_program(table: bytes, where: str) -> None:
    """Raise ModelError if a pickle could do more than name tensors; it is read as text, not run."""
    try:
        for opcode, argument, _ in pickletools.genops(table):
            if opcode.name == "GLOBAL" and str(argument) not in STAND_INS:
                name = str(argument).replace(" ", ".", 1)[:80]
                raise ModelError(f"its weights would call {name}", where, DO_NOT_USE)
            if opcode.name not in OPCODES:
                what = f"its weights hold the opcode {opcode.name}, which tensors do not need and programs do"
                raise ModelError(what, where, DO_NOT_USE)
    except (ValueError, UnicodeDecodeError, OverflowError) as error:
        raise ModelError(f"its table of weights is damaged ({one_line(error)})", where, GET_AGAIN) from None


class _Table(dict[Any, Any]):
    """Stands in for ``collections.OrderedDict``; takes the ``_metadata`` that PyTorch hangs on it."""


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    """Stands in for ``torch._utils._rebuild_tensor_v2``; only shapes and whole numbers are taken."""
    if not (isinstance(storage, _Storage) and all(type(n) is int and n >= 0 for n in (offset, *shape, *stride))):
        raise ValueError("a tensor without a storage or a shape")
    reach = sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) + 1 if math.prod(shape) else 0
    if offset + reach > storage.numel:
        raise ValueError(f"a tensor of shape {shape} in a storage of {storage.numel} numbers")
    return Tensor(tuple(shape), storage.dtype, storage.record)


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str
    record: str
    numel: int


STAND_INS: dict[str, Any] = {
    "collections OrderedDict": _Table,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda data, *_: data,
    "torch Size": tuple,
    **{f"torch {name}": kind for name, kind in STORAGES.items()},
}
"""``module name`` as a pickle writes it -> what is used in its place. Every other name is refused."""


class _Reader(pickle.Unpickler):
    """Builds the table of contents from stand-ins."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in, never the thing itself."""
        return STAND_INS[f"{module} {name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        """``("storage", type, record, device, how many numbers)``."""
        _, (dtype, width), record, _, numel = pid
        if type(numel) is not int or numel < 0:
            raise ValueError("a storage without a size")
        self.storages[str(record)] = numel * width
        return _Storage(dtype, str(record), numel)


def parameter_count(tensors: dict[str, Tensor]) -> int:
    """Trainable numbers: floating-point tensors that are not features or running statistics of BatchNorm.

    >>> weight, mean = Tensor((4, 3), "float16", "0"), Tensor((4,), "float32", "1")
    >>> parameter_count({"encoder.weight": weight, "encoder.norm.running_mean": mean})
    12
    """
    return sum(one.numel for name, one in tensors.items() if "float" in one.dtype and not BUFFER.search(name))


BUFFER = re.compile(r"(^|\.)(running_mean|running_var|num_batches_tracked|window|fb|pe)$|^(preprocessor|loss|wer)\.")
"""Tensors that are saved but not trained."""
