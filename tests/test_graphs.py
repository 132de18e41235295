"""Recorded steps: padding that a graph needs changes nothing; on a GPU recorded and plain steps follow one curve."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clinical_asr.config import load_recipe
from clinical_asr.training import TrainingJob

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")

from clinical_asr.engines.nemo_sft import graphs, mels  # noqa: E402
from clinical_asr.engines.nemo_sft.recorder import padded  # noqa: E402
from clinical_asr.engines.nemo_sft.rehearsal import Gpu  # noqa: E402
from clinical_asr.nemo_file import restore  # noqa: E402
from trained import curve, examples  # noqa: E402

pytestmark = pytest.mark.nemo
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
STOCK = msgspec.structs.replace(load_recipe("smoke"), epochs=2, distortion=False, precision="32-true")


@pytest.fixture
def encoder(tiny_nemo: Path) -> Any:
    """In training, with BatchNorm alive and nothing that draws."""
    encoder = restore(tiny_nemo).encoder.train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    return encoder


@pytest.mark.parametrize("frames", [57, 64, 130, 250])
def test_padded_to_a_graphs_length_the_encoder_says_and_learns_the_same(encoder: Any, frames: int) -> None:
    features, lengths = torch.randn(3, encoder._feat_in, frames), torch.tensor([frames, frames - 9, frames // 2])
    for row, end in enumerate(lengths):
        features[row, :, end:] = 0.0
    wide = torch.nn.functional.pad(features, (0, padded(frames) - frames))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    plain, ends = encoder(audio_signal=features, length=lengths)
    learnt = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.load_state_dict(before)
    with graphs.counted(encoder, torch.tensor(graphs.subsampled(encoder.pre_encode, frames))):
        longer, same = encoder(audio_signal=wide, length=lengths)
    assert torch.equal(ends, same)
    for row, end in enumerate(ends):
        assert torch.allclose(plain[row, :, :end], longer[row, :, :end], atol=2e-5)
    moved = [name for name in learnt if "running_" in name]
    assert moved and all(torch.allclose(learnt[name], encoder.state_dict()[name], atol=1e-5) for name in moved)


def test_without_leaving_out_what_is_padded_batch_norm_sees_it(encoder: Any) -> None:
    features, lengths = torch.randn(2, encoder._feat_in, 70), torch.tensor([70, 70])
    plain, _ = encoder(audio_signal=features, length=lengths)
    padded, _ = encoder(audio_signal=torch.nn.functional.pad(features, (0, 58)), length=lengths)
    assert not torch.allclose(plain, padded[:, :, : plain.shape[2]], atol=1e-2)


def test_frames_after_the_convolutions_are_counted_as_they_come(encoder: Any) -> None:
    for frames in (1, 7, 8, 9, 63, 64, 65, 400, 401):
        left, _ = encoder.pre_encode(torch.zeros(1, frames, encoder._feat_in), torch.tensor([frames]))
        assert graphs.subsampled(encoder.pre_encode, frames) == left.shape[1]


def test_an_encoder_that_takes_other_ways_is_not_recorded(encoder: Any) -> None:
    assert graphs.obstacle(encoder) == ""
    encoder.layer_drop_probs = [0.0, 0.1]
    assert "another way" in graphs.obstacle(encoder)
    assert "no plain Conformer" in graphs.obstacle(torch.nn.Identity())


def test_the_longest_shape_is_recorded_first_and_each_once(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that all others fit into the memory that it has taken."""
    monkeypatch.setattr(graphs.Graphs, "_record", lambda _self, _signal, _length, frames: f"{frames} frames")
    stand_in = graphs.Graphs(encoder, 4, padded(900), [], {})
    for frames in (256, 1024, 640, 1152):
        if frames not in stand_in.recorded:
            stand_in.record(None, None, frames)
    assert list(stand_in.recorded) == [1024, 256, 640, 1152]
    assert stand_in.recorded[640] == "640 frames"


@pytest.mark.parametrize("samples", [16_000, 16_001, 20_479, 20_480, 31_999])
def test_features_of_a_batch_that_is_padded_to_a_graphs_length_are_the_same(tiny_nemo: Path, samples: int) -> None:
    preprocessor = restore(tiny_nemo).preprocessor.train()
    preprocessor.featurizer.dither = 0.0
    assert mels.fixed(preprocessor)
    signal, length = torch.randn(3, samples), torch.tensor([samples, samples - 700, samples // 2])
    for row, end in enumerate(length):
        signal[row, end:] = 0.0
    plain, ends = preprocessor(input_signal=signal, length=length)
    frames = mels.frames(preprocessor, samples)
    wide = torch.nn.functional.pad(signal, (0, padded(frames) * 160 - 1 - samples))
    longer, same = preprocessor(input_signal=wide, length=length)
    assert plain.shape[2] == frames and longer.shape[2] == padded(frames) and torch.equal(ends, same)
    assert torch.allclose(plain, longer[:, :, :frames], atol=2e-5)


def test_a_preprocessor_that_draws_or_waits_is_not_recorded(tiny_nemo: Path) -> None:
    preprocessor = restore(tiny_nemo).preprocessor
    preprocessor.featurizer.normalize = "all_features"
    assert not mels.fixed(preprocessor) and not mels.fixed(torch.nn.Identity())


@pytest.fixture
def job(tiny_nemo: Path, tiny_manifest: Path, tmp_path: Path) -> TrainingJob:
    return TrainingJob(tiny_nemo, examples(tiny_manifest), STOCK, tmp_path / "tuned.nemo")


def changed(job: TrainingJob, **changes: Any) -> TrainingJob:
    return dataclasses.replace(job, config=msgspec.structs.replace(job.config, **changes))


@on_gpu
@pytest.mark.parametrize(
    ("changes", "apart"),
    [
        ({}, 0.02),
        ({"freeze_batch_norm": True}, 0.01),
        ({"batch_size": 2, "accumulate_grad_batches": 2}, 0.02),
        ({"precision": "bf16-mixed"}, 0.05),
    ],
)
def test_recorded_steps_follow_the_plain_curve(job: TrainingJob, changes: dict[str, Any], apart: float) -> None:
    plain, _ = curve(changed(job, **changes), graphs=False)
    recorded, report = curve(changed(job, **changes), graphs=True)
    assert not report.notes, "every step that could be recorded was"
    assert max(abs(a - b) / abs(a) for a, b in zip(plain, recorded, strict=True)) < apart


@on_gpu
def test_what_cannot_be_recorded_is_trained_plainly(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(encoder: Any, _inside: Any) -> Any:
        torch.ones((), device="cuda").item()  # a recording must not wait for the GPU
        raise AssertionError("a recording was expected to break off before this")

    monkeypatch.setattr(graphs, "counted", spoil)
    losses, report = curve(changed(job, distortion=True), graphs=True)
    assert len(losses) == curve_length(job) and any("steps are not recorded" in note for note in report.notes)


@on_gpu
def test_a_gpu_too_full_for_a_recording_gets_half_the_batch(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs take memory that PyTorch's allocator does not know, so what they say of it is no error of its."""
    counted, said = graphs.counted, ["CUDA error: out of memory"]

    def full(encoder: Any, inside: Any) -> Any:
        if said:
            raise RuntimeError(said.pop())
        return counted(encoder, inside)

    monkeypatch.setattr(graphs, "counted", full)
    _, report = curve(job, graphs=True)
    assert report.batch_size == job.config.batch_size // 2
    assert not any("not recorded" in note for note in report.notes)


@on_gpu
def test_what_graphs_keep_is_memory_that_a_step_needs() -> None:
    """It counts as allocated only while a graph is recorded."""
    card, size = Gpu(), 2**28
    before = torch.cuda.memory_allocated()
    given = torch.zeros(size, dtype=torch.uint8, device="cuda")
    card.reset()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = (given + 1) * 2
    card.look()
    more = torch.zeros(2 * size, dtype=torch.uint8, device="cuda")
    card.look()
    assert card.peak() - before == pytest.approx(given.nbytes + 2 * kept.nbytes + more.nbytes, rel=0.1)


def curve_length(job: TrainingJob) -> int:
    return job.config.epochs * -(-len(job.examples) // job.config.batch_size)
