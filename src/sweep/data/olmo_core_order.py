"""Which instances come next in OLMo-core's loader of fixed lengths: its seed, epoch, chunks and dropped remainders."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

UNSIGNED = ("uint8", "uint16", "uint32", "uint64")


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every token of a tokenizer; its own size counts, not the padded one."""
    return next(np.dtype(name) for name in UNSIGNED if vocab_size - 1 <= np.iinfo(name).max)


def instances_of_files(num_bytes: Sequence[int], dtype: np.dtype, length: int, max_length: int) -> list[int]:
    """Instances of `length` tokens in each file: cut out of blocks of `max_length`; a remainder is dropped."""
    return [size // (dtype.itemsize * max_length) * (max_length // length) for size in num_bytes]


@dataclass(frozen=True, kw_only=True)
class OlmoCoreOrder:
    """The loader's order; raises ValueError if a batch has no whole instances or the data have no whole batch."""

    num_instances: int
    batch_tokens: int
    sequence_length: int
    max_sequence_length: int
    """Tokens of a block whose instances stay neighbours; `sequence_length` where the run names none."""
    seed: int

    def __post_init__(self) -> None:
        for key, whole in (
            ("global_batch_size", self.batch_tokens),
            ("max_target_sequence_length", self.max_sequence_length),
        ):
            if self.sequence_length < 1 or whole < 1 or whole % self.sequence_length:
                raise ValueError(f"{key}={whole}: must be a multiple of sequence_length={self.sequence_length}")
        if not self.batches_per_epoch:
            raise ValueError(f"the data have {self.num_instances} instances; a batch is {self.batch_size}")

    @property
    def batch_size(self) -> int:
        """Instances of a batch."""
        return self.batch_tokens // self.sequence_length

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches; what remains of an epoch is dropped."""
        return self.num_instances // self.batch_size

    def epoch(self, number: int) -> np.ndarray:
        """Instance indices uint32 (batches_per_epoch, batch_size) of an epoch, the first of which is 1."""
        chunk = self.max_sequence_length // self.sequence_length
        order = np.arange(self.num_instances // chunk, dtype=np.uint32)
        np.random.Generator(np.random.PCG64(self.seed + number)).shuffle(order)
        if chunk > 1:
            order = (order[:, None] * np.uint32(chunk) + np.arange(chunk, dtype=np.uint32)).reshape(-1)
        return order[: len(order) // self.batch_size * self.batch_size].reshape(-1, self.batch_size)

    def batches(self, *, epoch: int, tokens_processed: int) -> Iterator[tuple[int, np.ndarray]]:
        """Epoch and instances of each batch, without end, from a checkpoint's place: tokens read in its epoch."""
        done = tokens_processed // self.batch_tokens
        for number in itertools.count(epoch):
            for batch in self.epoch(number)[done:]:
                yield number, batch
            done = 0
