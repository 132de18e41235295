"""Recognition of samples in memory, with word times and word confidence where the model's decoder gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from clinical_asr.errors import FlywheelError, ModelError
from clinical_asr.recognition import Recognition, Samples, Word

WORDS_WANTED = {
    "compute_timestamps": True,
    "rnnt_timestamp_type": "word",  # segments too would cost time, and a warning amid a server's log
    "ctc_timestamp_type": "word",
    "preserve_alignments": True,
    "confidence_cfg": {
        "preserve_frame_confidence": True,
        "preserve_token_confidence": True,
        "preserve_word_confidence": True,
        "exclude_blank": True,
        "aggregation": "mean",
    },
}
"""What NeMo's decoding section must say for words to come back; mean token confidence is a word's confidence."""


class Decoder(Protocol):
    """A loaded model, as ``engines.nemo_asr.NemoTranscriber`` holds it."""

    model: Any
    digest: str

    def recognise(self, speech: Sequence[tuple[str, Samples]]) -> dict[str, str | FlywheelError]: ...
    def decode(self, samples: list[Samples], **asked: Any) -> list[Any]: ...


class NemoRecogniser:
    """``recognition.Recognise`` for a NeMo model. For one thread: the model's decoder is exchanged while words are
    wanted, so that transcripts without words are decoded exactly as offline.

    ``no_words`` says why there are no word times, or is empty.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.no_words = decoder, ""
        self._seconds_a_frame = 0.0
        try:
            self._word_decoding = _word_decoding(decoder.model)
            self._seconds_a_frame = _seconds_a_frame(decoder.model)
        except (AttributeError, KeyError, TypeError, ValueError, NotImplementedError, RuntimeError) as error:
            why = " ".join(str(error).split())[:100]
            self.no_words = f"this model's decoder gives no word times ({why or type(error).__name__})"

    @property
    def punctuates(self) -> bool:
        """True if the vocabulary holds marks, so that the model writes them itself."""
        return bool(set(".,?") & set(getattr(self.decoder.model.decoding, "supported_punctuation", ())))

    def __call__(self, recordings: Sequence[Samples], words: bool) -> list[Recognition | FlywheelError]:
        """One answer a recording, in order; ModelError for one the model chokes on, or if there are no words."""
        if words and self.no_words:
            return [ModelError(self.no_words)] * len(recordings)
        longest_first = sorted(range(len(recordings)), key=lambda index: -len(recordings[index]))
        ordered = [recordings[index] for index in longest_first]
        answers = self._with_words(ordered) if words else self._texts(ordered)
        found = dict(zip(longest_first, answers, strict=True))
        return [found[index] for index in range(len(recordings))]

    def _texts(self, recordings: Sequence[Samples]) -> list[Recognition | FlywheelError]:
        heard = self.decoder.recognise([(str(index), samples) for index, samples in enumerate(recordings)])
        answers = (heard[str(index)] for index in range(len(recordings)))
        return [Recognition(answer) if isinstance(answer, str) else answer for answer in answers]

    def _with_words(self, recordings: Sequence[Samples]) -> list[Recognition | FlywheelError]:
        """One batch; halved on any failure until the recording at fault stands alone."""
        try:
            with self._words_on():
                hypotheses = self.decoder.decode(list(recordings), return_hypotheses=True)
            if len(hypotheses) == len(recordings):
                return [_recognition(hypothesis, self._seconds_a_frame) for hypothesis in hypotheses]
            why = f"NeMo returned {len(hypotheses)} transcripts for {len(recordings)} recordings"
        except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as error:
            why = " ".join(str(error).split())[:160] or type(error).__name__
        if len(recordings) == 1:
            return [ModelError(f"the model could not transcribe it ({why})")]
        middle = len(recordings) // 2
        return self._with_words(recordings[:middle]) + self._with_words(recordings[middle:])

    @contextmanager
    def _words_on(self) -> Iterator[None]:
        model = self.decoder.model
        plain, model.decoding = model.decoding, self._word_decoding
        try:
            yield
        finally:
            model.decoding = plain


def _word_decoding(model: Any) -> Any:
    """A second decoder of the same model that keeps words; the model itself is left as it was."""
    from omegaconf import OmegaConf

    plain, config = model.decoding, model.cfg.decoding
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    try:
        model.change_decoding_strategy(OmegaConf.create({**settings, **WORDS_WANTED}), verbose=False)
        return model.decoding
    finally:
        model.change_decoding_strategy(config, verbose=False)  # also puts the config back
        model.decoding = plain


def _seconds_a_frame(model: Any) -> float:
    """Seconds between two outputs of the encoder: hop of the features x subsampling."""
    return float(model.cfg.preprocessor.window_stride) * int(model.encoder.subsampling_factor)


def _recognition(hypothesis: Any, seconds_a_frame: float) -> Recognition:
    offsets = hypothesis.timestamp["word"]
    sure = list(hypothesis.word_confidence or ())
    sure = [min(1.0, max(0.0, float(value))) for value in sure] if len(sure) == len(offsets) else [None] * len(offsets)
    words = tuple(
        Word(str(o["word"]), o["start_offset"] * seconds_a_frame, o["end_offset"] * seconds_a_frame, confidence)
        for o, confidence in zip(offsets, sure, strict=True)
    )
    known = [word.confidence for word in words if word.confidence is not None]
    return Recognition(str(hypothesis.text).strip(), sum(known) / len(known) if known else None, words)
