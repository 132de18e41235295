"""Which bases are taken and which are refused, and what a damaged or hostile ``.nemo`` leads to: one line each."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from clinical_asr import bases
from clinical_asr.bases import adopt, base_digest, check_trainable, inspect_base, resolve_base, sidecar_of
from clinical_asr.cycle import file_digest
from clinical_asr.errors import ConfigError, ModelError
from clinical_asr.nemo_file import architecture_of, check_archive, read_architecture

TDT: dict[str, Any] = {
    "target": "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel",
    "sample_rate": 16000,
    "labels": list("abc"),
    "encoder": {"n_layers": 24, "d_model": 1024, "feat_in": 128, "att_context_size": [-1, -1]},
    "loss": {"loss_name": "tdt", "tdt_kwargs": {"durations": [0, 1, 2, 3, 4], "sigma": 0.02, "omega": 0.1}},
}


def weights(payload: Any = ()) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as records:
        records.writestr("model_weights/data.pkl", pickle.dumps(payload, protocol=2))
        records.writestr("model_weights/data/0", b"\x00\x01\x02\x03" * 2000)
    return out.getvalue()


def write_nemo(path: Path, config: Any = None, ckpt: bytes | None = None, extra: tarfile.TarInfo | None = None) -> Path:
    members = {"./model_config.yaml": yaml.safe_dump(TDT if config is None else config).encode()}
    members["./model_weights.ckpt"] = weights() if ckpt is None else ckpt
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        if extra is not None:
            archive.addfile(extra)
    return path


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_architecture_is_read_from_the_config(tmp_path: Path) -> None:
    found = inspect_base(write_nemo(tmp_path / "a.nemo"))
    assert (found.decoder, found.layers, found.width, found.mels, found.vocabulary) == ("tdt", 24, 1024, 128, 3)
    assert (found.durations, found.sigma, found.omega) == ((0, 1, 2, 3, 4), 0.02, 0.1)
    assert not found.streaming and not found.adapters


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**TDT, section: {**TDT[section], **values}}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (changed("encoder", att_context_size=[[70, 13], [70, 6], [70, 0]]), "cache-aware streaming"),
        (changed("encoder", att_context_style="chunked_limited"), "cache-aware streaming"),
        (changed("encoder", causal_downsampling=True), "cache-aware streaming"),
        ({**TDT, "target": TDT["target"].replace("EncDecRNNT", "EncDecHybridRNNTCTC")}, "two heads"),
        ({**TDT, "target": "nemo.collections.asr.models.EncDecMultiTaskModel"}, "no TDT, RNN-T or CTC head"),
        ({**TDT, "adapters": {"nurse": {"dim": 8}}}, "NaN"),
        ({**TDT, "sample_rate": 8000}, "8000 Hz"),
    ],
)
def test_refused_architectures_say_why(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as error:
        check_trainable(architecture_of(config), "x.nemo")
    assert one_line(error).startswith("x.nemo: ")


@pytest.mark.parametrize("limited", [[70, -1], [-1, -1]])
def test_a_full_right_context_is_offline(limited: list[int]) -> None:
    check_trainable(architecture_of(changed("encoder", att_context_size=limited)), "x.nemo")


@pytest.mark.parametrize(
    "name", ["nvidia/nemotron-speech-streaming-en-0.6b", "nvidia/stt_en_fastconformer_hybrid_large_streaming_multi"]
)
def test_streaming_bases_are_refused_before_any_download(name: str) -> None:
    with pytest.raises(ModelError, match="streaming"):
        resolve_base(name, download=lambda _: pytest.fail("downloaded"))


def test_bases_resolve_to_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nemo(tmp_path / "my.nemo")
    assert resolve_base(str(path)) == path
    assert resolve_base("nvidia/parakeet-tdt-0.6b-v2", download=lambda name: tmp_path / name) == (
        tmp_path / "nvidia/parakeet-tdt-0.6b-v2"
    )
    with pytest.raises(ModelError, match=r"no base 'my/gone.nemo'"):
        resolve_base("my/gone.nemo", download=lambda _: pytest.fail("downloaded"))
    monkeypatch.setattr(bases, "MINI_FILE", "not-here.nemo")
    with pytest.raises(ModelError, match=r"not-here.nemo is missing"):
        resolve_base("mini")


@pytest.mark.parametrize("key", ["adapter", "lora_alpha", "tokenizer_dir"])
def test_requests_the_method_refuses_have_reasons(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        bases.refuse_request(key)
    bases.refuse_request("precision", "bf16-mixed")


def test_truncated_flipped_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    whole = write_nemo(tmp_path / "whole.nemo").read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"\x00\x01\x02\x03" * 100) + 50] ^= 1
    for name, content in {"cut": whole[:6000], "flip": bytes(flipped), "text": b"hello", "empty": b""}.items():
        (tmp_path / f"{name}.nemo").write_bytes(content)
        with pytest.raises(ModelError) as error:
            check_archive(tmp_path / f"{name}.nemo")
        assert one_line(error).startswith(str(tmp_path / name))
    check_archive(tmp_path / "whole.nemo")
    with pytest.raises(ModelError, match="no such file"):
        read_architecture(tmp_path / "gone.nemo")


@pytest.mark.parametrize("name", ["../evil.sh", "/etc/passwd"])
def test_members_outside_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = write_nemo(tmp_path / "a.nemo", extra=tarfile.TarInfo(name))
    with pytest.raises(ModelError, match="points outside"):
        check_archive(path)


def test_links_are_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("tokenizer.model")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(ModelError, match="link or device"):
        check_archive(write_nemo(tmp_path / "a.nemo", extra=link))


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_that_would_run_code_are_refused_unrun(tmp_path: Path, protocol: int) -> None:
    bare = pickle.dumps(Bomb(), protocol)
    with pytest.raises(ModelError, match="bare pickle"):
        check_archive(write_nemo(tmp_path / "bare.nemo", ckpt=bare))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as records:
        records.writestr("w/data.pkl", bare)
    with pytest.raises(ModelError, match=r"would call (posix|os|nt)\.system|opcode FRAME"):
        check_archive(write_nemo(tmp_path / "zipped.nemo", ckpt=zipped.getvalue()))


@pytest.mark.parametrize("config", ["os.system", {"a": 1}, [], "", {**TDT, "target": "my.module.Evil"}])
def test_configs_of_no_known_class_are_refused(tmp_path: Path, config: Any) -> None:
    with pytest.raises(ModelError) as error:
        inspect_base(write_nemo(tmp_path / "a.nemo", config=config))
    one_line(error)


def test_yaml_tags_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.nemo"
    document = b"target: !!python/object/apply:os.system ['true']\n"
    with tarfile.open(path, "w") as archive:
        for name, content in {"model_config.yaml": document, "model_weights.ckpt": weights()}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    with pytest.raises(ModelError, match="not YAML"):
        read_architecture(path)


def test_a_sidecar_that_says_otherwise_refuses_the_file(tmp_path: Path) -> None:
    path = write_nemo(tmp_path / "a.nemo")
    digest = base_digest(path)
    sidecar_of(path).write_text(f"{digest}  a.nemo\n")
    assert base_digest(path) == digest
    sidecar_of(path).write_text(f"{'0' * 64}  a.nemo\n")
    with pytest.raises(ModelError, match="not the file its digest was made of"):
        inspect_base(path)


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    path = write_nemo(tmp_path / "a.nemo")
    before = base_digest(path)
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    assert base_digest(path) != before


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that was read for its digest, in order."""
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    monkeypatch.setattr(bases, "file_digest", counted)
    return read


def test_an_adopted_model_is_read_once_for_its_digest(tmp_path: Path, hashed: list[Path]) -> None:
    part, model = write_nemo(tmp_path / ".a.part.nemo"), tmp_path / "a.nemo"
    model.write_bytes(b"an older one")
    digest = adopt(part, model)
    assert base_digest(model) == digest == file_digest(model) and hashed == [part]
    assert sidecar_of(model).read_text() == f"{digest}  a.nemo\n" and not part.exists()


def test_an_adopted_model_that_is_changed_afterwards_is_read_again_and_refused(
    tmp_path: Path, hashed: list[Path]
) -> None:
    model = tmp_path / "a.nemo"
    adopt(write_nemo(tmp_path / ".a.part.nemo"), model)
    raw = bytearray(model.read_bytes())
    raw[-1] ^= 1
    model.write_bytes(raw)
    os.utime(model, ns=(1, 1))
    with pytest.raises(ModelError, match="not the file its digest was made of"):
        base_digest(model)
    assert hashed[1:] == [model]


def test_a_file_that_came_in_between_is_not_taken_for_the_one_that_was_hashed(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    part, model = write_nemo(tmp_path / ".a.part.nemo"), tmp_path / "a.nemo"

    def swapped(part: Path, model: Path) -> None:
        model.write_bytes(part.read_bytes()[:-512] + b"x" * 512)

    monkeypatch.setattr(bases, "settle", swapped)
    adopt(part, model)
    with pytest.raises(ModelError, match="not the file its digest was made of"):
        base_digest(model)


@pytest.mark.parametrize("faulty", ["sync", "file_digest", "write_text", "settle"])
def test_a_model_whose_adoption_fails_is_not_there(
    faulty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(bases, faulty, full)
    with pytest.raises(OSError, match="no space"):
        adopt(write_nemo(tmp_path / ".a.part.nemo"), tmp_path / "a.nemo")
    assert not (tmp_path / "a.nemo").exists()


@pytest.mark.nemo
def test_a_real_base_of_nemo_passes(tiny_nemo: Path, tiny_ctc: Path, tiny_rnnt: Path) -> None:
    assert [inspect_base(path).decoder for path in (tiny_nemo, tiny_ctc, tiny_rnnt)] == ["tdt", "ctc", "rnnt"]
    assert inspect_base(tiny_nemo).vocabulary == 96
    check_archive(tiny_nemo)
