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

from sweep.domain.errors import Refusal

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""A rank that keeps the others waiting in a collective for longer is taken for dead."""
GOODBYE_S = 60.0
"""Ranks wait at most so long for each other at the end: for the first to write down a failure, and for its store."""
FAILED_S = 10.0
"""The first one waits no longer where one failed, as that one may be dead."""
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

    def total(self, value: Tensor) -> None:
        """Turn a tensor into its sum over the ranks."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(value)

    def any(self, flag: bool) -> bool:
        """Whether one of the ranks says so; all ask at the same place."""
        if self.size > 1:
            import torch

            votes = torch.tensor(float(flag))
            self.total(votes)
            return bool(votes)
        return flag

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

    def blamed(self, error: BaseException) -> BaseException:
        """What this rank ends with: its own error, which the others learn of, or another's where that was first."""
        if self.size == 1:
            return error
        mine = f"{type(error).__name__}: {error}"
        try:
            first = self.store.compare_set("failure", "", f"rank {self.rank} of {self.size} failed: {mine}").decode()
        except RuntimeError:  # the store is gone with the first rank
            return error
        return error if first.endswith(f" failed: {mine}") else RankFailed(first)

    def _failure(self) -> str:
        return self.store.get("failure").decode() if self.store.check(["failure"]) else ""


ALONE = Ranks()


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks of this run within the block; a failure of one ends all, RankFailed with the first one's message."""
    if world_size() == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    store = dist.PrefixStore(f"sweep{next(_joins)}", _rendezvous())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank(), world_size=world_size(), timeout=TIMEOUT)
    ranks = Ranks(rank(), world_size(), store)
    failed = False
    try:
        yield ranks
    except BaseException as error:
        failed = True
        if (blamed := ranks.blamed(error)) is error:
            raise
        raise blamed from error
    finally:
        dist.destroy_process_group()  # peers in a collective see that this one is gone
        with contextlib.suppress(RuntimeError):  # the store is gone where the first rank is
            _leave(ranks, failed=failed)


@functools.cache
def _rendezvous() -> Any:
    """The store at MASTER_ADDR:MASTER_PORT; one for the life of the process."""
    import torch.distributed as dist

    return next(iter(dist.rendezvous("env://", timeout=TIMEOUT)))[0]


def _leave(ranks: Ranks, *, failed: bool) -> None:
    """The first rank leaves last, as the others read its store; but it is the first to end where a rank failed.

    Launchers kill the rest when one has ended with an error, and the first has the failure to write down.
    """
    deadline = time.monotonic() + (FAILED_S if failed and ranks.leads else GOODBYE_S)
    ranks.store.add("here/first" if ranks.leads else "here/rest", 1)
    others = ranks.size - 1
    while time.monotonic() < deadline:
        if ranks.leads and ranks.store.add("here/rest", 0) >= others:
            return
        if not ranks.leads and (not failed or ranks.store.add("here/first", 0)):
            return
        time.sleep(POLL_S)
