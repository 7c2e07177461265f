"""`python -m sweep.tracking.sender PARENT EXPERIMENT ARTIFACT_ROOT`: the process that `tracking.background` starts.

It reads folders from its input, one a line, and answers each with a line: empty if MLflow has everything, else the
reason. A run's folder is followed until the attempt's outcome is sent, or until PARENT, the process id of whoever
started it, is gone. All runs in a sweep's folder are brought up to date once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # Slurm signals all processes of a step, perhaps during the imports below
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(_number, signal.SIG_IGN)

from sweep.tracking import sweeps
from sweep.tracking.connection import Connection
from sweep.tracking.journal import FILE, has_ended
from sweep.tracking.place import VARIABLE
from sweep.tracking.projection import project, project_parent

Connect = Callable[[], Connection]

LOOK_S = 0.2
"""Seconds between two looks at the journal's size."""
EVERY_S = 5.0
"""Seconds between two projections of a run that is under way, at least."""
SHARE = 0.05
"""The part of the time that projections may take, at most."""
REFRESH_S = 600.0
"""Seconds between two projections of the whole sweep from beside a run."""
MANY = 500
"""A sweep of more runs is projected as a whole only when it is over, and by `sync`: reading it takes seconds."""
PATIENT_S = 60.0
"""Seconds before MLflow is tried again after an error, at most."""


def main() -> None:
    """Answer until the input ends."""
    parent, experiment, artifact_root = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    connect = functools.partial(Connection, os.environ[VARIABLE], experiment, artifact_root)
    for line in sys.stdin:
        folder = Path(line.removesuffix("\n"))
        if (folder / FILE).is_file():
            error = follow(folder, connect, is_orphan=lambda: os.getppid() != parent)
        else:
            error = send_sweep(folder, connect)
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(f"{error or ''}\n")
            sys.stdout.flush()


def send_sweep(sweep_folder: Path, connect: Connect) -> str | None:
    """The first error while a sweep was brought up to date, or None."""
    try:
        to, runs = connect(), sweeps.journals(sweep_folder)
        errors = [synced.error for synced in sweeps.sync_runs(to, runs) if synced.error]
        return next(iter(errors), None) or sweeps.sync_parent(to, sweep_folder, runs)
    except Exception as failure:  # whatever it is, it becomes one line: the journals have everything
        return sweeps.in_a_line(failure)


def follow(run_folder: Path, connect: Connect, *, is_orphan: Callable[[], bool]) -> str | None:
    """Project the journal as it grows; the error that kept the end of it from MLflow, or None."""
    connect = functools.cache(connect)
    sent_bytes, due, sweep_due, pause_s = -1, 0.0, 0.0, EVERY_S
    while not is_orphan() and not has_ended(run_folder):
        size, started = (run_folder / FILE).stat().st_size, time.monotonic()
        if size == sent_bytes or started < due:
            time.sleep(LOOK_S)
            continue
        try:
            project(run_folder, connect(), alive=True)
            if started >= sweep_due:  # shows what other runs have sent meanwhile
                sweep_due = started + REFRESH_S
                project_sweep(run_folder.parent, connect())
        except Exception:  # whatever it is, the run goes on; it is tried again
            pause_s = min(2 * pause_s, PATIENT_S)
        else:
            sent_bytes = size
            pause_s = max(EVERY_S, (time.monotonic() - started) / SHARE)
        due = time.monotonic() + pause_s
    return sweeps.error_of(lambda: project(run_folder, connect(), alive=sweeps.is_alive(run_folder)))


def project_sweep(sweep_folder: Path, to: Connection) -> None:
    """Bring the sweep's own run and its view up to date, unless it has many runs."""
    if sum(1 for _ in sweep_folder.glob(f"*/{FILE}")) <= MANY:
        runs = sweeps.journals(sweep_folder)
        project_parent(sweep_folder, to, [(events, sweeps.is_alive(folder)) for folder, events in runs.items()])


if __name__ == "__main__":
    main()
