"""Which base is meant, whether the method fine-tunes it, and the identity of its file."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

from clinical_asr.cycle import FileState, file_digest, file_state
from clinical_asr.errors import ConfigError, ModelError, printable
from clinical_asr.jsonl import settle, sync, write_text
from clinical_asr.nemo_file import Architecture, read_architecture
from clinical_asr.records import SAMPLE_RATE

MINI = "mini"
MINI_FILE = "mini-fastconformer-tdt.nemo"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

REFUSED_NAMES = {
    r"nemotron-speech-streaming|(^|[/_-])streaming([_-]|$)|cache[_-]?aware": (
        "is a cache-aware streaming base: fine-tuning collapses it to unknown tokens after the first step",
        "fine-tune an offline base and serve it in chunks",
    ),
    r"canary|whisper|salm": (
        "is an attention decoder, which this method does not fine-tune",
        "use a TDT, RNN-T or CTC base such as nvidia/parakeet-tdt-0.6b-v2",
    ),
}
"""Bases known by name to be refused, so that nobody downloads gigabytes first: pattern -> (reason, mend)."""

REFUSED_REQUESTS = {
    "adapter": ("adapters on transducer decoders give NaN tensors", "leave it out: the whole model is trained"),
    "lora": ("LoRA on transducer decoders gives NaN tensors", "leave it out: the whole model is trained"),
    "tokenizer": ("a new tokenizer silently turns the TDT loss into plain RNN-T", "keep the base's tokenizer"),
    "fp16": ("fp16 gives NaN losses with TDT", "use bf16-mixed or 32-true"),
    "16-mixed": ("fp16 gives NaN losses with TDT", "use bf16-mixed or 32-true"),
}
"""What a recipe may ask for that the method refuses: word in a key or value -> (reason, mend)."""


def resolve_base(base: str, download: Callable[[str], Path] | None = None) -> Path:
    """The ``.nemo`` file of ``base``: ``mini``, a path, or a Hugging Face id (``org/name``, fetched by ``download``).

    Raises ModelError if there is no such base, or if its name alone is reason to refuse it.
    """
    if base == MINI:
        return mini_base()
    path = Path(base)
    if path.is_file():
        return path
    refuse_name(base)
    if HUB_ID.fullmatch(base) and not base.endswith(".nemo") and download is not None:
        return download(base)
    raise ModelError(f"no base {base!r}", where="--base", mend="give mini, a .nemo path or a Hugging Face id")


def mini_base() -> Path:
    """The embedded base: packaged in a wheel, in ``models/`` of a checkout."""
    here = Path(str(resources.files("clinical_asr")))
    for folder in (here / "models", here.parents[1] / "models"):
        if (folder / MINI_FILE).is_file():
            return folder / MINI_FILE
    mend = "reinstall the package, or make it: models/recipe/README.md"
    raise ModelError(f"the embedded base {MINI_FILE} is missing", where="--base mini", mend=mend)


def refuse_name(base: str) -> None:
    """Raise ModelError if the name of ``base`` is one the method refuses.

    >>> refuse_name("nvidia/parakeet-tdt-0.6b-v2")
    >>> refuse_name("nvidia/nemotron-speech-streaming-en-0.6b")
    Traceback (most recent call last):
    clinical_asr.errors.ModelError: nvidia/nemotron-speech-streaming-en-0.6b: is a cache-aware streaming base: ...
    """
    for pattern, (reason, mend) in REFUSED_NAMES.items():
        if re.search(pattern, base.lower()):
            raise ModelError(reason, where=base, mend=mend)


def refuse_request(key: str, value: object = "") -> None:
    """Raise ConfigError with the method's reason if a recipe asks for what it refuses.

    >>> refuse_request("lora_rank", 8)
    Traceback (most recent call last):
    clinical_asr.errors.ConfigError: lora_rank: LoRA on transducer decoders gives NaN tensors; leave it out: ...
    """
    said = f"{key} {value}".lower()
    for word, (reason, mend) in REFUSED_REQUESTS.items():
        if word in said and not (word == "16-mixed" and "bf16-mixed" in said):
            raise ConfigError(reason, where=key, mend=mend)


def check_trainable(architecture: Architecture, where: str) -> None:
    """Raise ModelError if the method refuses to fine-tune a base of this architecture."""
    for reason, mend in refusals(architecture):
        raise ModelError(reason, where=where, mend=mend)


def refusals(architecture: Architecture) -> list[tuple[str, str]]:
    """Every (reason, mend) for which the method does not fine-tune this architecture; empty if it does."""
    return [(reason, mend) for refused, reason, mend in _architecture_rules(architecture) if refused]


def _architecture_rules(base: Architecture) -> list[tuple[bool, str, str]]:
    streaming_reason, streaming_mend = REFUSED_NAMES[next(iter(REFUSED_NAMES))]
    adapter_reason, _ = REFUSED_REQUESTS["adapter"]
    convert = "convert it to one head with NeMo's convert_nemo_asr_hybrid_to_ctc.py or its RNN-T twin"
    other = f"{base.target.rsplit('.', 1)[-1]} has no TDT, RNN-T or CTC head"
    rate = f"it hears {base.sample_rate} Hz; manifests of this project are {SAMPLE_RATE} Hz"
    return [
        (base.streaming, streaming_reason, streaming_mend),
        (base.decoder == "hybrid", "is a hybrid of two heads", convert),
        (base.decoder == "other", other, "use a TDT, RNN-T or CTC base such as nvidia/parakeet-tdt-0.6b-v2"),
        (base.adapters, f"carries adapters; {adapter_reason}", "use the base without adapters"),
        (base.sample_rate != SAMPLE_RATE, rate, "use a 16 kHz base"),
    ]


_digests: dict[FileState, str] = {}


def base_digest(path: Path) -> str:
    """SHA-256 of a base, 64 hex digits; computed once per process for a file that has not changed.

    Raises ModelError if a ``.sha256`` file beside it says otherwise.
    """
    digest = content_digest(path)
    _check_sidecar(path, digest)
    return digest


def content_digest(path: Path) -> str:
    """The same, whatever a ``.sha256`` beside it says. Raises ModelError if there is no such file."""
    try:
        key = file_state(path)  # before it is read: what changes meanwhile is not found under it
    except OSError:
        raise ModelError("no such file", where=str(path), mend="check the path of the base") from None
    if key not in _digests:
        _digests[key] = file_digest(path)
    return _digests[key]


def check_pin(path: Path, sha256: str, flag: str = "--sha256") -> str:
    """The digest of ``path``, if it is the one that was pinned; any, if none was.

    Raises ConfigError for a pin that is no SHA-256, ModelError with both digests if the file is another one.
    """
    pin, digest = sha256.strip().lower(), base_digest(path)
    if pin and re.fullmatch(r"[0-9a-f]{64}", pin) is None:
        raise ConfigError(f"{sha256!r:.80} is no SHA-256", flag, "give the 64 hex digits that sha256sum prints")
    if pin and pin != digest:
        raise ModelError(f"has the digest {digest}, not the pinned {pin}", str(path), "get the file again")
    return digest


def sidecar_of(path: Path) -> Path:
    """Where the digest of ``path`` is written, in the format of ``sha256sum``."""
    return path.with_name(path.name + ".sha256")


def adopt(part: Path, model: Path) -> str:
    """Give a finished ``.nemo`` its name, its digest first: a model that is present is complete and has its digest.

    Returns the digest, which this process then knows of the model as well. Raises ModelError without a ``part``.
    """
    with ThreadPoolExecutor(1) as beside:
        on_disk = beside.submit(sync, part)  # the disk is busy while the digest is computed
        digest = content_digest(part)
        on_disk.result()
    model.unlink(missing_ok=True)  # an older model must never stand beside the new digest
    write_text(sidecar_of(model), f"{digest}  {printable(model.name)}\n")
    hashed = file_state(part)
    settle(part, model)
    _know_renamed(hashed, model)
    return digest


def _know_renamed(was: FileState, path: Path) -> None:
    """A file under another name has the digest it had, if it is the very same: size, time of change and inode."""
    now = file_state(path)
    if was in _digests and now[1:] == was[1:]:
        _digests[now] = _digests[was]


def _check_sidecar(path: Path, digest: str) -> None:
    sidecar = sidecar_of(path)
    if not sidecar.is_file():
        return
    words = sidecar.read_text(encoding="utf-8", errors="replace").split()
    if not words or words[0].lower() != digest:
        raise ModelError(f"is not the file its digest was made of ({sidecar.name})", str(path), "get the file again")


def inspect_base(path: Path) -> Architecture:
    """Architecture of a base that may be fine-tuned. Raises ModelError with the method's reason if it may not."""
    base_digest(path)
    architecture = read_architecture(path)
    check_trainable(architecture, str(path))
    return architecture
