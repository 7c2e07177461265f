"""Sends journals to MLflow from a process of its own, so that no tracker can slow, hang or stop a run.

That process is `sweep.tracking.sender`. It gets the path of a folder, a line each, and answers each with a line.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import select
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from sweep.tracking.journal import has_ended
from sweep.tracking.place import VARIABLE, Place, sqlite_file

log = logging.getLogger(__name__)

DELAY_S = float(os.environ.get("SWEEP_TRACKING_DELAY_S", "10"))
"""Seconds that a run may wait at its end until MLflow has everything.

Time that was waited in vain is used up, and comes back second by second.
"""


class Background:
    """The process that sends journals to one MLflow, and the time that may still be spent waiting for it.

    One process serves several runs, one after another, as starting it takes seconds of imports.
    """

    def __init__(self, place: Place) -> None:
        self.queue: list[Path] = []
        """Folders given to the process that it has not answered yet, the oldest first."""
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None
        self._budget_full_at = 0.0
        """When the whole of DELAY_S may be waited again, on the monotonic clock."""
        atexit.register(self.close)

    @property
    def is_running(self) -> bool:
        """Whether there is a process that the next folder would be given to."""
        return self._process is not None and self._process.poll() is None

    def send(self, folder: Path) -> bool:
        """Queue the folder of a run or a sweep; False, and a warning, if no process can be started."""
        if not self.is_running:
            self.wait()  # a process that somebody has ended may have left folders unsent
            self.stop()
            try:
                self._process = self._start()
            except OSError as error:
                log.warning("nothing can be sent to MLflow: %s", error)
                return False
        assert self._process and self._process.stdin
        self.queue.append(folder)
        with contextlib.suppress(BrokenPipeError):  # it has ended: `answer` will say so
            self._process.stdin.write(os.fsencode(folder) + b"\n")
        return True

    def answer(self, within_s: float) -> str:
        """Why MLflow lacks something of the oldest queued folder; "" if it has everything.

        Raises TimeoutError if the answer takes longer, and EOFError if the process has ended.
        """
        assert self._process and self._process.stdout
        if not select.select([self._process.stdout], [], [], max(0.0, within_s))[0]:
            raise TimeoutError
        if not (line := self._process.stdout.readline()):
            raise EOFError(f"its process ended with code {self._process.wait()}")
        self.queue.pop(0)
        return line.decode(errors="replace").strip()

    def wait(self, *, unanswered: int = 0) -> bool:
        """Wait until the process has answered all folders but the last `unanswered`.

        False, and one warning, if MLflow lacks something then. A process that takes too long is ended.
        """
        if len(self.queue) <= unanswered:
            return True
        started = time.monotonic()
        budget_s = DELAY_S - max(0.0, self._budget_full_at - started)
        unsent: dict[Path, str] = {}
        while len(self.queue) > unanswered:
            folder = self.queue[0]
            try:
                reason = self.answer(started + budget_s - time.monotonic())
            except (TimeoutError, EOFError) as error:
                slow = f"it took longer than {budget_s:.0f} s" if budget_s >= 1 else "it did not answer before either"
                unsent |= dict.fromkeys(self.queue, str(error) or slow)
                self.stop()
            else:
                unsent |= {folder: reason} if reason else {}
        self._budget_full_at = 0.0
        if unsent:
            now = time.monotonic()
            self._budget_full_at = now + DELAY_S - max(0.0, started + budget_s - now)
            _warn(unsent)
        return not unsent

    def stop(self) -> None:
        """End the process at once; what is queued is not sent."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process, self.queue = None, []

    def close(self) -> None:
        """Leave the process alone with what is queued, after which it ends; end it if nothing is queued."""
        if not self.queue:
            self.stop()
            return
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of a process that still runs: it is meant to
            self._process, self.queue = None, []

    def _start(self) -> subprocess.Popen[bytes]:
        """The process, out of the terminal's reach: Ctrl-C ends the run, and its outcome is still sent."""
        command = [sys.executable, "-m", "sweep.tracking.sender", str(os.getpid())]
        return subprocess.Popen(
            [*command, self._place.experiment, str(self._place.artifact_root)],
            bufsize=0,  # else `select` would not see an answer that is in a buffer already
            env={**os.environ, VARIABLE: self._place.tracking_uri},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


@functools.cache
def background(place: Place) -> Background:
    """The one Background of this process for a place."""
    return Background(place)


_overlapping: ContextVar[set[Background] | None] = ContextVar("_overlapping", default=None)
"""The places that runs have been sent to in this `overlapping_runs` block; None outside of one."""


@contextlib.contextmanager
def overlapping_runs() -> Iterator[None]:
    """Within the block, a run starts while the one before it is still being sent; the block ends when all are sent.

    A run that ends with an exception is waited for at once. If one leaves the block, nothing is waited for.
    """
    places: set[Background] = set()
    token = _overlapping.set(places)
    try:
        yield
    finally:
        _overlapping.reset(token)
    for place in places:
        place.wait()


@contextlib.contextmanager
def followed(run_folder: Path, place: Place) -> Iterator[None]:
    """Within the block MLflow follows the run's journal; the block ends when it has the outcome too."""
    sender, unanswered = background(place), 0
    sender.send(run_folder)
    try:
        yield
        if (overlapping := _overlapping.get()) is not None:
            overlapping.add(sender)
            unanswered = 1
    finally:
        if has_ended(run_folder):
            sender.wait(unanswered=unanswered)
        else:  # nobody waits for a run without an outcome
            sender.wait(unanswered=1)
            sender.stop()


def bring_up_to_date(sweep_folder: Path, place: Place) -> bool:
    """Send what MLflow lacks of a sweep; False, and a warning, if that fails or takes longer than DELAY_S."""
    sender = background(place)
    return sender.send(sweep_folder) and sender.wait()


def prepare(place: Place) -> None:
    """Make a SQLite file with its schema, before several processes need it at once.

    If that takes longer than DELAY_S it goes on without being waited for. Servers and existing files have their schema.
    """
    file = sqlite_file(place.tracking_uri)
    if file is None or file.exists():
        return
    place.artifact_root.mkdir(parents=True, exist_ok=True)
    sender = background(place)
    if sender.send(place.artifact_root):  # a folder that holds no runs
        try:
            sender.answer(DELAY_S)
        except (TimeoutError, EOFError):
            sender.close()


def _warn(unsent: dict[Path, str]) -> None:
    """One warning for all folders that were not sent, with the reason of the first."""
    folders = list(unsent) if len(unsent) == 1 else sorted({folder.parent for folder in unsent})
    reason, names = next(iter(unsent.values())), " ".join(map(str, folders))
    log.warning("not yet sent to MLflow (%s); the journals have it all: sweep sync %s", reason, names)
