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
from pathlib import Path

from sweep.tracking.journal import has_ended
from sweep.tracking.place import Where, sqlite_file

log = logging.getLogger(__name__)

DELAY_S = float(os.environ.get("SWEEP_TRACKING_DELAY_S", "10"))
"""What tracking may cost a run in all, in seconds: the wait for the last of it, once the run has ended.

What was waited for in vain is gone: what is told next to the same MLflow gets as many seconds as have passed since.
"""


@contextlib.contextmanager
def followed(run_folder: Path, where: Where) -> Iterator[None]:
    """Within the block MLflow follows the run's journal; the block ends with the run's outcome in it."""
    feeder, but = _told(run_folder, where), 0
    try:
        yield
        but = len(_together)
    finally:
        if feeder is not None and not has_ended(run_folder):  # this one is not waited for
            _answered(feeder, where, but=1)
            _end_idle(where)
        else:
            _answered(feeder, where, but=but)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Within the block a run starts while MLflow gets the last of the one before; the block ends with all of it there.

    A run that an exception leaves is waited for at once; where one leaves the block, nothing else is.
    """
    _together.append(None)
    try:
        yield
    finally:
        _together.pop()
    for where in [where for where, feeder in _idle.items() if feeder.owed]:
        _answered(_idle.pop(where), where)


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


def bring_up_to_date(sweep_folder: Path, where: Where) -> bool:
    """MLflow gets what it lacks of a sweep; False, and a warning, where that takes longer than DELAY_S or fails."""
    return _answered(_told(sweep_folder, where), where)


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
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        self._ask, self._said, self._heard = self._process.stdin, self._process.stdout, b""
        self.owed: list[Path] = []
        """What it was told of and has not answered."""

    @property
    def gone(self) -> bool:
        """Whether somebody ended it."""
        return self._process.poll() is not None

    def tell(self, folder: Path) -> None:
        """Of the next folder, which it comes to after the ones before."""
        self.owed.append(folder)
        with contextlib.suppress(BrokenPipeError):  # there will be no answer
            self._ask.write(os.fsencode(folder) + b"\n")
            self._ask.flush()

    def answer(self, within_s: float) -> str | None:
        """Of the first owed: "" where MLflow has everything, else why not; None: it took longer."""
        deadline = time.monotonic() + within_s
        while b"\n" not in self._heard:
            if not select.select([self._said], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            if not (heard := os.read(self._said.fileno(), 1 << 16)):
                return f"its process ended with code {self._process.wait()}"
            self._heard += heard
        line, _, self._heard = self._heard.partition(b"\n")
        self.owed.pop(0)
        return line.decode(errors="replace").strip()

    def end(self) -> None:
        """At once."""
        self._process.kill()
        self._process.communicate()

    def leave(self) -> None:
        """Alone with what it was told of: it ends after that."""
        with contextlib.suppress(BrokenPipeError):
            self._ask.close()
        self._said.close()
        _left.append(self)


_idle: dict[Where, _Feeder] = {}
"""Those that the next run gets: to start one takes seconds of imports."""
_left: list[_Feeder] = []
"""Those that nobody waits for."""
_together: list[None] = []
"""One, within `together`."""
_waited: dict[Where, tuple[float, float]] = {}
"""Where the last wait was in vain: seconds that were left then, and when that was."""


@atexit.register
def _dismiss() -> None:
    while _idle:
        _, feeder = _idle.popitem()
        feeder.leave() if feeder.owed else feeder.end()


def _end_idle(where: Where) -> None:
    if (feeder := _idle.pop(where, None)) is not None:
        feeder.end()


def _told(folder: Path, where: Where) -> _Feeder | None:
    """A feeder at work on a folder; None, and a warning, where no process can be made."""
    feeder = _idle.pop(where, None)
    if feeder is not None and feeder.gone:
        _answered(feeder, where)  # says what it did not send
        _end_idle(where)
        feeder = None
    if feeder is None:
        try:
            feeder = _Feeder(where)
        except OSError as error:
            log.warning("MLflow can't be told: %s", error)
            return None
    feeder.tell(folder)
    return feeder


def _answered(feeder: _Feeder | None, where: Where, *, but: int = 0) -> bool:
    """Wait for what it owes, `but` so many of the last; a warning where MLflow is behind then."""
    if feeder is None:
        return False
    if len(feeder.owed) <= but:
        _idle[where] = feeder
        return True
    started, (left, then) = time.monotonic(), _waited.pop(where, (DELAY_S, 0.0))
    within_s = min(DELAY_S, left + started - then)
    behind: dict[Path, str] = {}
    try:
        while len(owed := feeder.owed.copy()) > but:
            why = feeder.answer(max(0.0, started + within_s - time.monotonic()))
            if feeder.owed == owed:  # nothing more will come
                behind |= dict.fromkeys(owed, why or _late(within_s))
                break
            if why:
                behind[owed[0]] = why
    finally:
        if len(feeder.owed) > but:
            feeder.end()
        else:
            _idle[where] = feeder
    if behind:
        now = time.monotonic()
        _waited[where] = max(0.0, within_s - (now - started)), now
        folders = list(behind) if len(behind) == 1 else sorted({folder.parent for folder in behind})
        named = " ".join(map(str, folders))
        why = next(iter(behind.values()))
        log.warning("MLflow is behind (%s); the journals have it all: sweep sync %s", why, named)
    return not behind


def _late(within_s: float) -> str:
    return f"it took longer than {within_s:.0f} s" if within_s >= 1 else "it has not answered before either"
