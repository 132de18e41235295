"""Offline recognition with a NeMo model held in memory: recordings in, transcripts out, under the same keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

from clinical_asr.bases import base_digest
from clinical_asr.config import TranscriptionConfig
from clinical_asr.engines.nemo_asr_halves import THREADS, Halves, in_halves, renew_search
from clinical_asr.errors import AudioError, FlywheelError, ModelError, printable
from clinical_asr.nemo_file import keep, restore
from clinical_asr.out_of_memory import ran_out
from clinical_asr.speech import read_stored
from clinical_asr.wav import Stored, scaled
from clinical_asr.workers import in_threads

Speech = tuple[str, Stored]
"""Row id and samples."""

CPU_BATCH = 16
"""Most rows of a batch without a GPU: larger ones leave the caches and cost 10 to 25 % more (docs/lab-notes.md)."""


class NemoTranscriber:
    """A base or a fine-tuned model that transcribes; loaded once, used for as many manifests as wanted.

    NeMo's ``transcribe`` drops recordings it cannot read and gives up a whole list for one bad file, so audio is
    decoded here, and a batch that fails or comes back short is split until the row at fault stands alone. On a GPU
    batches of a plain transducer are taken side by side (``nemo_asr_halves``): it may be called from several threads.
    """

    def __init__(
        self, path: Path, config: TranscriptionConfig | None = None, name: str = "", *, kept: bool = False
    ) -> None:
        model = restore(path, _best_device())
        if kept:  # for whoever needs the same model next
            keep(model, path)
        _decode_in_batches(model)
        self._set_up(model, name or printable(path.stem), base_digest(path), config)

    @classmethod
    def from_model(cls, model: Any, name: str, digest: str, config: TranscriptionConfig | None = None) -> Self:
        """Transcribe with a model that is in memory already, for example between two epochs of its training."""
        self = cls.__new__(cls)
        self._set_up(model, name, digest, config)
        return self

    def _set_up(self, model: Any, name: str, digest: str, config: TranscriptionConfig | None) -> None:
        self.model, self.name, self.digest = model, name, digest[:16]
        self.config = config or TranscriptionConfig()
        self.batch_size = self.config.batch_size if self._on_gpu else min(self.config.batch_size, CPU_BATCH)
        renew_search(model)  # the model may have been trained since it was last heard
        self.halves = Halves(model, self._precisely) if self._on_gpu and in_halves(model) else None

    @property
    def _on_gpu(self) -> bool:
        return bool(next(self.model.parameters()).device.type == "cuda")

    @property
    def precision(self) -> str:
        """``bf16`` where it is wanted and the GPU computes it, else ``fp32``."""
        return "bf16" if self._on_gpu and self.config.precision != "fp32" and _has_bf16() else "fp32"

    def transcribe(self, audio: Mapping[str, Path]) -> dict[str, str | FlywheelError]:
        """What was heard in each recording; an AudioError or ModelError where nothing could be.

        A single batch is taken by the calling thread: whoever has many of them spreads them.
        """
        spread = self.spread if len(audio) > self.batch_size else map
        found = dict(zip(audio, spread(_read, audio.values()), strict=True))
        speech = [(row_id, read) for row_id, read in found.items() if not isinstance(read, AudioError)]
        speech.sort(key=lambda row: -len(row[1]))  # little padding, and memory runs out at once or never
        heard: dict[str, str | FlywheelError] = {k: read for k, read in found.items() if isinstance(read, AudioError)}
        for answers in spread(self.recognise, self._batches(speech)):
            heard |= answers
        return heard

    def spread(self, work: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
        """``work`` over ``jobs`` in their order: side by side where that pays (``workers.Spread``)."""
        return map(work, jobs) if self.halves is None else in_threads(work, jobs, THREADS)

    def _batches(self, speech: Sequence[Speech]) -> Iterator[Sequence[Speech]]:
        """Sizes are asked for as they come: memory may have run out meanwhile."""
        start = 0
        while start < len(speech):
            batch = speech[start : start + self.batch_size]
            yield batch
            start += len(batch)

    def recognise(self, speech: Sequence[Speech]) -> dict[str, str | FlywheelError]:
        """One batch of samples; halved on any failure until the row at fault stands alone."""
        try:
            texts = self._forward([samples for _, samples in speech])
            if len(texts) == len(speech):
                return {row_id: text for (row_id, _), text in zip(speech, texts, strict=True)}
            why = f"NeMo returned {len(texts)} transcripts for {len(speech)} recordings"
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            why = " ".join(str(error).split())[:160] or type(error).__name__
            self._give_back_memory(error, len(speech))
        if len(speech) == 1:
            return {speech[0][0]: ModelError(f"the model could not transcribe it ({why})")}
        middle = len(speech) // 2
        return self.recognise(speech[:middle]) | self.recognise(speech[middle:])

    def _forward(self, samples: list[Stored]) -> list[str]:
        return [_text_of(hypothesis) for hypothesis in (self.halves or self.decode)(samples)]

    def decode(self, samples: Sequence[Stored], **asked: Any) -> list[Any]:
        """NeMo's own answers to one batch, in order; ``asked`` are further options of its ``transcribe``."""
        with self._precisely():
            options = {"batch_size": len(samples), "verbose": False, "num_workers": 0, **asked}
            hypotheses = self.model.transcribe([scaled(each) for each in samples], **options)
        if isinstance(hypotheses, tuple):  # older transducers: (best, all)
            hypotheses = hypotheses[0]
        return list(hypotheses or ())

    def _precisely(self) -> AbstractContextManager[None]:
        return _bf16_encoder(self.model, self.precision == "bf16")

    def _give_back_memory(self, error: Exception, size: int) -> None:
        import torch

        if ran_out(error):
            if self.halves is None:  # they do so themselves, and see to it that no other thread is searching
                renew_search(self.model)
            torch.cuda.empty_cache()
            self.batch_size = max(1, min(self.batch_size, size // 2))


def listen(model: Any, audio: Mapping[str, Path], *, exact: bool = False) -> dict[str, str | FlywheelError]:
    """Transcribe with a model between two epochs of its training; ``exact`` decodes in fp32 whatever the device."""
    config = TranscriptionConfig(precision="fp32" if exact else "auto")
    return NemoTranscriber.from_model(model, "in training", "", config).transcribe(audio)


def _read(path: Path) -> Stored | AudioError:
    try:
        return read_stored(path)
    except AudioError as error:
        return error


def _text_of(hypothesis: Any) -> str:
    return str(hypothesis if isinstance(hypothesis, str) else hypothesis.text).strip()


def _best_device() -> str:
    from clinical_asr.nemo_file import import_nemo

    import_nemo()
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _has_bf16() -> bool:
    import torch

    return bool(torch.cuda.is_bf16_supported())


def _decode_in_batches(model: Any) -> None:
    """Row-by-row greedy search and batched greedy search give the same text; the batched one is many times faster."""
    decoding = model.cfg.get("decoding")
    if decoding is not None and decoding.get("strategy") == "greedy" and hasattr(model, "joint"):
        from omegaconf import OmegaConf

        batched = OmegaConf.merge(decoding, {"strategy": "greedy_batch"})
        model.change_decoding_strategy(batched, verbose=False)


@contextmanager
def _bf16_encoder(model: Any, wanted: bool) -> Iterator[None]:
    """Autocast the encoder only. The prediction network and the joint stay in fp32: in bf16 they can loop or babble."""
    if not wanted:
        yield
        return
    import torch

    cast = torch.autocast("cuda", dtype=torch.bfloat16)
    before = model.encoder.register_forward_pre_hook(lambda *_: cast.__enter__() and None)
    after = model.encoder.register_forward_hook(lambda _m, _i, out: _leave(cast, out), always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()


def _leave(cast: Any, output: Any) -> Any:
    cast.__exit__(None, None, None)
    return None if output is None else tuple(part.float() if part.is_floating_point() else part for part in output)
