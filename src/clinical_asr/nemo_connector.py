"""Weights go between a ``.nemo`` and a model directly: no second copy of gigabytes in a temporary folder.

NeMo's own connector unpacks the whole archive before it reads the weights, and writes them to a file of their own
before it copies that into the archive. This one keeps NeMo's layout and does neither.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, Any

from clinical_asr.archive import WEIGHTS, is_packed


@cache
def direct_connector() -> Any:
    """The class, a ``SaveRestoreConnector`` for one model. Raises ImportError without NeMo."""
    from nemo.core.connectors.save_restore_connector import SaveRestoreConnector as Nemos

    class Direct(Nemos):  # type: ignore[misc]
        """NeMo calls these methods in pairs; what the second must know of the first is kept between them."""

        _path: str = ""
        _state: Any = None

        def _filtered_tar_info(self, tar_path: str, filter_fn: Any = None) -> list[tarfile.TarInfo]:
            members: list[tarfile.TarInfo] = Nemos._filtered_tar_info(tar_path, filter_fn)
            with Path(tar_path).open("rb") as file:
                if filter_fn is not None or is_packed(file):
                    return members
            self._path = tar_path
            return [member for member in members if not _is_weights(member)]

        def _load_state_dict_from_disk(self, model_weights: str, map_location: Any = "cpu") -> Any:
            path, self._path = self._path, ""
            return _read(path, map_location) if path else Nemos._load_state_dict_from_disk(model_weights, map_location)

        def _save_state_dict_to_disk(self, state_dict: Any, filepath: str) -> None:
            self._state = state_dict

        def _make_nemo_file_from_folder(self, filename: str, source_dir: str) -> None:
            state, self._state = self._state, None
            _write(filename, source_dir, state)

    return Direct


def _is_weights(member: tarfile.TarInfo) -> bool:
    return member.name.removeprefix("./") == WEIGHTS


def _read(path: str, map_location: Any) -> Any:
    import torch

    with tarfile.open(path, "r:") as tar:
        weights = tar.extractfile(next(filter(_is_weights, tar)))
        return torch.load(weights, map_location=map_location, weights_only=True)  # said here, no variable undoes it


def _write(filename: str, source_dir: str, state: Any) -> None:
    import torch

    with Path(filename).open("wb") as file:
        with tarfile.open(fileobj=file, mode="w:") as tar:
            tar.add(source_dir, arcname=".")
            end = tar.offset
        file.seek(end)
        write_last_member(file, f"./{WEIGHTS}", lambda: torch.save(state, file))


def write_last_member(file: IO[bytes], name: str, write: Callable[[], None]) -> None:
    """End the tar in ``file`` with what ``write`` writes into it, whose size nobody knows before."""
    start = file.tell()
    file.seek(start + tarfile.BLOCKSIZE)
    write()
    info = tarfile.TarInfo(name)
    info.size = file.tell() - start - tarfile.BLOCKSIZE
    file.write(bytes(-info.size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE))  # its block's rest, the archive's end
    file.truncate()
    file.seek(start)
    file.write(info.tobuf(tarfile.GNU_FORMAT))
