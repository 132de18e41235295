"""The engines of real life, made in one place and handed to the stages: eSpeak NG, NeMo, the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clinical_asr.boosting import Boosting
    from clinical_asr.engines.nemo_sft.ranks import World
    from clinical_asr.hypotheses import Transcriber
    from clinical_asr.judge import Listen
    from clinical_asr.training import Evaluate, OnStep, TrainingJob, TrainingReport, TrainModel


def synthesiser() -> Callable[[str, str], NDArray[np.float32]]:
    """(text, voice id) -> mono float32 samples at 16 kHz. Picklable.

    Raises ConfigError for a voice that cannot be read.
    """
    return _synthesised


def _synthesised(text: str, voice_id: str) -> NDArray[np.float32]:
    from clinical_asr.engines.espeak import Espeak, Voice
    from clinical_asr.engines.espeak_ipa import Phonemic

    return Espeak().synthesise(text, Voice.parse(voice_id), phonemes=isinstance(text, Phonemic))


def markup() -> Callable[[str, Mapping[str, str]], str]:
    """(text, {term: IPA}) -> what `synthesiser` speaks, with the IPA imposed. Picklable.

    Raises FlywheelError for IPA that the engine cannot say, naming the symbol.
    """
    return _marked


def _marked(text: str, ipa: Mapping[str, str]) -> str:
    from clinical_asr.engines.espeak_ipa import phonemic
    from clinical_asr.ssml import pieces

    return phonemic(pieces(text, ipa)) if ipa else text


def require_sayable(ipa: str) -> None:
    """Raises PhonemeError for IPA that the offline engine cannot say, naming symbol and place.

    Said and traced in American: what comes out must be what was asked for, up to the accent's documented allophones.
    """
    from clinical_asr.engines.espeak import Espeak, Voice
    from clinical_asr.engines.espeak_ipa import agrees, phonemic
    from clinical_asr.ipa import PhonemeError

    heard = Espeak().trace(phonemic([("", None), (ipa, ipa)]), Voice())
    if not agrees(ipa, heard, "en-us"):
        raise PhonemeError(f"is said {heard!r}", f"IPA {ipa!r}", "write it another way, or use another engine")


def own_ipa(text: str) -> str:
    """How the offline engine reads a text by its own rules, in American."""
    from clinical_asr.engines.espeak import Espeak, Voice

    return Espeak().phonemes(text, Voice())


def traced(text: str, voice_id: str) -> str:
    """IPA of what `synthesiser` says. Raises ConfigError for an unknown voice."""
    from clinical_asr.engines.espeak import Espeak, Voice
    from clinical_asr.engines.espeak_ipa import Phonemic

    voice = Voice.parse(voice_id)
    return Espeak().trace(text, voice) if isinstance(text, Phonemic) else Espeak().phonemes(text, voice)


def check_voices(voice_ids: tuple[str, ...], flag: str = "--voices") -> tuple[str, ...]:
    """The same ids, each proved to be readable before any work begins. Raises ConfigError naming the flag."""
    from clinical_asr.engines.espeak import Espeak, Voice
    from clinical_asr.errors import ConfigError

    known_languages, known_variants = Espeak().voices(), Espeak().variants()
    for voice_id in voice_ids:
        voice = Voice.parse(voice_id)
        for what, name, known in (("language", voice.language, known_languages),
                                  ("variant", voice.variant, known_variants)):  # fmt: skip
            if name is not None and name not in known:
                raise ConfigError(f"{voice_id!r} has the unknown {what} {name!r}", flag, f"one of {', '.join(known)}")
    return voice_ids


def transcriber(path: Path, name: str = "", batch_size: int = 128, precision: str = "auto") -> Transcriber:
    """A recogniser, its model loaded. Raises ModelError for a file that is no model, ConfigError for its settings."""
    from clinical_asr.config import TranscriptionConfig
    from clinical_asr.engines.nemo_asr import NemoTranscriber

    quiet()
    config = TranscriptionConfig(batch_size=batch_size, precision=precision)
    return NemoTranscriber(path, config, name)


def kept_transcriber(path: Path, name: str = "") -> Transcriber:
    """As :func:`transcriber`; fine-tuning, which begins from the same base, need not read it again, nor compile."""
    from clinical_asr.engines.nemo_asr import NemoTranscriber
    from clinical_asr.engines.nemo_sft import kernels

    quiet()
    kernels.begin()
    return NemoTranscriber(path, name=name, kept=True)


def boosted(plain: Transcriber, boosting: Boosting) -> Transcriber:
    """The same model, leaning towards a list of terms. Raises ModelError for one that cannot be boosted."""
    from clinical_asr.engines.nemo_asr import NemoTranscriber
    from clinical_asr.engines.nemo_boosting import BoostedTranscriber
    from clinical_asr.errors import ModelError

    if not isinstance(plain, NemoTranscriber):
        raise ModelError("is no model in memory whose decoder could be boosted", plain.name)
    return BoostedTranscriber(plain, boosting)


def trainer(fit: bool = False) -> TrainModel:
    """The fine-tuning engine. Started by torchrun, each process trains its share and all but the first one end there.

    With ``fit`` the longest rows are tried on the GPU before the first step. Raises ConfigError if torchrun's variables
    are incomplete, or for ``fit`` in several processes: they would have to be of one mind.
    """
    from clinical_asr.engines.nemo_sft import kernels, train
    from clinical_asr.engines.nemo_sft.rehearsal import Gpu
    from clinical_asr.errors import ConfigError
    from clinical_asr.nemo_file import keep

    quiet()
    world = processes()
    if world.size == 1:
        kernels.begin()
        return partial(train, card=Gpu() if fit else None, hand_over=keep)
    if fit:
        raise ConfigError("works in one process only", "--fit", "leave it out: a batch that is too large is halved")

    def together(job: TrainingJob, evaluate: Evaluate | None, on_step: OnStep | None) -> TrainingReport:
        report = train(job, evaluate, on_step, world=world)
        if not world.leads:
            raise SystemExit(0)
        return report

    return together


def processes() -> World:
    """The processes that torchrun has started, or this one alone. Raises ConfigError."""
    from clinical_asr.engines.nemo_sft.ranks import World

    return World.of(os.environ)


def listener() -> Listen:
    """Transcribes with a model in training: what judges each epoch."""
    from clinical_asr.engines.nemo_asr import listen

    return listen


def resolve(base: str, flag: str = "--base", sha256: str = "") -> Path:
    """The ``.nemo`` of ``mini``, a path or a Hugging Face id. ``HF_ENDPOINT`` and ``HF_TOKEN`` are read here.

    Raises ModelError naming ``flag`` if there is no such base, or if it has another digest than ``sha256``; ConfigError
    if the environment has PyTorch run whatever a checkpoint says.
    """
    from clinical_asr.archive import refuse_unsafe_environment
    from clinical_asr.bases import check_pin, resolve_base
    from clinical_asr.errors import ModelError

    refuse_unsafe_environment(os.environ)
    try:
        path = resolve_base(base, _download)
    except ModelError as error:
        raise ModelError(error.what, error.where.replace("--base", flag), error.mend) from None
    check_pin(path, sha256)
    return path


def _download(base: str) -> Path:
    """From the hub: who writes a hub id has named who may be asked for it, and is told what goes there."""
    from clinical_asr.cli.console import tell
    from clinical_asr.engines.hub import download

    tell(f"{base}: taken from the model hub, or from what was downloaded before; only its name is sent", err=True)
    return download(base, endpoint=os.environ.get("HF_ENDPOINT") or None, token=os.environ.get("HF_TOKEN") or None)


def quiet() -> None:
    """Keep the libraries' chatter off the terminal: what matters of it, the stages say themselves."""
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "torch", "numexpr"):
        logging.getLogger(name).setLevel(logging.ERROR)
