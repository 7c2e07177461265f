"""Inside a job of the cluster: a worker that stops on request, and goes back into the queue."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from sweep.launch.cluster import Unreachable, ask, described
from sweep.system import stop_signals

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGUSR2, signal.SIGTERM)
"""USR2 comes before the time limit and, if Slurm is so configured, before preemption; TERM comes before KILL."""
REQUEUE_S = 120.0
"""For so long a job asks to go back into the queue; Slurm ends it before, if its grace time is shorter."""
ASK_AGAIN_S = 3.0
PORTS = range(20_000, 30_000)
"""Ports for the ranks of a run, below Linux's ephemeral ports."""


class RunsFailed(RuntimeError):
    """Runs of this job failed; raised after all were tried, so that Slurm's state of the job is FAILED."""


class OutOfTime(RuntimeError):
    """The time limit came more often than the job may go back into the queue."""


def work_in_job(
    work: Callable[[Callable[[], object]], Mapping[int, Exception]], *, stops: Path, max_num_timeout: int
) -> None:
    """Do `work(done)`, which does runs, calls `done()` after each, and returns the failures.

    If the time limit or preemption asks the job to stop, it stops at the next safe place and goes back into the queue,
    where it continues later. The time limit may do this `max_num_timeout` times between two runs that are done, counted
    in the file `stops`. Raises RunsFailed, OutOfTime, and SystemExit if the job was stopped.
    """
    stop_signals.listen(SIGNALS)
    _join_ranks()
    try:
        failures = work(lambda: stops.unlink(missing_ok=True))
    except stop_signals.Stopped:
        _go_back(stops, max_num_timeout=max_num_timeout)
        raise SystemExit(1) from None
    if failures:
        raise RunsFailed(f"{len(failures)} runs failed: {'; '.join(map(str, failures.values()))}")


def attempt_id() -> str | None:
    """Name and number of restarts of this job, such as "12_3 restart 1"; None outside a job."""
    if (job := os.environ.get("SLURM_JOB_ID")) is None:
        return None
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = job if array is None else f"{array}_{element}"
    return f"{name} restart {os.environ.get('SLURM_RESTART_COUNT', '0')}"


def job_name() -> str | None:
    """Name of this job, such as "12_3", which a restart keeps; None outside a job."""
    attempt = attempt_id()
    return None if attempt is None else attempt.partition(" ")[0]


def _go_back(stops: Path, *, max_num_timeout: int) -> None:
    """Requeue this job, unless Slurm has decided otherwise: it was cancelled, or its time is over."""
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return
    job = os.environ["SLURM_JOB_ID"]
    try:
        facts = described(job)
    except Unreachable as error:
        log.warning("%s; trying to go back into the queue nevertheless", error)
        facts = {"JobState": "RUNNING"}
    if facts["JobState"] != "RUNNING":
        log.info("stopped: Slurm says that this job is %s", facts["JobState"])
        return
    if facts.get("PreemptTime", "None") == "None":
        past = len(stops.read_text().splitlines()) if stops.exists() else 0
        if past >= max_num_timeout:
            raise OutOfTime(f"the time limit came and hydra.launcher.max_num_timeout={max_num_timeout} is used up")
        with stops.open("a") as f:
            f.write(f"{facts.get('RunTime', '')}\n")
    log.info("stopped: back into the queue, to go on there")
    _requeue(job)


def _requeue(job: str) -> None:
    """Put this job back into the queue; a controller that is busy, as it is at a common time limit, is asked again."""
    deadline = time.monotonic() + REQUEUE_S
    while True:
        try:
            ask("scontrol", "requeue", job)
            return
        except Unreachable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("%s; asking again in %g s", error, ASK_AGAIN_S)
            time.sleep(ASK_AGAIN_S)


def _join_ranks() -> None:
    """In a job of several tasks, set the variables by which torchrun tells a process its rank."""
    size = int(os.environ.get("SLURM_NTASKS", "1"))
    if size == 1 or "SLURM_PROCID" not in os.environ:
        return
    os.environ |= {
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "MASTER_ADDR": os.environ["SLURM_LAUNCH_NODE_IPADDR"],  # nodes' names need not resolve
        "MASTER_PORT": str(PORTS[int(os.environ["SLURM_JOB_ID"]) % len(PORTS)]),
    }
