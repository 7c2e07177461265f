"""MLflow beside a run: a process of its own follows the journal, so that no tracker can slow, hang or stop the run."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweep.tracking.journal import has_ended

log = logging.getLogger(__name__)

DELAY_S = float(os.environ.get("SWEEP_TRACKING_DELAY_S", "10"))
"""What tracking may cost a run in all, in seconds: the wait for the last of it, once the run has ended.

What was waited for in vain is gone: what is told next to the same MLflow gets as many seconds as have passed since.
"""


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
    feeder = _told(run_folder, where)
    try:
        yield
    finally:
        if feeder is not None and not has_ended(run_folder):
            feeder.end()  # there is nothing to wait for
        else:
            _answered(feeder, run_folder, where)


def prepare(where: Where) -> None:
    """Have the schema and the experiment made, before several processes come to need them.

    A server, and a file that is there, has its schema, and an experiment new to it is made by the first who needs it,
    under a lock. What takes longer than DELAY_S is not waited for; those processes wait for it instead of their runs.
    """
    if (file := sqlite_file(where.tracking_uri)) is None or file.exists():
        return
    where.artifact_root.mkdir(parents=True, exist_ok=True)
    feeder = _told(where.artifact_root, where)  # a folder that holds no runs
    if feeder is None:
        return
    if feeder.answer(DELAY_S) == "":
        _idle[where] = feeder
    else:
        feeder.leave()
        _left.append(feeder)


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file that a tracking URI names; None: it names a server or another database."""
    path = tracking_uri.removeprefix("sqlite:///")
    return None if path == tracking_uri else Path(path)


def bring_up_to_date(sweep_folder: Path, where: Where) -> bool:
    """MLflow gets what it lacks of a sweep; False, and a warning, where that takes longer than DELAY_S or fails."""
    return _answered(_told(sweep_folder, where), sweep_folder, where)


class _Feeder:
    """The process at work, out of the terminal's reach: Ctrl-C is the run's affair, whose outcome it still sends."""

    def __init__(self, where: Where) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sweep.tracking.feeder",
                str(os.getpid()),
                where.experiment,
                str(where.artifact_root),
            ],
            env={**os.environ, "MLFLOW_TRACKING_URI": where.tracking_uri},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        self._ask, self._said = self._process.stdin, self._process.stdout

    @property
    def gone(self) -> bool:
        """Whether somebody ended it."""
        return self._process.poll() is not None

    def tell(self, folder: Path) -> None:
        """Of the next folder."""
        with contextlib.suppress(BrokenPipeError):  # there will be no answer
            self._ask.write(f"{folder}\n")
            self._ask.flush()

    def answer(self, within_s: float) -> str | None:
        """ "" where MLflow has everything, else why not; None: it took longer."""
        if not select.select([self._said], [], [], within_s)[0]:
            return None
        line = self._said.readline()
        return line.strip() if line else f"its process ended with code {self._process.wait()}"

    def end(self) -> None:
        """At once."""
        self._process.kill()
        self._process.communicate()

    def leave(self) -> None:
        """Alone with what it was told of: it ends after that."""
        self._ask.close()
        self._said.close()


_idle: dict[Where, _Feeder] = {}
"""Those that have done what they were told. To start one takes seconds of imports: the next run gets it."""


_left: list[_Feeder] = []
"""Those that nobody waits for."""
_waited: dict[Where, tuple[float, float]] = {}
"""Where the last wait was in vain: seconds that were left then, and when that was."""


@atexit.register
def _dismiss() -> None:
    while _idle:
        _idle.popitem()[1].end()


def _told(folder: Path, where: Where) -> _Feeder | None:
    """A feeder at work on a folder; None, and a warning, where no process can be made."""
    feeder = _idle.pop(where, None)
    if feeder is not None and feeder.gone:
        feeder.end()
        feeder = None
    if feeder is None:
        try:
            feeder = _Feeder(where)
        except OSError as error:
            log.warning("MLflow can't be told: %s", error)
            return None
    feeder.tell(folder)
    return feeder


def _answered(feeder: _Feeder | None, folder: Path, where: Where) -> bool:
    """Wait for the last of it; a warning where MLflow is behind then."""
    if feeder is None:
        return False
    started, (left, then) = time.monotonic(), _waited.pop(where, (DELAY_S, 0.0))
    within_s = min(DELAY_S, left + started - then)
    why: str | None = "interrupted"
    try:
        why = feeder.answer(within_s)
    finally:
        if why == "":
            _idle[where] = feeder
        else:
            feeder.end()
    if why != "":
        now = time.monotonic()
        _waited[where] = max(0.0, within_s - (now - started)), now
    if why is None:
        why = f"it took longer than {within_s:.0f} s" if within_s >= 1 else "it has not answered before either"
    if why:
        log.warning("MLflow is behind (%s); the journals have it all: python -m sweep.sync %s", why, folder)
    return not why
