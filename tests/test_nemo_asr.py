"""Recognition with a real (tiny, untrained) NeMo model: rows that cannot be heard never move the others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from clinical_asr.config import TranscriptionConfig
from clinical_asr.errors import AudioError, ModelError
from clinical_asr.hypotheses import transcribe_rows
from clinical_asr.jsonl import read_rows
from clinical_asr.records import Hypothesis, Outcome, Utterance

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")

from clinical_asr.engines import nemo_asr_halves  # noqa: E402
from clinical_asr.engines.nemo_asr import NemoTranscriber  # noqa: E402
from clinical_asr.engines.nemo_asr_halves import Halves, Room, in_halves, on_device, padded, renew_search  # noqa: E402

pytestmark = pytest.mark.nemo


@pytest.fixture(scope="module")
def transcriber(tiny_nemo: Path) -> NemoTranscriber:
    return NemoTranscriber(tiny_nemo, TranscriptionConfig(batch_size=5), name="tiny")


@pytest.fixture
def audio(tiny_manifest: Path) -> dict[str, Path]:
    rows = read_rows(tiny_manifest, Utterance)
    return {row.id: tiny_manifest.parent / row.audio_filepath for row in rows}


def test_every_row_is_heard_under_its_own_key(transcriber: NemoTranscriber, audio: dict[str, Path]) -> None:
    together = transcriber.transcribe(audio)
    assert together.keys() == audio.keys()
    assert all(isinstance(text, str) for text in together.values())
    assert len(set(together.values())) > 1
    alone = {key: transcriber.transcribe({key: audio[key]})[key] for key in list(audio)[:4]}
    assert alone == {key: together[key] for key in alone}


def spoil(folder: Path, good: Path) -> dict[str, Path]:
    """Recordings that stock transcription drops, dies of, or averages."""
    samples, rate = soundfile.read(good)
    bad = {name: folder / f"{name}" for name in ("text.wav", "payload.flac", "stereo.wav", "empty.wav", "nan.wav")}
    bad["text.wav"].write_text("not audio")
    soundfile.write(bad["payload.flac"], samples, rate)
    content = bytearray(bad["payload.flac"].read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    bad["payload.flac"].write_bytes(content)
    soundfile.write(bad["stereo.wav"], np.stack([samples, samples], 1), rate)
    soundfile.write(bad["empty.wav"], samples[:0], rate)
    soundfile.write(bad["nan.wav"], np.full(16_000, np.nan), rate, subtype="FLOAT")
    return bad | {"missing": folder / "missing.wav"}


def test_bad_recordings_fail_alone(transcriber: NemoTranscriber, audio: dict[str, Path], tmp_path: Path) -> None:
    good = dict(list(audio.items())[:3])
    bad = spoil(tmp_path, next(iter(good.values())))
    heard = transcriber.transcribe({**bad, **good})
    assert {key: heard[key] for key in good} == transcriber.transcribe(good)
    assert all(isinstance(heard[key], AudioError) and "\n" not in str(heard[key]) for key in bad)


def test_a_model_that_chokes_on_one_row_is_asked_again_without_it(
    transcriber: NemoTranscriber, audio: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    normal = transcriber.transcribe(audio)
    victim = soundfile.read(audio["row003"], dtype="float32")[0]
    stock = transcriber.model.transcribe

    def chokes(samples: list[Any], **options: Any) -> Any:
        if any(len(s) == len(victim) and (s == victim).all() for s in samples):
            raise RuntimeError("kernel\nfailed")
        return stock(samples, **options)

    monkeypatch.setattr(transcriber.model, "transcribe", chokes)
    heard = transcriber.transcribe(audio)
    assert isinstance(heard["row003"], ModelError) and "kernel failed" in str(heard["row003"])
    assert {k: v for k, v in heard.items() if k != "row003"} == {k: v for k, v in normal.items() if k != "row003"}


def test_a_batch_that_comes_back_short_is_split(
    transcriber: NemoTranscriber, audio: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    normal = transcriber.transcribe(audio)
    stock = transcriber.model.transcribe
    drops = lambda samples, **options: stock(samples, **options)[: max(1, len(samples) - 1)]  # noqa: E731
    monkeypatch.setattr(transcriber.model, "transcribe", drops)
    assert transcriber.transcribe(audio) == normal


def test_another_rate_is_resampled(transcriber: NemoTranscriber, tmp_path: Path) -> None:
    time = np.arange(44_100) / 44_100
    soundfile.write(tmp_path / "cd.wav", 0.1 * np.sin(2 * np.pi * 440 * time), 44_100)
    assert isinstance(transcriber.transcribe({"cd": tmp_path / "cd.wav"})["cd"], str)


def test_the_stage_on_a_real_model(transcriber: NemoTranscriber, tiny_manifest: Path, tmp_path: Path) -> None:
    rows = read_rows(tiny_manifest, Utterance)
    output, ledger = tmp_path / "offline_hyps.jsonl", tmp_path / "ledger.jsonl"
    entries = transcribe_rows(rows, tiny_manifest.parent, transcriber, output, ledger)
    assert {entry.outcome for entry in entries} == {Outcome.SCORED}
    written = read_rows(output, Hypothesis)
    assert [row.id for row in written] == [row.id for row in rows]
    assert {(row.model, len(row.model_digest)) for row in written} == {("tiny", 16)}


@pytest.mark.parametrize("kind", ["tiny_ctc", "tiny_rnnt"])
def test_other_heads_transcribe_too(kind: str, audio: dict[str, Path], request: pytest.FixtureRequest) -> None:
    heard = NemoTranscriber(request.getfixturevalue(kind)).transcribe(dict(list(audio.items())[:2]))
    assert all(isinstance(text, str) for text in heard.values()) and len(heard) == 2


@pytest.mark.parametrize("kind", ["tiny_nemo", "tiny_rnnt"])
def test_a_batch_searched_while_another_is_encoded_is_heard_alike(
    kind: str, audio: dict[str, Path], request: pytest.FixtureRequest
) -> None:
    ears = NemoTranscriber(request.getfixturevalue(kind), TranscriptionConfig(batch_size=2))
    in_turn = ears.transcribe(audio)
    ears.halves = Halves(ears.model, ears._precisely)
    for _ in range(3):
        assert ears.transcribe(audio) == in_turn
    assert list(ears.spread(ears.transcribe, [{key: path} for key, path in audio.items()])) == [
        {key: in_turn[key]} for key in audio
    ]
    assert ears.model.preprocessor.featurizer.dither > 0  # training gets its noise back


@pytest.mark.parametrize("apart", [False, True])
def test_how_samples_are_stored_changes_no_text(
    apart: bool, tiny_nemo: Path, audio: dict[str, Path], tmp_path: Path
) -> None:
    ears = NemoTranscriber(tiny_nemo, TranscriptionConfig(batch_size=5))
    ears.halves = Halves(ears.model, ears._precisely) if apart else None
    normal = ears.transcribe(audio)
    mixed = dict(audio)
    for key in list(audio)[::3]:
        mixed[key] = tmp_path / f"{key}.wav"
        soundfile.write(mixed[key], soundfile.read(audio[key], dtype="float32")[0], 16_000, subtype="FLOAT")
    assert ears.transcribe(mixed) == normal


def test_a_batch_of_integers_stays_one_until_it_is_on_the_device() -> None:
    whole = [np.array([-32768, 32767, 1], np.int16), np.array([16384], np.int16)]
    real = [row.astype(np.float32) / 32768 for row in whole]
    assert padded(whole)[0].numpy().dtype == np.int16 and padded([whole[0], real[1]])[0].numpy().dtype == np.float32
    wanted = [[*real[0]], [*real[1], 0.0, 0.0]]
    for samples in (whole, real, [whole[0], real[1]], [real[0], whole[1]]):
        signal, lengths = padded(samples)
        there = on_device(signal, "cpu").numpy()
        assert there.dtype == np.float32 and there.tolist() == wanted and on_device(lengths, "cpu").tolist() == [3, 1]


def test_a_thread_lays_out_one_batch_after_the_other_in_the_same_place() -> None:
    room, other = Room(), Room()
    long, short = [np.full(9, 7, np.int16), np.full(4, 5, np.int16)], [np.full(3, 1, np.int16)]
    first, _ = padded(long, room)
    assert first.tolist() == [[7] * 9, [5] * 4 + [0] * 5]
    second, _ = padded([*short, np.full(1, 2, np.int16)], room)
    assert second.tolist() == [[1, 1, 1], [2, 0, 0]] and second.data_ptr() == first.data_ptr()
    assert padded([np.full(3, 0.5, np.float32)], room)[0].tolist() == [[0.5] * 3]
    assert padded(short, other)[0].data_ptr() != first.data_ptr()
    with ThreadPoolExecutor(1) as elsewhere:
        assert elsewhere.submit(lambda: padded(short, room)[0].data_ptr()).result() != first.data_ptr()


class OnGpu:
    """A model as if it stood on a GPU: the search of the real one, and parameters that say so."""

    def __init__(self, model: Any) -> None:
        self.maybe_enable_cuda_graphs = model.maybe_enable_cuda_graphs

    def parameters(self) -> Any:
        parameter = type("Parameter", (), {"device": type("Device", (), {"type": "cuda"})})
        return iter([parameter])


@pytest.mark.parametrize("kind", ["tiny_nemo", "tiny_rnnt"])
def test_a_model_that_was_trained_gets_its_graphs_back_and_none_of_before(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model = NemoTranscriber(request.getfixturevalue(kind)).model
    search = model.decoding.decoding.decoding_computer
    model.on_train_epoch_start()
    assert search.cuda_graphs_mode is None
    renew_search(model)
    assert search.cuda_graphs_mode is None  # on a CPU there are none
    renew_search(OnGpu(model))
    assert search.cuda_graphs_mode is not None
    search.state = "made of the weights as they were"
    renew_search(OnGpu(model))
    assert search.cuda_graphs_mode is not None and search.state is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_every_pass_hears_the_same_whoever_else_uses_the_memory(
    tiny_nemo: Path, audio: dict[str, Path]
) -> None:
    """Graphs with loops inside go on writing where their temporary tensors once were."""
    ears = NemoTranscriber(tiny_nemo, TranscriptionConfig(batch_size=2, precision="fp32"))
    ears.model.disable_cuda_graphs()
    plain = ears.transcribe(audio)
    renew_search(ears.model)
    assert ears.model.decoding.decoding.decoding_computer.cuda_graphs_mode == "no_while_loops"
    for _ in range(12):
        assert ears.transcribe(audio) == plain
        torch.cuda.empty_cache()
        torch.full((2**26,), float("nan"), device="cuda")


def test_a_base_that_wants_no_graphs_gets_none(tiny_nemo: Path) -> None:
    from omegaconf import OmegaConf

    model = NemoTranscriber(tiny_nemo).model
    wanted: dict[str, Any] = OmegaConf.to_container(model.cfg.decoding)
    wanted["greedy"]["use_cuda_graph_decoder"] = False
    model.change_decoding_strategy(OmegaConf.create(wanted), verbose=False)
    renew_search(OnGpu(model))
    assert model.decoding.decoding.decoding_computer.cuda_graphs_mode is None


def test_a_search_that_fails_leaves_nothing_half_made(
    transcriber: NemoTranscriber, audio: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcriber, "halves", Halves(transcriber.model, transcriber._precisely))
    normal, renewed = transcriber.transcribe(audio), []
    stock = transcriber.model.decoding.rnnt_decoder_predictions_tensor

    def runs_out(encoded: Any, frames: Any, **options: Any) -> Any:
        if len(encoded) > 2:
            raise RuntimeError("out of memory")
        return stock(encoded, frames, **options)

    monkeypatch.setattr(transcriber.model.decoding, "rnnt_decoder_predictions_tensor", runs_out)
    monkeypatch.setattr(nemo_asr_halves, "renew_search", renewed.append)
    assert transcriber.transcribe(audio) == normal
    assert renewed and set(map(id, renewed)) == {id(transcriber.model)}


def test_a_single_batch_stays_in_the_thread_that_asks(
    transcriber: NemoTranscriber, audio: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each of many batches would start threads of its own, with room and lanes of their own."""
    seen: set[int] = set()
    stock = transcriber._forward
    monkeypatch.setattr(transcriber, "halves", Halves(transcriber.model, transcriber._precisely))
    monkeypatch.setattr(transcriber, "_forward", lambda s: (seen.add(threading.get_ident()), stock(s))[1])
    one = dict(list(audio.items())[: transcriber.batch_size])
    normal = transcriber.transcribe(one)
    assert seen == {threading.get_ident()}
    seen.clear()
    assert len(audio) > len(one) and normal.items() <= transcriber.transcribe(audio).items()
    assert threading.get_ident() not in seen


def test_only_plain_transducers_are_taken_apart(tiny_nemo: Path, tiny_ctc: Path) -> None:
    assert in_halves(NemoTranscriber(tiny_nemo).model) and not in_halves(NemoTranscriber(tiny_ctc).model)


def test_one_bad_row_fails_alone_side_by_side(
    transcriber: NemoTranscriber, audio: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    normal = transcriber.transcribe(audio)
    monkeypatch.setattr(transcriber, "halves", Halves(transcriber.model, transcriber._precisely))
    victim = soundfile.read(audio["row003"], dtype="float32")[0]
    stock = transcriber.model.forward

    def chokes(input_signal: Any, input_signal_length: Any) -> Any:
        if any(np.array_equal(row[: len(victim)], victim) for row in input_signal.numpy()):
            raise RuntimeError("kernel\nfailed")
        return stock(input_signal=input_signal, input_signal_length=input_signal_length)

    monkeypatch.setattr(transcriber.model, "forward", chokes)
    heard = transcriber.transcribe(audio | spoil(tmp_path, audio["row000"]))
    assert isinstance(heard["row003"], ModelError) and "kernel failed" in str(heard["row003"])
    assert {key: heard[key] for key in audio if key != "row003"} == {k: v for k, v in normal.items() if k != "row003"}
