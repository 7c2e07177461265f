"""Inside a job of the cluster: its runs one after another, stopped when asked, and back into the queue."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sweep.launch.cluster import Unreachable, ask, described
from sweep.system import stop_signals

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGUSR2, signal.SIGTERM)
"""Slurm's before the time limit and, where so configured, before preemption; and its last word before it kills."""
PORTS = range(20_000, 30_000)
"""Below Linux's ephemeral ports."""


class RunsFailed(RuntimeError):
    """Runs of this job failed: raised when all were tried, so that Slurm says FAILED."""


class OutOfTime(RuntimeError):
    """The job was asked to stop once more than it may go back into the queue."""


def do_all(
    work: Callable[..., Any],
    runs: Sequence[tuple[Any, ...]],
    *,
    around: Callable[[], AbstractContextManager[None]],
    stops: Path,
    max_num_timeout: int,
) -> None:
    """`work(*run)` for each run, `around` all of them; one that fails takes no other with it.

    Asked to stop, by the time limit or by preemption, the job goes back into the queue at its next safe place, at most
    `max_num_timeout` times for the time limit (counted in the file `stops`), where it goes on with what is left. Raises
    RunsFailed, OutOfTime, and SystemExit where it ends otherwise.
    """
    stop_signals.listen(SIGNALS)
    _join_ranks()
    failed = []
    try:
        with around():
            for run in runs:
                stop_signals.check()
                try:
                    work(*run)
                except Exception as error:
                    log.exception("a run failed; the others of this job go on")
                    failed.append(f"{type(error).__name__}: {error}")
                except SystemExit as error:
                    log.exception("a run ended its process; the others of this job go on")
                    failed.append(f"SystemExit: {error}")
    except stop_signals.Stopped:
        _go_back(stops, max_num_timeout=max_num_timeout)
        raise SystemExit(1) from None
    if failed:
        raise RunsFailed(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")


def attempt_id() -> str | None:
    """This start of this job, "12_3 restart 1"; None outside a job of the cluster."""
    if (job := os.environ.get("SLURM_JOB_ID")) is None:
        return None
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = job if array is None else f"{array}_{element}"
    return f"{name} restart {os.environ.get('SLURM_RESTART_COUNT', '0')}"


def _go_back(stops: Path, *, max_num_timeout: int) -> None:
    """Requeue this job, where Slurm has not already decided what becomes of it (cancelled, or out of time)."""
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return
    job = os.environ["SLURM_JOB_ID"]
    try:
        now = described(job)
    except Unreachable as error:
        log.warning("%s; trying to go back into the queue nevertheless", error)
        now = {"JobState": "RUNNING"}
    if now["JobState"] != "RUNNING":
        log.info("stopped: Slurm says that this job is %s", now["JobState"])
        return
    if now.get("PreemptTime", "None") == "None":
        past = len(stops.read_text().splitlines()) if stops.exists() else 0
        if past >= max_num_timeout:
            raise OutOfTime(f"the time limit came and hydra.launcher.max_num_timeout={max_num_timeout} is used up")
        with stops.open("a") as f:
            f.write(f"{now.get('RunTime', '')}\n")
    log.info("stopped: back into the queue, to go on there")
    ask("scontrol", "requeue", job)


def _join_ranks() -> None:
    """Say to the processes of a job of several tasks which one each is, as torchrun would."""
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
