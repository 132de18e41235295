"""What kind of recogniser a NeMo config describes. Pure: a config in, a value out; nothing is guessed from a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clinical_asr.errors import ModelError
from clinical_asr.model_config import resolved

MODEL_CLASSES = "nemo.collections.asr.models."
PUNCTUATION = frozenset(".,?!")
LARGEST_SIZE = 2**53  # no part of a model is larger, and it is a whole number as a float too


@dataclass(frozen=True, slots=True)
class Architecture:
    """What fine-tuning and deployment must know about a base; read from its config, never guessed from its name."""

    target: str
    """Dotted class NeMo restores."""
    decoder: str
    """``tdt``, ``rnnt``, ``ctc``, ``hybrid`` or ``other``."""
    layers: int
    width: int
    mels: int
    vocabulary: int
    sample_rate: int
    durations: tuple[int, ...]
    sigma: float
    omega: float
    streaming: bool
    """Cache-aware: the encoder sees a limited right context."""
    adapters: bool
    loss: str = ""
    """``tdt``, ``rnnt``, ``ctc``, or both of a hybrid (``tdt + ctc``)."""
    subsampling: int = 0
    """Feature frames per encoder frame."""
    frame_ms: float = 0.0
    """Milliseconds of audio per encoder frame; 0 if the config does not say."""
    context: str = ""
    """Frames the encoder's attention sees to the left and right of each: ``full``, or ``[70, 13]``."""
    tokenizer: str = ""
    """``SentencePiece``, ``WordPiece``, ``aggregate`` or ``characters``."""
    text_style: str = ""
    """``cased, punctuated`` and the like: what the vocabulary can write, so what training text should look like."""


def architecture_of(config: dict[str, Any], where: str = "config") -> Architecture:
    """Read a model config. Raises ModelError if it is no NeMo speech recogniser, or a size in it is no number.

    >>> architecture_of({"target": "nemo.collections.asr.models.EncDecCTCModelBPE", "decoder": {}}).decoder
    'ctc'
    """
    target = str(config.get("target", ""))
    if not target.startswith(MODEL_CLASSES):
        mend = "only NeMo speech recognition models can be a base"
        raise ModelError(f"its class is {target[:80] or 'not named'}", where=where, mend=mend)
    sizes = _Sizes(config, where)
    encoder, loss, words = _section(config, "encoder"), _section(config, "loss"), vocabulary_of(config)
    decoder = _decoder_kind(target, loss)
    tdt = _section(loss, "tdt_kwargs") if loss.get("loss_name") == "tdt" else {}
    stride, subsampling = sizes.real("preprocessor", "window_stride"), sizes.whole("encoder", "subsampling_factor")
    return Architecture(
        target=target,
        decoder=decoder,
        layers=sizes.whole("encoder", "n_layers"),
        width=sizes.whole("encoder", "d_model"),
        mels=sizes.whole("encoder", "feat_in") or sizes.whole("preprocessor", "features"),
        vocabulary=len(words),
        sample_rate=sizes.whole("", "sample_rate") or sizes.whole("preprocessor", "sample_rate"),
        durations=tuple(sizes.number(n, "durations") for n in _list(resolved(config, tdt.get("durations")))),
        sigma=float(sizes.number(tdt.get("sigma"), "sigma")),
        omega=float(sizes.number(tdt.get("omega"), "omega")),
        streaming=_is_streaming(encoder),
        adapters=bool(config.get("adapters")),
        loss=_loss(decoder, loss),
        subsampling=subsampling,
        frame_ms=round(1000 * stride * subsampling, 3),
        context=_context(encoder),
        tokenizer=_tokenizer(config),
        text_style=text_style(words),
    )


@dataclass(frozen=True)
class _Sizes:
    """Numbers of a config, each checked to be one."""

    config: dict[str, Any]
    where: str

    def whole(self, section: str, name: str) -> int:
        """A whole number; 0 if the config does not say."""
        home = _section(self.config, section) if section else self.config
        return int(self.number(home.get(name), name))

    def real(self, section: str, name: str) -> float:
        """A number; 0 if the config does not say."""
        return float(self.number(_section(self.config, section).get(name), name))

    def number(self, value: Any, name: str) -> Any:
        """``value``, with references followed. Raises ModelError if it is no finite number."""
        found = resolved(self.config, value)
        if found is None:
            return 0
        if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < LARGEST_SIZE:  # no NaN
            raise ModelError(f"its config says {name} is {found!r:.40}, which is no number", self.where)
        return found


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def vocabulary_of(config: dict[str, Any]) -> list[str]:
    """The pieces a model writes its text with, in its own order.

    >>> vocabulary_of({"joint": {"vocabulary": ["<unk>", "a"]}})
    ['<unk>', 'a']
    """
    places = (config, "labels"), (_section(config, "joint"), "vocabulary"), (_section(config, "decoder"), "vocabulary")
    found = (_list(resolved(config, section.get(name))) for section, name in places)
    return [str(piece) for piece in next((words for words in found if words), [])]


def text_style(pieces: list[str]) -> str:
    """What text a vocabulary can write: the style that training transcripts have to keep.

    >>> text_style(["<unk>", "a", "b", "'"]), text_style(["A", "a", ".", "?", "1"]), text_style([])
    ('lower case, no punctuation', 'cased, punctuated, digits', 'unknown')
    """
    letters = {letter for piece in pieces if not piece.startswith("<") for letter in piece}
    if not any(letter.isalpha() for letter in letters):
        return "unknown"
    upper, lower = any(map(str.isupper, letters)), any(map(str.islower, letters))
    case = "cased" if upper and lower else "upper case" if upper else "lower case" if lower else "caseless"
    marks = "punctuated" if letters & PUNCTUATION else "no punctuation"
    return ", ".join([case, marks, *(["digits"] if any(map(str.isdigit, letters)) else [])])


def _decoder_kind(target: str, loss: dict[str, Any]) -> str:
    name = target.removeprefix(MODEL_CLASSES)
    if "Hybrid" in name:
        return "hybrid"
    if "RNNT" in name:
        return "tdt" if loss.get("loss_name") == "tdt" else "rnnt"
    return "ctc" if "CTC" in name else "other"


def _loss(decoder: str, loss: dict[str, Any]) -> str:
    """
    >>> _loss("hybrid", {"loss_name": "tdt"}), _loss("rnnt", {"loss_name": "default"}), _loss("ctc", {})
    ('tdt + ctc', 'rnnt', 'ctc')
    """
    transducer = "tdt" if loss.get("loss_name") == "tdt" else "rnnt"
    return {"hybrid": f"{transducer} + ctc", "ctc": "ctc", "other": "unknown"}.get(decoder, transducer)


def _contexts(encoder: dict[str, Any]) -> list[list[Any]]:
    """Attention contexts, ``[[left, right], ...]``; several where a streaming encoder was trained for several."""
    stated = _list(encoder.get("att_context_size"))
    return [c for c in stated if isinstance(c, list)] if stated and isinstance(stated[0], list) else [stated]


def _context(encoder: dict[str, Any]) -> str:
    """
    >>> _context({"att_context_size": [-1, -1]}), _context({"att_context_size": [[70, 13], [70, 0]]})
    ('full', '[70, 13] [70, 0]')
    """
    limited = [context for context in _contexts(encoder) if any(edge != -1 for edge in context)]
    return " ".join(map(str, limited))[:120] or "full"


def _is_streaming(encoder: dict[str, Any]) -> bool:
    """Cache-aware encoders are causal: in the down-sampling, the convolutions or a limited attention context.

    >>> _is_streaming({"att_context_size": [-1, -1]}), _is_streaming({"att_context_size": [[70, 13], [70, 0]]})
    (False, True)
    """
    right = [context[1] for context in _contexts(encoder) if len(context) > 1]
    limited = encoder.get("att_context_style") == "chunked_limited" or any(
        isinstance(edge, int) and edge >= 0 for edge in right
    )
    causal = bool(encoder.get("causal_downsampling")) or encoder.get("conv_context_size") == "causal"
    return limited or causal


def _tokenizer(config: dict[str, Any]) -> str:
    kind = str(_section(config, "tokenizer").get("type", "")).lower()
    known = {"bpe": "SentencePiece", "wpe": "WordPiece", "agg": "aggregate", "": "characters"}
    return known.get(kind, kind[:40])
