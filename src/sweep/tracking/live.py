"""MLflow beside a run: a process of its own follows the journal, so that no tracker can slow, hang or stop the run."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweep.tracking.journal import has_ended

log = logging.getLogger(__name__)

DELAY_S = float(os.environ.get("SWEEP_TRACKING_DELAY_S", "10"))
"""What tracking may cost a run in all, in seconds: the wait for the last of it, once the run has ended."""


@dataclass(frozen=True)
class Where:
    """The MLflow that shows outcomes."""

    tracking_uri: str
    """May hold a password: it goes on in the environment alone."""
    experiment: str
    artifact_root: Path
    """For artifacts where there is no server."""


@contextlib.contextmanager
def followed(run_folder: Path, where: Where) -> Iterator[None]:
    """Within the block MLflow follows the run's journal; the block ends with the run's outcome in it."""
    feeder = _feeder(run_folder, where)
    try:
        yield
    finally:
        if feeder is not None and not has_ended(run_folder):
            feeder.kill()  # there is nothing to wait for
        _end(feeder, run_folder)


def prepare(where: Where) -> None:
    """Have the schema and the experiment made, before several processes come to need them.

    What takes longer than DELAY_S is not waited for; those processes wait for it instead of their runs.
    """
    where.artifact_root.mkdir(parents=True, exist_ok=True)
    feeder = _feeder(where.artifact_root, where)  # a folder that holds no runs
    if feeder is not None:
        with contextlib.suppress(subprocess.TimeoutExpired), feeder.stdout or contextlib.nullcontext():
            feeder.wait(timeout=DELAY_S)


def bring_up_to_date(sweep_folder: Path, where: Where) -> bool:
    """MLflow gets what it lacks of a sweep; False, and a warning, where that takes longer than DELAY_S or fails."""
    return _end(_feeder(sweep_folder, where), sweep_folder)


def _feeder(folder: Path, where: Where) -> subprocess.Popen[str] | None:
    """The process at work, out of the terminal's reach: Ctrl-C is the run's affair, whose outcome it still sends."""
    words = [str(os.getpid()), str(folder), where.experiment, str(where.artifact_root)]
    command = [sys.executable, "-m", "sweep.tracking.feeder", *words]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": where.tracking_uri}
    try:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        log.warning("MLflow can't be told: %s", error)
        return None


def _end(feeder: subprocess.Popen[str] | None, folder: Path) -> bool:
    """Wait for the last of it; a warning where MLflow is behind then."""
    if feeder is None:
        return False
    try:
        said, _ = feeder.communicate(timeout=DELAY_S)
    except subprocess.TimeoutExpired:
        said = f"it took longer than {DELAY_S:.0f} s"
    finally:
        feeder.kill()
        feeder.communicate()
    if feeder.returncode == 0:
        return True
    why = said.strip().rpartition("\n")[2] or f"its process ended with code {feeder.returncode}"
    log.warning("MLflow is behind (%s); the journals have it all: python -m sweep.sync %s", why, folder)
    return False
