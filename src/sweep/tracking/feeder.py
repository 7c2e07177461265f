"""`python -m sweep.tracking.feeder PARENT EXPERIMENT ARTIFACT_ROOT`: the process that `tracking.live` starts.

It is told folders, a line each, and answers each with a line: empty where MLflow has everything, else the reason. Of a
run's folder it follows the journal until the attempt's outcome is sent, or PARENT, which started it, is gone. Of a
sweep's it brings all runs there up to date, once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.tracking.journal import FILE, has_ended

if TYPE_CHECKING:
    from sweep.tracking.connection import Connection

LOOK_S = 0.2
"""Seconds between two looks at the journal's size."""
EVERY_S = 5.0
"""Seconds between two projections of a run under way, at least."""
SHARE = 0.05
"""Of the time, what they may take at most."""
REFRESH_S = 600.0
"""Seconds between two looks at the whole sweep from beside a run."""
MANY = 500
"""Runs of a sweep that is only looked at as a whole when it is over, and by `sync`: reading more takes seconds."""
PATIENT_S = 60.0
"""Seconds at most before MLflow is tried again."""


def main() -> None:
    """Until nobody is there to tell it more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):  # Slurm signals all of a step
        signal.signal(number, signal.SIG_IGN)
    parent = int(sys.argv[1])
    from sweep.tracking.connection import Connection

    connect = partial(Connection, os.environ["MLFLOW_TRACKING_URI"], sys.argv[2], Path(sys.argv[3]))
    for line in sys.stdin:
        folder = Path(line.removesuffix("\n"))
        if (folder / FILE).is_file():
            error = follow(folder, connect, gone=lambda: os.getppid() != parent)
        else:
            error = once(folder, connect)
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(f"{error or ''}\n")
            sys.stdout.flush()


def once(sweep_folder: Path, connect: Callable[[], Connection]) -> str | None:
    """What went wrong first while a sweep was brought up to date, or None."""
    from sweep.tracking import sweeps

    try:
        to, runs = connect(), sweeps.journals(sweep_folder)
        errors = [synced.error for synced in sweeps.sync_runs(to, runs) if synced.error]
        return next(iter(errors), None) or sweeps.sync_parent(to, sweep_folder, runs)
    except Exception as failure:  # whatever it is: it is said in a line, and the journals have it all
        return sweeps.in_a_line(failure)


def follow(run_folder: Path, connect: Callable[[], Connection], *, gone: Callable[[], bool]) -> str | None:
    """Project the journal as it grows; what kept the last of it from MLflow, or None."""
    from sweep.tracking.projection import project
    from sweep.tracking.sweeps import in_a_line, is_alive

    to: Connection | None = None
    seen, due, refresh, wait_s = -1, 0.0, 0.0, EVERY_S
    while True:
        left, size = gone(), (run_folder / FILE).stat().st_size
        ended = left or has_ended(run_folder)
        if not ended and (size == seen or time.monotonic() < due):
            time.sleep(LOOK_S)
            continue
        started, error = time.monotonic(), None
        try:
            to = to or connect()
            project(run_folder, to, alive=not left or is_alive(run_folder))
            if not ended and time.monotonic() >= refresh:  # what has ended meanwhile is in the sweep's table and view
                refresh = time.monotonic() + REFRESH_S
                look_around(run_folder.parent, to)
        except Exception as failure:  # whatever it is: the run goes on, and the journal has it all
            error = in_a_line(failure)
        if ended:
            return error
        took = time.monotonic() - started
        seen = seen if error else size
        wait_s = min(2 * wait_s, PATIENT_S) if error else max(EVERY_S, took / SHARE)
        due = time.monotonic() + wait_s


def look_around(sweep_folder: Path, to: Connection) -> None:
    """The sweep's own run and view as its runs are now, unless they are many."""
    from sweep.tracking.projection import project_parent
    from sweep.tracking.sweeps import is_alive, journals

    if sum(1 for _ in sweep_folder.glob(f"*/{FILE}")) <= MANY:
        runs = journals(sweep_folder)
        project_parent(sweep_folder, to, [(events, is_alive(folder)) for folder, events in runs.items()])


if __name__ == "__main__":
    main()
