"""A worker: one process that imports once, then does one run of a queue after another until none is left for it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

import yaml

from sweep.config import tree
from sweep.domain.errors import Refusal
from sweep.launch.in_job import job_name
from sweep.run.memory import Memory
from sweep.sweeps.one_run import do
from sweep.sweeps.points import named_files
from sweep.sweeps.queue import Left, Queue, QueuedRun
from sweep.system import ranks, stop_signals
from sweep.system.lease import Lease
from sweep.system.terminal import mask_secrets
from sweep.tracking.background import overlapping_runs

log = logging.getLogger(__name__)

POLL_S = 0.5
PLAIN, FULL = "[%(asctime)s] %(message)s", "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"
STOP = -1
"""What the first rank sends in place of a run's number when it was asked to stop."""


Do = Callable[[QueuedRun, Lease | None, Memory], object]
"""Does one run: with its lease on the first rank, and with what the worker has in memory."""


def do_queued(run: QueuedRun, lease: Lease | None, memory: Memory) -> None:
    """Do one run of a queue; Refusal where a file that it names has changed since it was queued."""
    with _logged(run, leads=lease is not None):
        _check_unchanged(run)
        do(run.config, folder=run.folder, command=run.command, memory=memory, lease=lease)


def work(
    queue: Queue, *, waits: bool, do_run: Do = do_queued, done: Callable[[], object] = lambda: None
) -> dict[int, Exception]:
    """Do runs of the queue until no one is free; run -> its failure. A run that fails takes no other with it.

    `waits`: stay until the runs that other processes hold have ended too, as one of them may become free. `done` is
    called after each run that didn't fail. Of several ranks the first one chooses. Raises Stopped if asked to stop.
    """
    worker = _Worker(queue, waits=waits)
    memory, failures = Memory(), {}
    with overlapping_runs(), ranks.in_step() as group:
        while (i := group.from_first(worker.choose)) is not None:
            if i == STOP:
                raise stop_signals.Stopped(stop_signals.ASKED)
            run = queue.runs[i]
            try:
                with worker.holding():
                    do_run(run, worker.lease, memory)
                done()
            except (Exception, SystemExit) as error:
                log.exception("%s failed; the other runs go on", run.folder.name)
                failures[i] = _portable(error)
    return failures | worker.untakable


class _Worker:
    """What one process is at: the run that it has chosen, and the lease of that run."""

    def __init__(self, queue: Queue, *, waits: bool) -> None:
        self._left, self._queue, self._waits = Left(queue, job=job_name()), queue, waits
        self.lease: Lease | None = None
        """None on the ranks other than the first."""

    def choose(self) -> int | None:
        """The number of the next run, whose lease is this process's then; STOP if asked to stop, None at the end."""
        while not stop_signals.asked():
            if (taken := self._left.take()) is not None:
                i, self.lease = taken
                self._left.close(i)  # tried, whatever becomes of it
                return i
            if not (self._waits and len(self._left)) and not self._left.may_come_free():
                return None
            time.sleep(POLL_S)
        return STOP

    @property
    def untakable(self) -> dict[int, Exception]:
        """Runs that could not be begun."""
        return {i: _portable(error) for i, error in self._left.untakable.items()}

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Give the lease back at the end of the block."""
        try:
            yield
        finally:
            if self.lease is not None:
                self.lease.release()
                self.lease = None


def work_in_process(
    queue: Queue, done: Callable[[], object] = lambda: None, *, waits: bool, do_run: Do = do_queued
) -> dict[int, Exception]:
    """`work`, in a process of its own: messages of ours, and everybody's warnings, go to its log."""
    mask_secrets()
    logging.basicConfig(format=PLAIN, datefmt="%H:%M:%S", level=logging.WARNING, force=True)
    logging.getLogger("sweep").setLevel(logging.INFO)
    return work(queue, waits=waits, do_run=do_run, done=done)


@contextlib.contextmanager
def _logged(run: QueuedRun, *, leads: bool) -> Iterator[None]:
    """Within the block, messages also go to `sweep.log` in the run's folder, where the first rank has put its choices.

    The files are those that Hydra makes of a single run.
    """
    if not leads:
        yield
        return
    choices = run.folder / ".hydra"
    choices.mkdir(parents=True, exist_ok=True)
    (choices / "overrides.yaml").write_text(yaml.safe_dump(list(run.overrides)))
    (choices / "config.yaml").write_text(yaml.safe_dump(tree(run.config), sort_keys=False))
    handler = logging.FileHandler(run.folder / "sweep.log")
    handler.setFormatter(logging.Formatter(FULL))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _check_unchanged(run: QueuedRun) -> None:
    """Refusal where a file that the run names has changed since the sweep was started."""
    config = run.config
    now = named_files(config.checkpoint, config.data, config.anneal, config.tasks)
    if now != run.config.files:
        changed = sorted(file for file in {*now, *run.config.files} if now.get(file) != run.config.files.get(file))
        raise Refusal(f"{changed[0]} has changed since this sweep was started: start it again")


def _portable(error: BaseException) -> Exception:
    """A failure that can be sent to another process: a refusal stays one, the rest is told in words."""
    return Refusal(str(error)) if isinstance(error, Refusal) else RuntimeError(f"{type(error).__name__}: {error}")
