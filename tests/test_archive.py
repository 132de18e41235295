"""A ``.nemo`` is foreign code: every way we know to hide a program in one is refused, in one line, and nothing runs."""

from __future__ import annotations

import io
import os
import pickle
import re
import resource
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinical_asr import nemo_file
from clinical_asr.archive import MOST_MEMBERS, Archive, refuse_unsafe_environment
from clinical_asr.bases import check_pin, inspect_base, sidecar_of
from clinical_asr.checkpoint import parameter_count
from clinical_asr.errors import ConfigError, ModelError
from clinical_asr.nemo_file import check_archive, read_config, read_tensors
from clinical_asr.record_sums import CHUNK
from nemo_builder import TDT, link, nemo, tensor_table, weights, write
from tiny_model import write_tones

ARTIFACT = "./0123456789abcdef0123456789abcdef_tokenizer.model"


class Touch:
    """Unpickled, it makes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.canary}",)


def memo_trick(canary: Path) -> bytes:
    """``os.system`` through the memo: whoever reads only the last strings before STACK_GLOBAL sees OrderedDict."""

    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    hidden = text("os") + b"\x94" + b"0" + text("system") + b"\x94" + b"0"
    shown = text("collections") + b"0" + text("OrderedDict") + b"0"
    return b"\x80\x04" + hidden + shown + b"h\x00h\x01\x93" + text(f"touch {canary}") + b"\x85R."


def with_target(target: str, canary: Path, key: str = "_target_") -> dict[str, Any]:
    return {**TDT, "optim": {key: target, "_args_": [f"touch {canary}"]}}


def gzip_bomb(path: Path, member: str) -> Path:
    return write(path, [(member, bytes(256 * 2**20)), ("model_config.yaml", b"{}")], mode="w:gz")


def alias_bomb() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    return "\n".join(lines).encode()


def pax_bomb(path: Path) -> Path:
    entry = tarfile.TarInfo("model_config.yaml")
    entry.pax_headers = {"comment": "x" * 2**21}
    return write(path, [(entry, b"{}")])


def sparse(path: Path) -> Path:
    nemo(path)
    raw = bytearray(path.read_bytes())
    raw[156:157] = b"S"
    raw[148:156] = b"%06o\x00 " % (sum(raw[:148]) + 32 * 8 + sum(raw[156:512]))
    path.write_bytes(raw)
    return path


def prefixed(content: bytes) -> bytes:
    return b"#!/bin/sh\n" + content


def traversal(canary: Path) -> str:
    return os.path.relpath(canary, "/")


SAMPLES: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "a pickle that calls os.system in the weights": (
        lambda p, c: nemo(p, None, weights(pickle.dumps(Touch(c), 2))), r"would call (posix|nt)\.system"),
    "the same in protocol 4": (
        lambda p, c: nemo(p, None, weights(pickle.dumps(Touch(c), 4))), "opcode"),
    "os.system hidden in the memo": (
        lambda p, c: nemo(p, None, weights(memo_trick(c))), "opcode"),
    "a name of torch that runs code": (
        lambda p, c: nemo(p, None, weights(b"\x80\x02ctorch.hub\nload\n.")), r"would call torch\.hub\.load"),
    "a bare pickle as weights": (
        lambda p, c: nemo(p, None, pickle.dumps(Touch(c), 2)), "bare pickle"),
    "a TorchScript program in the weights": (
        lambda p, c: nemo(p, None, weights(extra={"model_weights/code/x.py": b"import os"})), "no tensor"),
    "a second pickle in the weights": (
        lambda p, c: nemo(p, None, weights(extra={"model_weights/constants.pkl": pickle.dumps(Touch(c), 2)})),
        "no tensor"),
    "two checkpoints in one": (
        lambda p, c: nemo(p, None, weights(extra={"other/data.pkl": pickle.dumps(Touch(c), 2)})), "not one checkpoint"),
    "a script before the weights": (
        lambda p, c: nemo(p, None, prefixed(weights())), "written before them"),
    "compressed weights": (
        lambda p, c: nemo(p, None, weights(extra={"model_weights/data/1": bytes(2**24)}, packed=True)), "compressed"),
    "a tensor larger than its record": (
        lambda p, c: nemo(p, None, weights(tensor_table(shape=(1000, 60)))), "cannot be read"),
    "a tensor without its record": (
        lambda p, c: nemo(p, None, weights(tensor_table(numel=60000, shape=(1000, 60)))), "lack a record"),
    "a pickle in a further member": (
        lambda p, c: nemo(p, None, None, ("./extra.pkl", pickle.dumps(Touch(c)))), "does not belong"),
    "a pickle under a tokenizer's name": (
        lambda p, c: nemo(p, None, None, (ARTIFACT, pickle.dumps(Touch(c)))), "is a pickle"),
    "a script": (
        lambda p, c: nemo(p, None, None, ("./setup.py", b"import os")), "does not belong"),
    "a library": (
        lambda p, c: nemo(p, None, None, ("./libasr.so", b"\x7fELF")), "does not belong"),
    "a folder": (
        lambda p, c: nemo(p, None, None, (link("./nemo", tarfile.DIRTYPE), b"")), "does not belong"),
    "_target_: os.system": (
        lambda p, c: nemo(p, with_target("os.system", c)), r"would call 'os\.system'"),
    "target: builtins.eval": (
        lambda p, c: nemo(p, with_target("builtins.eval", c, "target")), "builtins.eval"),
    "cls: subprocess.Popen": (
        lambda p, c: nemo(p, with_target("subprocess.Popen", c, "cls")), "subprocess.Popen"),
    "os.system by way of NeMo": (
        lambda p, c: nemo(p, with_target("nemo.collections.asr.models.asr_model.os.system", c)), "asr_model.os.system"),
    "a class of the standard library by way of NeMo": (
        lambda p, c: nemo(p, with_target("nemo.collections.asr.parts.utils.subprocess.Popen", c)), "subprocess.Popen"),
    "a class of torch by way of NeMo": (
        lambda p, c: nemo(p, with_target("nemo.collections.asr.models.torch.utils.Evil", c)), "torch.utils.Evil"),
    "a target that is no name": (
        lambda p, c: nemo(p, {**TDT, "optim": {"_target_": {"_target_": "os.system"}}}), "would call"),
    "a target deep in a list": (
        lambda p, c: nemo(p, {**TDT, "x": [[{"y": [{"_target_": "os.system"}]}]]}), "os.system"),
    "code of a model hub": (
        lambda p, c: nemo(p, {**TDT, "tokenizer": {"trust_remote_code": True}}), "model hub"),
    "the environment read into the config": (
        lambda p, c: nemo(p, {**TDT, "name": "${oc.env:HOME}"}), "resolver 'oc.env'"),
    "a tokenizer elsewhere on this disk": (
        lambda p, c: nemo(p, {**TDT, "tokenizer": {"type": "bpe", "model_path": "/etc/passwd"}}), "not in the archive"),
    "an artifact that is not there": (
        lambda p, c: nemo(p, {**TDT, "tokenizer": {"model_path": "nemo:../../etc/passwd"}}), "not in the archive"),
    "a YAML tag that calls": (
        lambda p, c: nemo(p, f"target: !!python/object/apply:os.system ['touch {c}']".encode()), "not YAML"),
    "a YAML alias bomb": (
        lambda p, c: nemo(p, alias_bomb()), "aliases"),
    "YAML nested without end": (
        lambda p, c: nemo(p, b"a: " + b"[" * 900 + b"]" * 900), "nested deeper"),
    "YAML nested further still": (
        lambda p, c: nemo(p, b"a: " + b"[" * 200_000), "(nested deeper|not YAML)"),
    "a config of 9 MB": (
        lambda p, c: nemo(p, b"a: " + b"x" * 9 * 2**20), "larger than"),
    "a member outside": (
        lambda p, c: nemo(p, None, None, (f"../../{traversal(c)}", b"x")), "points outside"),
    "an absolute member": (
        lambda p, c: nemo(p, None, None, (str(c), b"x")), "points outside"),
    "a symbolic link": (
        lambda p, c: nemo(p, None, None, (link(ARTIFACT, tarfile.SYMTYPE, "/etc/passwd"), b"")), "link or device"),
    "a hard link": (
        lambda p, c: nemo(p, None, None, (link(ARTIFACT, tarfile.LNKTYPE, "vocab.txt"), b"")), "link or device"),
    "a character device": (
        lambda p, c: nemo(p, None, None, (link(ARTIFACT, tarfile.CHRTYPE), b"")), "link or device"),
    "a named pipe": (
        lambda p, c: nemo(p, None, None, (link(ARTIFACT, tarfile.FIFOTYPE), b"")), "link or device"),
    "a sparse member": (
        lambda p, c: sparse(p), "(sparse|cannot be read|damaged)"),
    "weights twice": (
        lambda p, c: nemo(p, None, None, ("model_weights.ckpt", pickle.dumps(Touch(c)))), "twice"),
    "two configs": (
        lambda p, c: nemo(p, None, None, ("./other/model_config.yaml", b"target: os.system")), "does not belong"),
    "the same config twice": (
        lambda p, c: nemo(p, None, None, ("model_config.yaml", b"target: os.system")), "twice"),
    "a gzip bomb as weights": (
        lambda p, c: gzip_bomb(p, "model_weights.ckpt"), "bomb"),
    "a gzip bomb as tokenizer": (
        lambda p, c: gzip_bomb(p, ARTIFACT), "larger than"),
    "a header of two megabytes": (
        lambda p, c: pax_bomb(p), "header that asks"),
    "members without end": (
        lambda p, c: nemo(p, None, None, *((f"a{n}.txt", b"") for n in range(MOST_MEMBERS))), "more than"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_every_hostile_sample_is_refused_in_one_line_and_nothing_runs(name: str, tmp_path: Path) -> None:
    make, reason = SAMPLES[name]
    canary = tmp_path / "canary"
    path = make(tmp_path / "a.nemo", canary)
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(ModelError, match=reason) as error:
        check_archive(path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value) and len(str(error.value)) < 500
    assert not canary.exists()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5, "a refusal is quick"


def test_the_bombs_are_live(tmp_path: Path) -> None:
    """What the samples carry would really run: a test against duds would prove nothing."""
    canary = tmp_path / "canary"
    for payload in (pickle.dumps(Touch(canary), 2), pickle.dumps(Touch(canary), 4), memo_trick(canary)):
        pickle.loads(payload)
        assert canary.exists()
        canary.unlink()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_honest_archive_passes_packed_or_not(mode: str, tmp_path: Path) -> None:
    config = {**TDT, "tokenizer": {"type": "bpe", "dir": "/home/x/tok", "model_path": f"nemo:{ARTIFACT[2:]}"}}
    artifact = (ARTIFACT, b"\n\x0e\n\x05<unk>")
    path = nemo(tmp_path / "a.nemo", config, weights(tensor_table()), artifact, mode=mode)
    check_archive(path)
    assert inspect_base(path).layers == 24
    assert read_config(path)["tokenizer"]["dir"] == "/home/x/tok"
    assert {name: one.shape for name, one in read_tensors(path).items()} == {"encoder.weight": (40, 50)}


def test_a_zip_with_a_lying_local_header_is_damaged(tmp_path: Path) -> None:
    content = weights().replace(b"model_weights/data/0", b"model_weights/data/1", 1)
    with pytest.raises(ModelError, match="damaged"):
        check_archive(nemo(tmp_path / "a.nemo", None, content))


def test_a_local_name_that_is_no_text_is_damage(tmp_path: Path) -> None:
    content = bytearray(weights())
    header = content.index(b"PK\x03\x04", 1)
    content[header + 7] |= 0x08  # its name is said to be UTF-8
    content[header + 30] = 0x80
    with pytest.raises(ModelError, match="is damaged"):
        check_archive(nemo(tmp_path / "a.nemo", None, bytes(content)))


def verdict(path: Path) -> str:
    """What is said of a file; empty if it passes."""
    try:
        check_archive(path)
    except ModelError as error:
        return str(error)
    return ""


def crc_of(name: str) -> str:
    return rf"its weights are damaged \(CRC of {name}\)"


def test_threads_find_a_flipped_bit_in_any_record_and_the_first_one_is_named(tmp_path: Path) -> None:
    numbers = {f"model_weights/data/{n}": bytes([n]) * (3 * CHUNK if n == 7 else 999) for n in range(2, 40)}
    whole = nemo(tmp_path / "whole.nemo", None, weights(extra=numbers)).read_bytes()
    places = {n: whole.index(bytes([n]) * 999) for n in (2, 7, 39)}
    for changed, first in (([2], 2), ([7], 7), ([39], 39), ([39, 7], 7)):
        raw = bytearray(whole)
        for n in changed:
            raw[places[n] + (2 * CHUNK + 5 if n == 7 else 998)] ^= 1
        (tmp_path / "a.nemo").write_bytes(raw)
        assert re.search(crc_of(f"model_weights/data/{first}"), verdict(tmp_path / "a.nemo"))
    assert not verdict(tmp_path / "whole.nemo")


def test_honest_weights_are_read_by_threads_alone_and_memory_stays_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = nemo(tmp_path / "a.nemo", None, weights(extra={"model_weights/data/1": bytes(5 * CHUNK)})), []
    pread = os.pread

    def noted(descriptor: int, count: int, at: int) -> bytes:
        asked.append(count)
        return pread(descriptor, count, at)

    monkeypatch.setattr(os, "pread", noted)
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda _: pytest.fail("read once more"))
    check_archive(path)
    assert sum(asked) > 5 * CHUNK and max(asked) == CHUNK


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_threads_refuse_what_zipfile_refuses_in_the_same_words(data: st.DataObject, tmp_path: Path) -> None:
    records = weights(tensor_table(), {f"model_weights/data/{n}": bytes([n]) * 50 for n in range(1, 4)})
    raw = bytearray(nemo(tmp_path / "honest.nemo", None, records).read_bytes())
    start = raw.index(records)
    for _ in range(data.draw(st.integers(0, 3))):
        near = data.draw(st.sampled_from([found.start() for found in re.finditer(rb"PK", records)] + [8000]))
        place = min(near + data.draw(st.integers(0, 90)), len(records) - 1)
        raw[start + place] = data.draw(st.integers(0, 255))
    path = tmp_path / "changed.nemo"
    path.write_bytes(raw)
    many = verdict(path)
    with pytest.MonkeyPatch.context() as alone:
        alone.setattr(Archive, "reader", lambda *_: None)
        nemo_file._passed.clear()
        assert verdict(path) == many


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_changed_in_a_file_only_typed_errors_come_out(data: st.DataObject, tmp_path: Path) -> None:
    raw = bytearray(nemo(tmp_path / "honest.nemo", None, weights(tensor_table())).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    path = tmp_path / "changed.nemo"
    path.write_bytes(raw[:cut] if data.draw(st.booleans()) else raw)
    for read in (check_archive, read_config, read_tensors, inspect_base):
        try:
            read(path)
        except ModelError as error:
            assert "\n" not in str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["encoder", "loss", "n_layers", "att_context_size", "tdt_kwargs", "durations", "loss_name",
                         "tokenizer", "labels", "sample_rate", "preprocessor", "joint", "vocabulary"]), inner),
    max_leaves=12))  # fmt: skip
def test_whatever_a_config_says_only_typed_errors_come_out(tmp_path: Path, value: Any) -> None:
    config = {**TDT, **(value if isinstance(value, dict) else {"encoder": value})}
    path = nemo(tmp_path / "a.nemo", yaml.safe_dump(config, allow_unicode=True).encode("utf-8", "replace"))
    try:
        inspect_base(path)
    except ModelError as error:
        assert "\n" not in str(error)


def test_a_flipped_bit_anywhere_is_caught_by_the_digest(tmp_path: Path) -> None:
    """Even where no checksum of zip or tar looks: in a tokenizer, in the padding."""
    path = nemo(tmp_path / "a.nemo", None, None, (ARTIFACT, b"\n\x0e\n\x05<unk>" + b"a" * 900))
    digest = check_pin(path, "")
    sidecar_of(path).write_text(f"{digest}  a.nemo\n")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"a" * 900) + 50] ^= 1
    path.write_bytes(raw)
    check_archive(path)
    with pytest.raises(ModelError, match="not the file its digest was made of"):
        inspect_base(path)
    sidecar_of(path).unlink()
    with pytest.raises(ModelError, match=f"not the pinned {digest}"):
        check_pin(path, digest)


def test_a_pin_is_64_hex_digits_of_this_file(tmp_path: Path) -> None:
    path = nemo(tmp_path / "a.nemo")
    assert check_pin(path, check_pin(path, "").upper()) == check_pin(path, "")
    with pytest.raises(ConfigError, match="no SHA-256"):
        check_pin(path, "abc")


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "clinical_asr", *words], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **environment})  # fmt: skip


def test_no_model_is_touched_while_pytorch_is_told_to_run_checkpoints() -> None:
    done = command("model", "inspect", "mini", TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1")
    assert done.returncode == 2 and done.stdout == ""
    assert "unset TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" in done.stderr and done.stderr.count("\n") == 1
    refuse_unsafe_environment({"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": ""})


@pytest.mark.parametrize("words", [
    ("cycle", "--terms", "examples/terms.csv", "--out", "{tmp}/c", "--base"),
    ("hypotheses", "--manifest", "{tmp}/m.jsonl", "--output", "{tmp}/h.jsonl", "--model"),
    ("model", "inspect"),
], ids=lambda words: words[0])  # fmt: skip
def test_commands_refuse_a_hostile_file_and_a_wrong_pin(words: tuple[str, ...], tmp_path: Path) -> None:
    canary, repository = tmp_path / "canary", Path(__file__).parents[1]
    write_tones(tmp_path, ["one two three"]).rename(tmp_path / "m.jsonl")
    hostile = nemo(tmp_path / "a.nemo", with_target("os.system", canary), weights(pickle.dumps(Touch(canary), 2)))
    line = [word.format(tmp=tmp_path).replace("examples/", f"{repository}/examples/") for word in words]
    for arguments in ([str(hostile)], ["mini", "--sha256", "0" * 64]):
        done = command(*line, *arguments)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith(f"error: {hostile}: its model_config.yaml would call") or "mini" in arguments
    assert "not the pinned" in done.stderr
    assert not canary.exists()


@pytest.mark.nemo
def test_what_nemo_writes_passes_and_is_counted_rightly(tiny_nemo: Path, tiny_ctc: Path, tiny_rnnt: Path) -> None:
    from clinical_asr.nemo_file import restore

    for path in (tiny_nemo, tiny_ctc, tiny_rnnt):
        check_archive(path)
        model = restore(path)
        assert parameter_count(read_tensors(path)) == sum(one.numel() for one in model.parameters())
        shapes = {name: tuple(one.shape) for name, one in model.state_dict().items()}
        assert {name: one.shape for name, one in read_tensors(path).items()} == shapes


@pytest.mark.nemo
def test_what_pytorch_saves_is_read_whatever_its_types(tmp_path: Path) -> None:
    import torch

    table = {"a": torch.zeros(3, 4), "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.tensor(7),
             "view": torch.arange(12.0).reshape(3, 4)[:, 1:3], "p": torch.nn.Parameter(torch.zeros(5)),
             "none": torch.zeros(0, 3), "flag": torch.tensor([True])}  # fmt: skip
    out = io.BytesIO()
    torch.save(table, out)
    found = read_tensors(nemo(tmp_path / "a.nemo", None, out.getvalue()))
    assert {name: (one.shape, one.dtype) for name, one in found.items()} == {
        name: (tuple(one.shape), str(one.dtype).removeprefix("torch.")) for name, one in table.items()
    }
    assert zipfile.is_zipfile(io.BytesIO(out.getvalue()))
