"""A lease: the right to work on something, held by a living process, on a file system that several hosts may share."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path

from filelock import FileLock

from sweep.system.files import write_durably
from sweep.system.processes import born

log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
EXPIRY_S = 60.0
"""A lease without a heartbeat for this long is free; a holder that died on this host frees it at once."""


class LeaseLost(RuntimeError):
    """Somebody else holds what this process was working on: stop writing."""


class Lease:
    """A file naming its holder, kept alive by a heartbeat; changed only under a lock beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = uuid.uuid4().hex
        self._lock = FileLock(f"{path}.lock")
        self._beaten = 0.0
        self._done = threading.Event()
        self._lost = threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, daemon=True)

    def acquire(self) -> bool:
        """Take the lease where it is free or its holder dead; False where a living one has it."""
        with self._lock:
            if self.is_held():
                return False
            me = {"token": self.token, "host": socket.gethostname(), "pid": os.getpid(), "born": born(os.getpid())}
            write_durably(self.path, json.dumps(me))
        self._beaten = time.time()
        self._beat.start()
        return True

    def release(self) -> None:
        """Give the lease back; somebody else's is left alone."""
        self._done.set()
        self._beat.join()
        with self._lock:
            if self._current().get("token") == self.token:
                self.path.unlink()

    def check(self) -> None:
        """Raise LeaseLost where somebody else has taken over; one that slept looks before it believes itself."""
        if (
            abs(time.time() - self._beaten) > 2 * HEARTBEAT_S
        ):  # the clock on the wall: it goes on while a machine sleeps
            with contextlib.suppress(OSError):  # the heartbeat tells of it
                self._renew()
        if self._lost.is_set():
            raise LeaseLost(f"{self.path.name} was taken over by {self.holder()}")

    def holder(self) -> str:
        """Who has it, for people."""
        now = self._current()
        return f"process {now['pid']} on {now['host']}" if now else "nobody"

    def _current(self) -> dict:
        try:
            return json.loads(self.path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def is_held(self) -> bool:
        """Whether a living process has it, this one or another."""
        now = self._current()
        if not now:
            return False
        if now["host"] == socket.gethostname() and born(now["pid"]) != now["born"]:
            return False
        with contextlib.suppress(FileNotFoundError):  # given back meanwhile
            return self._clock() - self.path.stat().st_mtime < EXPIRY_S
        return False

    def _clock(self) -> float:
        """Now by the clock of the file system that stamps the heartbeats; hosts' clocks differ."""
        probe = self.path.with_suffix(f".{self.token}.clock")
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        return now

    def _keep_alive(self) -> None:
        while not self._lost.is_set() and not self._done.wait(HEARTBEAT_S):
            try:
                self._renew()
            except OSError as error:  # a file system that is away comes back, or the lease expires for others
                log.warning("the heartbeat of %s failed: %s", self.path.name, error)

    def _renew(self) -> None:
        with self._lock:
            if self._current().get("token") == self.token:
                os.utime(self.path)
                self._beaten = time.time()
            else:
                self._lost.set()
