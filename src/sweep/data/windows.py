"""The token batches of an anneal's updates, read from local files, or fetched over HTTP once for all runs.

Fetched batches are kept in the store in chunks of updates. So a longer run adds to the chunks of a shorter one, several
processes share the work, and a killed process loses at most the chunk that it was fetching.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sweep.data.examine import unknown_id
from sweep.data.memmap import Instances
from sweep.data.order import DataOrder
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.domain.records import Position
from sweep.system.progress import Progress
from sweep.system.store import Store

KIND = "windows"
FORMAT = 1
"""To be raised when the same window would be written in another way."""
CHUNK = 25
"""Updates in a chunk. It divides the usual lengths, and is 220 MB for OLMo-7B's 2160 instances of 2048 uint16."""
TOKENS = "tokens.npy"
ALL = slice(None)


class Window:
    """The batches that `order` takes from `instances`, read from their files."""

    def __init__(self, instances: Instances, order: DataOrder, *, vocab_size: int) -> None:
        self.instances, self.order, self.vocab_size = instances, order, vocab_size
        self._drawn = np.empty((0, order.batch_size), dtype=np.uint32)

    def batches(self, first: int, last: int, *, rows: slice = ALL) -> Iterator[np.ndarray]:
        """Token ids int64 (B, T) of the updates `first` (counted from 0) to `last` - 1, of each the given `rows`.

        Batches are read ahead. Raises Refusal for a token id that the model does not have.
        """
        self._prepare(first, last)
        return read_ahead(self._checked(first, last, rows))

    def _checked(self, first: int, last: int, rows: slice) -> Iterator[np.ndarray]:
        for update in range(first, last):
            batch = self._batch(update, rows)
            if batch.max() >= self.vocab_size:
                raise Refusal(
                    f"data: update {update + 1} holds token id {batch.max()}, and the model has {self.vocab_size}: "
                    f"the data were made by another tokenizer, or data.dtype is not {self.instances.dtype}"
                )
            yield batch

    def after(self, num_updates: int, *, lr: float) -> Position:
        """The position of a checkpoint saved after so many updates."""
        return self.order.after(num_updates, lr=lr)

    def indices(self, last: int) -> np.ndarray:
        """Instance indices (at least `last`, B), computed once for the longest window asked for."""
        if len(self._drawn) < last:
            self._drawn = self.order.rows(last)
        return self._drawn

    def _prepare(self, first: int, last: int) -> None:
        self.indices(last)

    def _batch(self, update: int, rows: slice) -> np.ndarray:
        return self.instances.read(self._drawn[update][rows])


def read_ahead(items: Iterator[np.ndarray], *, depth: int = 2) -> Iterator[np.ndarray]:
    """The items, of which a thread makes up to `depth` ahead; an error in making one is raised in its turn."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        ahead = deque(pool.submit(next, items, None) for _ in range(depth))
        while (item := ahead.popleft().result()) is not None:
            ahead.append(pool.submit(next, items, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


class FetchedWindow(Window):
    """A window whose batches are fetched into the store before they are read."""

    def __init__(self, instances: Instances, order: DataOrder, *, vocab_size: int, store: Store, key: str) -> None:
        """`key` is a digest of instances and order."""
        super().__init__(instances, order, vocab_size=vocab_size)
        self.store, self.key = store, key
        self._shape = (CHUNK, self.order.batch_size, self.instances.sequence_length)
        self._open_chunk: tuple[int, np.ndarray] | None = None

    def _prepare(self, first: int, last: int) -> None:
        chunks = range(first // CHUNK, -(-last // CHUNK))
        absent = [chunk for chunk in chunks if not self.store.has(KIND, self._chunk_key(chunk))]
        if absent:
            size = int(np.prod(self._shape)) * self.instances.dtype.itemsize
            with Progress("fetching data", total=len(absent) * size) as bar:
                self.store.make_all(
                    KIND, {self._chunk_key(c): self._builder(c, chunks.stop, bar.advance) for c in absent}
                )

    def _batch(self, update: int, rows: slice) -> np.ndarray:
        chunk, row = divmod(update, CHUNK)
        if self._open_chunk is None or self._open_chunk[0] != chunk:
            # made again here where the store finds it damaged
            folder = self.store.make(KIND, self._chunk_key(chunk), self._builder(chunk, chunk + 1, lambda size: None))
            self._open_chunk = (
                chunk,
                np.memmap(folder / TOKENS, dtype=self.instances.dtype, mode="r", shape=self._shape),
            )
        return self._open_chunk[1][row, rows].astype(np.int64)

    def _chunk_key(self, chunk: int) -> str:
        return digest("window", FORMAT, self.key, self._shape, str(self.instances.dtype), chunk)

    def _builder(self, chunk: int, chunks: int, progress: Callable[[int], None]) -> Callable[[Path], None]:
        """A function that fetches one chunk; indices are computed for all `chunks` at once."""

        def build(folder: Path) -> None:
            rows = self.indices(chunks * CHUNK)[chunk * CHUNK : (chunk + 1) * CHUNK].reshape(-1)
            shape = (len(rows), self.instances.sequence_length)
            tokens = np.memmap(folder / TOKENS, dtype=self.instances.dtype, mode="w+", shape=shape)
            self.instances.read_into(tokens, rows, progress=progress)
            if fault := unknown_id(self.instances, rows, tokens, vocab_size=self.vocab_size):
                raise Refusal(f"data: {fault.words}")
            tokens.flush()

        return build
