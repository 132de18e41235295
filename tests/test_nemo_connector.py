"""Weights go straight between archive and model, and what stands in the archive is what NeMo itself would write."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical_asr.archive import WEIGHTS
from clinical_asr.nemo_connector import direct_connector, write_last_member


@given(st.binary(max_size=1500), st.binary(max_size=700))
def test_a_member_of_unknown_size_ends_an_archive_that_every_reader_reads(first: bytes, last: bytes) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:") as tar:
        info = tarfile.TarInfo("./config")
        info.size = len(first)
        tar.addfile(info, io.BytesIO(first))
        end = tar.offset
    file.seek(end)
    write_last_member(file, "./weights", lambda: file.write(last) and None)
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert found == {"./config": first, "./weights": last}
    assert len(file.getvalue()) % tarfile.BLOCKSIZE == 0


def weights(model: Any) -> dict[str, Any]:
    return dict(model.state_dict())


@pytest.fixture(scope="module")
def asr_model() -> Any:
    pytest.importorskip("nemo")
    from clinical_asr.nemo_file import import_nemo

    import_nemo()
    from nemo.collections.asr.models import ASRModel

    return ASRModel


@pytest.mark.nemo
def test_it_reads_and_writes_what_nemos_own_does(asr_model: Any, tiny_nemo: Path, tmp_path: Path) -> None:
    import torch

    theirs = asr_model.restore_from(str(tiny_nemo), map_location="cpu")
    ours = asr_model.restore_from(str(tiny_nemo), map_location="cpu", save_restore_connector=direct_connector()())
    written = tmp_path / "ours.nemo"
    ours.save_to(str(written))
    again = asr_model.restore_from(str(written), map_location="cpu")
    for other in (weights(ours), weights(again)):
        assert other.keys() == weights(theirs).keys()
        assert all(torch.equal(value, other[name]) for name, value in weights(theirs).items())
    assert set(again.cfg) == set(theirs.cfg) and again.tokenizer.vocab_size == theirs.tokenizer.vocab_size
    with tarfile.open(written, "r:") as tar:
        assert tar.getnames()[-1] == f"./{WEIGHTS}"


@pytest.mark.nemo
def test_nothing_of_the_weights_is_laid_down_elsewhere(
    asr_model: Any, tiny_nemo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    remove = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path, *a, **k: (seen.extend(_files(path)), remove(path, *a, **k))[1])
    model = asr_model.restore_from(str(tiny_nemo), map_location="cpu", save_restore_connector=direct_connector()())
    model.save_to(str(tmp_path / "ours.nemo"))
    assert any(name.endswith(".yaml") for name in seen), "NeMo's folders were looked at"
    assert not any(name.endswith(".ckpt") for name in seen)


def _files(path: Any) -> list[str]:
    return [each.name for each in Path(path).rglob("*")] if isinstance(path, str | Path) else []


@pytest.mark.nemo
def test_an_old_gzipped_archive_is_read_as_nemo_reads_it(asr_model: Any, tiny_nemo: Path, tmp_path: Path) -> None:
    import torch

    packed = tmp_path / "old.nemo"
    packed.write_bytes(gzip.compress(tiny_nemo.read_bytes()))
    model = asr_model.restore_from(str(packed), map_location="cpu", save_restore_connector=direct_connector()())
    plain = asr_model.restore_from(str(tiny_nemo), map_location="cpu")
    assert all(torch.equal(value, weights(model)[name]) for name, value in weights(plain).items())
