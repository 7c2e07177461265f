"""A sweep on this machine: its runs are a queue, and one or several workers do them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path

from sweep.config import RunConfig
from sweep.launch.local import Look, begin_work, cores, run_workers, visible_gpus
from sweep.planning.queue import workers_that_fit
from sweep.sweeps.queue import Left, Queue
from sweep.sweeps.worker import work, work_in_process
from sweep.system.hardware import memory_gb
from sweep.system.ranks import world_size

log = logging.getLogger(__name__)


def do_all(queue: Queue, *, workers: int | None, logs: Path) -> dict[int, Exception]:
    """Do the runs of the queue, `workers` at a time or as many as there is room for; run -> its failure.

    A single worker is this process. Returns when no run of the queue is left, nor at work in another command.
    """
    configs = [run.config for run in queue.runs]
    gpus = _gpus(configs)
    number = workers or workers_that_fit(configs, cores=cores(), memory_gb=memory_gb(), gpus=len(gpus))
    number = min(number, len(configs))
    if number == 1 or world_size() > 1:
        return work(queue, waits=True)
    log.info("%d runs to do, %d at a time; logs in %s", len(configs), number, logs)
    shared = _Shared(queue)
    run_workers(functools.partial(_work_in_process, queue), shared, workers=number, gpus=gpus, logs=logs)
    return shared.failures


class _Shared:
    """The queue, as the process sees it that has started the workers."""

    def __init__(self, queue: Queue) -> None:
        self.names: Sequence[str] = [run.folder.name for run in queue.runs]
        self.failures: dict[int, Exception] = {}
        self._queue, self._left = queue, Left(queue)

    def look(self) -> Look:
        """How far the runs are."""
        running, any_free = self._left.look()
        folders = {i: self._queue.runs[i].folder for i in running}
        return Look(running=folders, left=len(self._left), any_free=any_free)

    def ended(self, result: dict[int, Exception]) -> None:
        """A worker has ended with these failures; such a run is not tried again, even if it could write nothing."""
        self.failures |= result
        for i in result:
            self._left.close(i)


def _work_in_process(queue: Queue) -> dict[int, Exception]:
    """What a worker's process does."""
    begin_work()
    return work_in_process(queue, waits=True)


def _gpus(configs: Sequence[RunConfig]) -> list[str]:
    """The GPUs that these runs may use; none if all of them are for the CPU."""
    return visible_gpus() if any(config.compute.device != "cpu" for config in configs) else []
