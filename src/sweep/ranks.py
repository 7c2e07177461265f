"""One run over several processes, as torchrun and Submitit start them (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR).

The first rank alone writes and waits for what others hold; the rest are told what it found. One that fails says why.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sweep.refusal import Refusal

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""A rank that keeps the others waiting in a collective for longer is taken for dead."""
GOODBYE_S = 20.0
"""The first rank stays at most so long for the others to leave: the store they read is its own."""
POLL_S = 0.1

_joins = itertools.count()


class RankFailed(RuntimeError):
    """Another rank of this run failed; the message is its own."""


def rank() -> int:
    """This process's number in its run, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """This process's number on its host: the GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@dataclass(frozen=True)
class Ranks:
    """The processes that work on one run together."""

    rank: int = 0
    size: int = 1
    store: Any = None
    """torch's key-value store that they share; None where there is one alone."""

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """The rows of a batch that are this rank's; Refusal where the batch can't be shared evenly."""
        if batch_size % self.size:
            raise Refusal(
                f"a batch of {batch_size} instances can't be shared by {self.size} ranks: "
                "the batch size must be a multiple of their number"
            )
        each = batch_size // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the ranks."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(value)
            value /= self.size
        return value

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on the first rank, on every rank; the others wait as long as the first one lives."""
        if self.size == 1:
            return make()
        key = f"first/{self.store.add(f'count/{self.rank}', 1)}"
        if self.leads:
            value = make()
            self.store.set(key, pickle.dumps(value))
            return value
        while not self.store.check([key]):
            if failure := self._failure():
                raise RankFailed(failure)
            time.sleep(POLL_S)
        return pickle.loads(self.store.get(key))

    def _failure(self) -> str:
        return self.store.get("failure").decode() if self.store.check(["failure"]) else ""


ALONE = Ranks()


@contextlib.contextmanager
def joined(device_type: str) -> Iterator[Ranks]:
    """The ranks of this run within the block; a failure of one ends all, RankFailed with the first one's message."""
    if world_size() == 1:
        yield ALONE
        return
    import torch.distributed as dist

    store = dist.PrefixStore(f"sweep{next(_joins)}", _rendezvous())
    backend = "nccl" if device_type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank(), world_size=world_size(), timeout=TIMEOUT)
    ranks = Ranks(rank(), world_size(), store)
    try:
        yield ranks
    except BaseException as error:
        raise _blamed(ranks, error) from error.__cause__
    finally:
        dist.destroy_process_group()  # peers in a collective see that this one is gone
        with contextlib.suppress(RuntimeError):  # the store is gone where the first rank is
            store.add("gone", 1)
            _see_off(ranks)


@functools.cache
def _rendezvous() -> Any:
    """The store at MASTER_ADDR:MASTER_PORT; one for the life of the process."""
    import torch.distributed as dist

    return next(iter(dist.rendezvous("env://", timeout=TIMEOUT)))[0]


def _blamed(ranks: Ranks, error: BaseException) -> BaseException:
    """What this rank ends with: the first failure of any rank where that was another one's, else its own."""
    mine = f"{type(error).__name__}: {error}"
    try:
        first = ranks.store.compare_set("failure", "", f"rank {ranks.rank} of {ranks.size} failed: {mine}").decode()
    except RuntimeError:
        return error
    return error if first.endswith(f" failed: {mine}") else RankFailed(first)


def _see_off(ranks: Ranks) -> None:
    """Keep the first rank's store alive until the others have left, or have had the time to."""
    deadline = time.monotonic() + GOODBYE_S
    while ranks.leads and ranks.store.add("gone", 0) < ranks.size and time.monotonic() < deadline:
        time.sleep(POLL_S)
