"""One run over several processes, as torchrun and Submitit start them (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR).

Only the first rank writes files and waits for leases; it sends its answers to the others. A rank that fails says why.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
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
"""A rank that keeps the others waiting longer than this in a collective operation is taken for dead."""
GOODBYE_S = 60.0
"""Ranks wait for each other at most this long at the end: the first writes down a failure, and it has the store."""
FAILED_S = 10.0
"""The first rank waits at most this long if a rank failed, as that rank may be dead."""
POLL_S = 0.1


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
    """The key-value store of torch that the ranks share; None if there is one rank."""

    @property
    def leads(self) -> bool:
        """Whether this is the first rank, which writes the files."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """The rows of a batch that this rank works on; Refusal if the batch can't be shared evenly."""
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
        """Whether `flag` is true on any rank; every rank must call this at the same place."""
        if self.size > 1:
            import torch

            votes = torch.tensor(float(flag))
            self.total(votes)
            return bool(votes)
        return flag

    def from_first(self, make: Callable[[], T]) -> T:
        """The value of `make()` on the first rank, given to every rank; RankFailed if a rank fails meanwhile.

        With several ranks it travels as JSON, because whoever reaches the store's port may write there: the value is
        one of None, bool, int, float, str, or a list of them.
        """
        if self.size == 1:
            return make()
        key = f"first/{self.store.add(f'count/{self.rank}', 1)}"
        if self.leads:
            value = make()
            self.store.set(key, json.dumps(value))
            return value
        while not self.store.check([key]):
            if failure := self._failure():
                raise RankFailed(failure)
            time.sleep(POLL_S)
        received: T = json.loads(self.store.get(key))
        return received

    def blamed(self, error: BaseException) -> BaseException:
        """The error to raise on this rank: the first failure of any rank; the other ranks learn of it."""
        if self.size == 1:
            return error
        message = f"{type(error).__name__}: {error}"
        try:
            first = self.store.compare_set("failure", "", f"rank {self.rank} of {self.size} failed: {message}").decode()
        except RuntimeError:  # the store is gone with the first rank
            return error
        return error if first.endswith(f" failed: {message}") else RankFailed(first)

    def _failure(self) -> str:
        return self.store.get("failure").decode() if self.store.check(["failure"]) else ""


ALONE = Ranks()


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks of this run within the block. If one rank fails, all raise: the others RankFailed with its message."""
    if world_size() == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    shared = _rendezvous()
    store = dist.PrefixStore(f"sweep{shared.add(f'joins/{rank()}', 1)}", shared)
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


@contextlib.contextmanager
def in_step() -> Iterator[Ranks]:
    """The ranks of this process's job, between its runs: they can do no more than take what the first one decides."""
    if world_size() == 1:
        yield ALONE
        return
    import torch.distributed as dist

    shared = _rendezvous()
    yield Ranks(rank(), world_size(), dist.PrefixStore(f"steps{shared.add(f'steps/{rank()}', 1)}", shared))


@functools.cache
def _rendezvous() -> Any:
    """The key-value store at MASTER_ADDR:MASTER_PORT, opened once in the life of the process."""
    import torch.distributed as dist

    return next(iter(dist.rendezvous("env://", timeout=TIMEOUT)))[0]


def _leave(ranks: Ranks, *, failed: bool) -> None:
    """Wait for the other ranks at the end.

    Normally the first rank leaves last, because the others read its store. If a rank failed, the others wait for the
    first: launchers kill all ranks when one ends with an error, and the first rank has to write the failure down.
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
