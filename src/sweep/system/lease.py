"""A lease: the right of one living process to work on something, on a file system that several hosts may share.

Ours, and not flufl.lock: that has no heartbeat, doesn't free a dead holder's lock at once, compares the clocks of
several hosts, and doesn't tell a process that slept that it lost its lock.
"""

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
from typing import Any

from filelock import FileLock

from sweep.system.files import write_durably
from sweep.system.processes import born

log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
EXPIRY_S = 60.0
"""A lease without a heartbeat for this long is free. If its holder died on this host it is free at once."""


class LeaseLost(RuntimeError):
    """Another process holds the lease that this one had: stop writing."""


class Lease:
    """A file that names its holder. A heartbeat keeps it alive; it is changed only under a lock file beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = uuid.uuid4().hex
        self._lock = FileLock(f"{path}.lock")
        self._beaten = 0.0
        self._done = threading.Event()
        self._lost = threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, daemon=True)

    def acquire(self) -> bool:
        """Take the lease if it is free or its holder is dead; False if a living process has it."""
        with self._lock:
            if self.is_held():
                return False
            me = {"token": self.token, "host": socket.gethostname(), "pid": os.getpid(), "born": born(os.getpid())}
            write_durably(self.path, json.dumps(me))
        self._beaten = time.time()
        self._beat.start()
        return True

    def release(self) -> None:
        """Give the lease back, unless another process has taken it over."""
        self._done.set()
        self._beat.join()
        with self._lock:
            if self._current().get("token") == self.token:
                self.path.unlink()

    def check(self) -> None:
        """Raise LeaseLost if another process has taken over. After a suspend, the file is read again first."""
        if abs(time.time() - self._beaten) > 2 * HEARTBEAT_S:  # time.monotonic stands still while a machine sleeps
            with contextlib.suppress(OSError):  # the heartbeat logs it
                self._renew()
        if self._lost.is_set():
            raise LeaseLost(f"{self.path.name} was taken over by {self.holder()}")

    def holder(self) -> str:
        """The holder, in words."""
        holder = self._current()
        return f"process {holder['pid']} on {holder['host']}" if holder else "nobody"

    def _current(self) -> dict[str, Any]:
        """What the file says of the holder; empty if nobody holds the lease, or the file is damaged."""
        try:
            holder = json.loads(self.path.read_bytes())
            return {"token": str(holder["token"]), "host": str(holder["host"]), "pid": int(holder["pid"]),
                    "born": holder["born"]}  # fmt: skip
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return {}

    def is_held(self) -> bool:
        """Whether a living process, this one or another, has the lease."""
        holder = self._current()
        if not holder or (holder["host"] == socket.gethostname() and born(holder["pid"]) != holder["born"]):
            return False
        with contextlib.suppress(FileNotFoundError):  # released meanwhile
            return self._clock() - self.path.stat().st_mtime < EXPIRY_S
        return False

    def _clock(self) -> float:
        """Now, by the clock of the file system, which also stamps the heartbeats: the clocks of hosts differ."""
        probe = self.path.with_suffix(f".{self.token}.clock")
        try:
            probe.touch()
        except OSError:  # somebody who may only read asks whether the lease is held
            return time.time()
        now = probe.stat().st_mtime
        probe.unlink()
        return now

    def _keep_alive(self) -> None:
        while not self._lost.is_set() and not self._done.wait(HEARTBEAT_S):
            try:
                self._renew()
            except OSError as error:  # the file system comes back, or the lease expires
                log.warning("the heartbeat of %s failed: %s", self.path.name, error)

    def _renew(self) -> None:
        with self._lock:
            if self._current().get("token") == self.token:
                os.utime(self.path)
                self._beaten = time.time()
            else:
                self._lost.set()
