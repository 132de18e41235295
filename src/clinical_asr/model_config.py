"""The ``model_config.yaml`` of a ``.nemo``: read as plain data, and refused if it asks for more than a recogniser.

NeMo instantiates what a config names. Names are therefore held against a list here, before NeMo sees the file: exact
prefixes, a class at the end, and no way through another library in between (``nemo...asr_model.os.system`` begins well
and ends badly).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from typing import Any

from clinical_asr.archive import CONFIG, DO_NOT_USE, GET_AGAIN, one_line
from clinical_asr.errors import ModelError

TARGET_KEYS = ("_target_", "target", "cls", "class_path")
"""Keys whose value NeMo, Hydra or Lightning import and call."""
ALLOWED_PREFIXES = (
    "nemo.collections.asr.", "nemo.collections.common.", "nemo.core.config.", "nemo.core.optim.",
    "nemo.core.classes.mixins.adapter_mixin_strategies.", "torch.nn.", "torch.optim.",
)  # fmt: skip
"""Where a class may live that a speech model is made of."""
FOREIGN = frozenset({
    "torch", "numpy", "scipy", "lightning", "pytorch_lightning", "hydra", "omegaconf", "yaml", "joblib",
    "webdataset", "lhotse", "transformers", "huggingface_hub", "sentencepiece", "librosa", "soundfile",
    "braceexpand", "pandas", "builtins",
})  # fmt: skip
"""Libraries that NeMo's modules import, and that a dotted name could therefore be led through."""
RESOLVERS = ("oc.select",)
"""OmegaConf's functions that a config may call; ``oc.env`` would read the environment."""
DEEPEST = 64
MODULE, CLASS = re.compile(r"[a-z][a-z0-9_]*"), re.compile(r"[A-Z][A-Za-z0-9_]*")
RESOLVER = re.compile(r"\$\{\s*([^${}:]*):")
REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def parse_config(document: bytes, where: str) -> dict[str, Any]:
    """The config as plain data. Raises ModelError if it is not the YAML that NeMo writes.

    NeMo writes neither aliases (a few lines of which can stand for gigabytes) nor tags (which can call functions).
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(document, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
                what = "uses YAML aliases" if depth <= DEEPEST else f"is nested deeper than {DEEPEST}"
                raise ModelError(f"its {CONFIG} {what}, which NeMo never does", where, DO_NOT_USE)
        config = yaml.load(document, Loader=loader)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise ModelError(f"its {CONFIG} is not YAML ({one_line(error)})", where, GET_AGAIN) from None
    if not isinstance(config, dict):
        raise ModelError(f"its {CONFIG} is empty", where, GET_AGAIN)
    return config


def check_config(config: dict[str, Any], members: Collection[str], where: str) -> None:
    """Raise ModelError if the config would have NeMo call, read or fetch anything but parts of a speech model."""
    for path, value in _leaves(config, ""):
        key = path.rsplit(".", 1)[-1]
        for broken, what in (
            (key in TARGET_KEYS and not _is_part(value), f"would call {value!r:.80}"),
            (key == "trust_remote_code" and bool(value), "would run code from a model hub"),
            (_resolver(value) is not None, f"would call the resolver {_resolver(value)!r:.80}"),
            (_leads_out(path, value, members), f"names a file that is not in the archive ({value!r:.80})"),
        ):
            if broken:
                raise ModelError(f"its {CONFIG} {what} ({path[:80]})", where, DO_NOT_USE)


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything that is no mapping and no list; of those, their keys' own targets."""
    items: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict | list) and str(key) not in TARGET_KEYS[:1]:
            yield from _leaves(value, here)
        else:
            yield here, value
        if isinstance(key, str) and _resolver(key) is not None:
            yield f"{here} (key)", key


def _is_part(target: Any) -> bool:
    return target is None or (isinstance(target, str) and is_allowed_target(target))


def is_allowed_target(target: str) -> bool:
    """Is this a class of the libraries a speech model is made of, named directly?

    >>> [is_allowed_target(name) for name in ("nemo.collections.asr.modules.ConformerEncoder", "torch.optim.AdamW",
    ...     "os.system", "nemo.collections.asr.models.asr_model.os.system",
    ...     "nemo.collections.asr.parts.utils.subprocess.Popen", "nemo.collections.asr.modules.evil")]
    [True, True, False, False, False, False]
    """
    prefix = next((prefix for prefix in ALLOWED_PREFIXES if target.startswith(prefix)), None)
    if prefix is None:
        return False
    *modules, last = target.removeprefix(prefix).split(".")
    passes = (name for name in modules if name in sys.stdlib_module_names or name in FOREIGN)
    return CLASS.fullmatch(last) is not None and all(map(MODULE.fullmatch, modules)) and not any(passes)


def _resolver(value: Any) -> str | None:
    """The first function that an interpolation calls and may not.

    >>> _resolver("${oc.env:NVIDIA_API_KEY}"), _resolver("${model_defaults.enc_hidden}")
    ('oc.env', None)
    """
    called = RESOLVER.findall(value) if isinstance(value, str) else []
    return next((name for name in called if name not in RESOLVERS), None)


def _leads_out(path: str, value: Any, members: Collection[str]) -> bool:
    """A ``nemo:`` name that is not in the archive, or a tokenizer's file elsewhere on this disk.

    NeMo would read such a file, and pack it into the next ``.nemo`` it writes.
    """
    if not isinstance(value, str):
        return False
    if value.startswith("nemo:"):
        return value.removeprefix("nemo:").removeprefix("./") not in members
    if not (path.startswith("tokenizer.") and (path.endswith("_path") or path.endswith("spe_tokenizer_vocab"))):
        return False
    return value.startswith(("/", "~")) or ".." in value.replace("\\", "/").split("/")


def resolved(config: dict[str, Any], value: Any) -> Any:
    """``value``, or what ``${a.b}`` stands for in ``config``.

    >>> resolved({"model_defaults": {"enc_hidden": 512}}, "${model_defaults.enc_hidden}")
    512
    """
    for _ in range(8):
        found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return value
        value = config
        for name in found[1].split("."):
            value = value.get(name) if isinstance(value, dict) else None
    return None
