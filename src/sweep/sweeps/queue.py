"""A sweep is a queue: each worker, wherever it is, takes the next run that nobody holds, until none is left.

What is left follows from the runs' own folders: their leases say who is at work, their journals what has ended. So
workers of several commands, jobs and hosts help each other without knowing of each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.config import RunConfig
from sweep.planning.work_keys import WorkKeys
from sweep.sweeps.run_folders import is_finished
from sweep.system.lease import Lease, is_alive, run_lease
from sweep.tracking.journal import last_attempt

LOOK_AHEAD = 200
"""Runs from the front of the queue among which a worker looks for one that needs nothing that others are making."""


@dataclass(frozen=True, kw_only=True)
class QueuedRun:
    """One run, as a worker gets it."""

    point: int
    """Its number among the points of the command."""
    config: RunConfig
    key: str
    folder: Path
    """Absolute."""
    overrides: tuple[str, ...]
    command: str
    """Repeats this run alone."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The runs of one command that were not done, in the order in which they are taken."""

    runs: tuple[QueuedRun, ...]
    began: float
    """Seconds since 1970. A run that fails after this is not tried again by a worker of this queue."""


class Left:
    """The runs of a queue that are left, as one process sees them."""

    def __init__(self, queue: Queue, *, job: str | None = None) -> None:
        """`job` is the cluster's name of this process's job, which goes on with its own runs after a restart."""
        self._queue, self._job = queue, job
        self._open: dict[int, None] = dict.fromkeys(range(len(queue.runs)))
        self.untakable: dict[int, OSError] = {}
        """Runs whose folder can't be written."""
        self._keys, self._shared = WorkKeys(), dict[int, frozenset[str]]()

    def __len__(self) -> int:
        """Runs that have no outcome yet, as far as this process has looked."""
        return len(self._open)

    def take(self) -> tuple[int, Lease] | None:
        """The next run and its lease, which this process has now; None: no run is free.

        A run that needs what another one is making is taken only if there is nothing else to do.
        """
        making: set[str] = set()
        waiting: list[int] = []
        for i in self._front():
            if is_alive(self._folder(i)):
                making |= self._work(i)
            elif making.isdisjoint(self._work(i)):
                if (lease := self._taken(i)) is not None:
                    return i, lease
                making |= self._work(i)
            else:
                waiting.append(i)
        taken = ((i, self._taken(i)) for i in waiting)
        return next(((i, lease) for i, lease in taken if lease is not None), None)

    def look(self) -> tuple[list[int], bool]:
        """The runs at the front that living processes hold, and whether one there is free."""
        alive = {i: is_alive(self._folder(i)) for i in self._front()}
        return [i for i, held in alive.items() if held], not all(alive.values())

    def may_come_free(self) -> bool:
        """Whether a process holds a run that this one is to go on with if that process ends without an outcome.

        It began before the queue did, or in an earlier start of this job: it may be about to end, or asleep.
        """
        return any(is_alive(self._folder(i)) and not self._is_tried(i) for i in self._front())

    def close(self, i: int) -> None:
        """Take the run off this process's list, whatever its journal says."""
        self._open.pop(i, None)

    def _front(self) -> Sequence[int]:
        """The first runs that have no outcome yet; those that have one are taken off the list on the way."""
        front: list[int] = []
        for i in list(self._open):
            if self._has_ended(i) and not is_alive(self._folder(i)):
                self.close(i)
            elif len(front := [*front, i]) == LOOK_AHEAD:
                break
        return front

    def _taken(self, i: int) -> Lease | None:
        """The lease of a free run; None if another process was faster, or has done it meanwhile."""
        lease = run_lease(self._folder(i))
        try:
            holder = lease.take()
        except OSError as error:  # its folder can't be written
            self.close(i)
            self.untakable[i] = error
            return None
        if holder is not None:
            return None
        if self._has_ended(i):
            lease.release()
            self.close(i)
            return None
        return lease

    def _has_ended(self, i: int) -> bool:
        """Whether no worker of this queue is to begin the run: it is done, or was tried since the queue began.

        A job that was stopped and started again goes on with what it was at.
        """
        run = self._queue.runs[i]
        attempt, outcome = last_attempt(run.folder)
        status = None if outcome is None else outcome["status"]
        if status == "finished" and is_finished(run.key, run.folder):
            return True
        return self._is_anothers(attempt) or (status == "failed" and self._is_recent(attempt))

    def _is_tried(self, i: int) -> bool:
        return self._is_anothers(last_attempt(self._folder(i))[0])

    def _is_recent(self, attempt: Mapping[str, Any] | None) -> bool:
        return attempt is not None and attempt["time"] >= self._queue.began

    def _is_anothers(self, attempt: Mapping[str, Any] | None) -> bool:
        """Whether the attempt was made since the queue began, and not in an earlier start of this job."""
        if attempt is None or not self._is_recent(attempt):
            return False
        return self._job is None or str(attempt.get("job")).partition(" ")[0] != self._job

    def _folder(self, i: int) -> Path:
        return self._queue.runs[i].folder

    def _work(self, i: int) -> frozenset[str]:
        if i not in self._shared:
            self._shared[i] = self._keys.shared(self._queue.runs[i].config)
        return self._shared[i]
