"""Examples as NeMo's ``training_step`` wants them, in a seeded order that wastes little padding."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clinical_asr.engines.nemo_sft.sharing import Share
from clinical_asr.errors import AudioError, TrainingError
from clinical_asr.records import SAMPLE_RATE
from clinical_asr.speech import read_speech
from clinical_asr.training import Example

AHEAD = 2  # batches that are read before they are asked for
POOL = 12  # batches that are sorted by length together: enough to save padding, few enough to keep the order random


def tokenize(model: Any, examples: Sequence[Example]) -> list[list[int]]:
    """Token ids of every text, with the base's own tokenizer. Raises TrainingError naming a symbol it lacks."""
    encode, unknown = _encoder_of(model)
    targets = []
    for example in examples:
        ids = encode(example.text)
        if not ids or unknown in ids:
            raise _untrainable(example, encode, unknown)
        targets.append(ids)
    return targets


def _encoder_of(model: Any) -> tuple[Any, int]:
    """(text -> ids, id of the unknown token). Character models have no tokenizer but a list of labels."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        return tokenizer.text_to_ids, int(getattr(tokenizer, "unk_id", 0) or 0)
    labels = {label: index for index, label in enumerate(model.cfg.labels or model.decoder.vocabulary)}
    return lambda text: [labels.get(symbol, -1) for symbol in text], -1


def _untrainable(example: Example, encode: Any, unknown: int) -> TrainingError:
    strange = sorted({symbol for symbol in example.text if unknown in encode(symbol)})
    what = f"the base's tokenizer lacks {' '.join(map(repr, strange))}" if strange else "the text is empty"
    mend = "write it in the base's own style, or leave the row out"
    return TrainingError(f"{what} in {example.text[:60]!r}", where=f"row {example.id}", mend=mend)


class Batches:
    """Padded batches of one epoch: (signal, samples, tokens, token counts), torch tensors.

    Every epoch holds all clinical examples and ``replay`` of the replayed ones, the next in turn (0: all of them). The
    order depends on ``seed`` and ``epoch`` only, so a resumed run sees what an uninterrupted one would have seen, and
    so do several processes together: each is given its ``share`` of every batch.
    """

    def __init__(
        self, examples: Sequence[Example], targets: list[list[int]], size: int, seed: int, replay: int = 0,
        share: Share | None = None,
    ) -> None:  # fmt: skip
        self.examples, self.targets, self.size, self.seed = examples, targets, size, seed
        self.clinical = [index for index, example in enumerate(examples) if not example.replayed]
        self.pool = [index for index, example in enumerate(examples) if example.replayed]
        self.replay = min(replay or len(self.pool), len(self.pool))
        self.share = share or Share()
        self.epoch = 1

    @property
    def rows(self) -> int:
        """Examples of one epoch."""
        return len(self.clinical) + self.replay

    def __len__(self) -> int:
        return -(-self.rows // self.size)

    def turn(self, epoch: int) -> list[int]:
        """Indices of an epoch's examples: all clinical ones, and the replayed ones whose turn it is.

        >>> rows = [Example(str(n), None, "a", 1.0, replayed=n > 1) for n in range(5)]
        >>> [Batches(rows, [[1]] * 5, 2, seed=1, replay=2).turn(epoch) for epoch in (1, 2)]
        [[0, 1, 2, 3], [0, 1, 4, 2]]
        """
        start = (epoch - 1) * self.replay
        return self.clinical + [self.pool[(start + n) % len(self.pool)] for n in range(self.replay)]

    def plan(self, epoch: int) -> list[list[int]]:
        """Indices of the examples of each batch: a partition of the epoch's.

        >>> rows = [Example(str(n), None, "a", float(n)) for n in range(5)]
        >>> plan = Batches(rows, [[1]] * 5, size=2, seed=1).plan(1)
        >>> sorted(index for batch in plan for index in batch), len(plan)
        ([0, 1, 2, 3, 4], 3)
        """
        draw = random.Random(f"{self.seed}/{epoch}")
        order = self.turn(epoch)
        draw.shuffle(order)
        batches = []
        for start in range(0, len(order), self.size * POOL):
            pool = sorted(order[start : start + self.size * POOL], key=lambda i: self.examples[i].duration)
            batches += [pool[at : at + self.size] for at in range(0, len(pool), self.size)]
        draw.shuffle(batches)
        return batches

    def __iter__(self) -> Iterator[Any]:
        """The next batch is read while the last one is trained on."""
        with ThreadPoolExecutor(1, initializer=self._on_its_device) as reader:
            ahead: deque[Any] = deque()
            for batch in self.plan(self.epoch):
                ahead.append(reader.submit(self.collated, batch))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _on_its_device(self) -> None:
        """A thread begins on the first GPU, where it would pin its memory."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(self.share.world.local_rank)

    def collated(self, batch: list[int]) -> Any:
        """Samples, their number, tokens, their number; page-locked where there is a GPU.

        A GPU would finish all it has been given before it copied from other memory.
        """
        import torch

        tensors = self._collate(batch)
        return tuple(tensor.pin_memory() for tensor in tensors) if torch.cuda.is_available() else tensors

    def _collate(self, batch: list[int]) -> Any:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        rows = self.share.fed(batch)
        signals, samples = self.signals(rows)
        tokens = [torch.tensor(self.targets[index], dtype=torch.long) for index in rows]
        counts = torch.tensor([len(t) for t in tokens])
        return self._as_long_as_all(signals, batch), samples, pad_sequence(tokens, batch_first=True), counts

    def signals(self, rows: Sequence[int]) -> tuple[Any, Any]:
        """Samples (rows, longest), padded with silence, and how many of them each row has."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        signals = [torch.from_numpy(self._speech(index)) for index in rows]
        return pad_sequence(signals, batch_first=True), torch.tensor([len(s) for s in signals])

    def _as_long_as_all(self, signals: Any, batch: list[int]) -> Any:
        """Padded like the whole batch, since BatchNorm sees padding too; nobody waits longer for it."""
        from torch.nn.functional import pad

        longest = max(round(self.examples[index].duration * SAMPLE_RATE) for index in batch)
        alone = self.share.world.size == 1
        return signals if alone else pad(signals, (0, max(0, longest - signals.shape[1])))

    def _speech(self, index: int) -> Any:
        example = self.examples[index]
        try:
            return read_speech(example.audio)
        except AudioError as error:
            mend = "run: clinical-asr manifest check"
            raise TrainingError(f"its audio cannot be used ({error})", f"row {example.id}", mend) from None
