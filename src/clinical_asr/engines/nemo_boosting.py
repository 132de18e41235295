"""Phrase boosting: greedy decoding of a NeMo model leans towards a list of terms, without any training.

NeMo's boosting tree (a prefix tree of token ids whose arcs add to the scores of the batched greedy search) needs no
GPU: with ``use_triton`` off it runs on a CPU, at about the speed of plain decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clinical_asr.errors import ConfigError, ModelError

DEPTH_SCALING = 2.0
"""NeMo's advice for CTC, RNN-T and TDT: later tokens of a phrase weigh more."""


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
