"""Phrase boosting: greedy decoding of a NeMo model leans towards a list of terms, without any training.

NeMo's boosting tree (a prefix tree of token ids whose arcs add to the scores of the batched greedy search) needs no
GPU: with ``use_triton`` off it runs on a CPU, at about the speed of plain decoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from clinical_asr.boosting import Boosting
from clinical_asr.errors import ConfigError, FlywheelError, ModelError

DEPTH_SCALING = 2.0
"""NeMo's advice for CTC, RNN-T and TDT: later tokens of a phrase weigh more."""


class HasModel(Protocol):
    """A recogniser over a NeMo model in memory."""

    model: Any
    name: str
    digest: str
    batch_size: int

    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, str | FlywheelError]: ...


class BoostedTranscriber:
    """The same model in memory, leaning towards terms while this one transcribes and not a moment longer.

    Both decoders are made once and change places around each call, so the plain recogniser stays what it says it is.
    Raises ModelError for a model that cannot be boosted.
    """

    def __init__(self, plain: HasModel, boosting: Boosting) -> None:
        self.plain, self.boosting = plain, boosting
        self.name, self.digest = boosting.named(plain.name), boosting.identity(plain.digest)
        boost(plain.model, boosting.listed, boosting.strength)
        self._boosted = plain.model.decoding
        boost(plain.model, boosting.listed, 0.0)

    @property
    def batch_size(self) -> int:
        """As the plain recogniser has it."""
        return self.plain.batch_size

    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, str | FlywheelError]:
        """What was heard in each recording, as the plain recogniser answers."""
        model, before = self.plain.model, self.plain.model.decoding
        model.decoding = self._boosted
        try:
            return self.plain.transcribe(audio)
        finally:
            model.decoding = before


def boost(model: Any, terms: Sequence[str], strength: float) -> None:
    """Let ``model`` lean towards ``terms``, written as it writes them. ``strength`` 0 decodes as before.

    Strength is the weight of the tree beside the model's log probabilities; 0.5 to 1 is mild, 2 invents terms.
    Raises ConfigError for a strength below 0 or no terms, ModelError for a model without batched greedy search.
    """
    from omegaconf import OmegaConf

    if strength < 0 or not any(term.strip() for term in terms):
        raise ConfigError(
            f"{strength:g} with {len(terms)} terms boosts nothing", "boosting", "give terms, and 0 or more"
        )
    decoding = model.cfg.get("decoding")
    if decoding is None or not hasattr(model, "joint"):
        raise ModelError("has no transducer decoder to boost", mend="boost a TDT or RNN-T base")
    config = OmegaConf.to_container(decoding)
    tree = {"key_phrases_list": phrases(model, terms), "depth_scaling": DEPTH_SCALING, "use_triton": _on_gpu(model)}
    greedy = {**config.get("greedy", {}), "boosting_tree": tree, "boosting_tree_alpha": float(strength)}
    if strength == 0:
        greedy = {name: value for name, value in greedy.items() if not name.startswith("boosting_tree")}
    model.change_decoding_strategy(
        OmegaConf.create({**config, "strategy": "greedy_batch", "greedy": greedy}), verbose=False
    )


def phrases(model: Any, terms: Sequence[str]) -> list[str]:
    """Every term as the base would write it: lower case, and with a capital where its tokens have capitals."""
    written = [term.strip() for term in terms if term.strip()]
    pieces = model.tokenizer.vocab if hasattr(model.tokenizer, "vocab") else []
    if not any(symbol.isupper() for piece in pieces for symbol in str(piece).replace("<unk>", "")):
        return list(dict.fromkeys(term.lower() for term in written))
    return list(dict.fromkeys(form for term in written for form in (term, term[0].upper() + term[1:])))


def _on_gpu(model: Any) -> bool:
    return bool(next(model.parameters()).device.type == "cuda")
