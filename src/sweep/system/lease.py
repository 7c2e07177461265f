"""A lease: the right of one living process to work on something, on a file system that several hosts may share.

Ours, and not flufl.lock: that has no heartbeat, doesn't free a dead holder's lock at once, compares the clocks of
several hosts, and doesn't tell a process that slept that it lost its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sweep.domain.digests import digest
from sweep.system import stop_signals
from sweep.system.disk import share_like
from sweep.system.files import write_durably
from sweep.system.processes import Process, this_process

log = logging.getLogger(__name__)

FILE = "lease.json"
"""A run's lease, in its own folder: whoever sees the run sees whether it lives."""
LOCK = ".lock"
HEARTBEAT_S = 5.0
EXPIRY_S = 60.0
"""A lease without a heartbeat for this long is free. If its holder died at the same place it is free at once."""


class LeaseLost(RuntimeError):
    """Another process holds the lease that this one had: stop writing."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that a lease's file names."""

    token: str
    """Differs from taking to taking."""
    host: str
    """For people; containers may share a name."""
    place: str
    """As `processes.place` gives it; "": written by a release before this one."""
    pid: int
    born: str | None

    @property
    def is_gone(self) -> bool:
        """Whether the process has surely ended; if it may live, its heartbeat decides."""
        return bool(self.place) and Process(place=self.place, pid=self.pid, born=self.born).is_gone

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lease:
    """A file that names its holder. A heartbeat keeps it alive; it is changed only under a lock file beside it.

    Both files are gone once the lease is given back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = uuid.uuid4().hex
        self._beaten = 0.0
        self._done = threading.Event()
        self._lost = threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, daemon=True)

    def take(self) -> Holder | None:
        """Take the lease without waiting: None if it is this process's now, else the living holder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(self._lock):
            if (holder := self.holder()) is not None:
                return holder
            self._write()
        self._beaten = time.time()
        self._beat.start()
        return None

    @property
    def _lock(self) -> Path:
        return self.path.with_name(self.path.name + LOCK)

    @contextlib.contextmanager
    def waited_for(self, what: str, *, poll_s: float = 0.5) -> Iterator[Lease]:
        """Hold the lease within the block, waiting while another process has it; Stopped if asked to stop meanwhile.

        `what` is said in the log if it is waited for.
        """
        waited = False
        while (holder := self.take()) is not None:
            if not waited:
                log.info("waiting for %s, which is working on %s", holder, what)
                waited = True
            stop_signals.pause(poll_s)
        try:
            yield self
        finally:
            self.release()

    def release(self) -> None:
        """Give the lease back, unless another process has taken it over."""
        self._done.set()
        self._beat.join()
        try:
            with exclusive(self._lock):
                holder = self.named()
                if holder is not None and holder.token == self.token:
                    self._remove()
        except OSError as error:  # it ends with this process, and a minute later for other hosts
            log.warning("%s was not given back: %s", self.path, error)

    def check(self) -> None:
        """Raise LeaseLost if another process has taken over. After a suspend, the file is read again first."""
        if abs(time.time() - self._beaten) > 2 * HEARTBEAT_S:  # time.monotonic stands still while a machine sleeps
            with contextlib.suppress(OSError):  # the heartbeat logs it
                self._renew()
        if self._lost.is_set():
            raise LeaseLost(f"{self.path.name} was taken over by {self.named() or 'a process that has ended'}")

    def named(self) -> Holder | None:
        """The last holder, dead or alive; None if nobody holds the lease, or its file is damaged."""
        try:
            fields = json.loads(self.path.read_bytes())
            holder = Holder(
                token=str(fields["token"]),
                host=str(fields["host"]),
                place=str(fields.get("place", "")),
                pid=int(fields["pid"]),
                born=fields["born"],
            )
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        return holder if fields.get("sum", _sum(holder)) == _sum(holder) else None

    def holder(self) -> Holder | None:
        """The living process that has the lease, this one or another; None: it is free."""
        holder = self.named()
        if holder is None or holder.is_gone:
            return None
        with contextlib.suppress(FileNotFoundError):  # released meanwhile
            if self._clock() - self.path.stat().st_mtime < EXPIRY_S:
                return holder
        return None

    def is_held(self) -> bool:
        """Whether a living process, this one or another, has the lease."""
        return self.holder() is not None

    def tidy(self) -> None:
        """Remove the files of a lease that nobody holds."""
        with exclusive(self._lock):
            if not self.is_held():
                self._remove()

    def _remove(self) -> None:
        """Remove both files, under the lock."""
        self.path.unlink(missing_ok=True)
        self._lock.unlink(missing_ok=True)

    def _write(self) -> None:
        me = this_process()
        holder = Holder(token=self.token, host=socket.gethostname(), place=me.place, pid=me.pid, born=me.born)
        write_durably(self.path, json.dumps({**asdict(holder), "sum": _sum(holder)}))
        share_like(self.path, self.path.parent)

    def _clock(self) -> float:
        """Now, by the clock of the file system, which also stamps the heartbeats: the clocks of hosts differ."""
        try:
            with tempfile.TemporaryFile(dir=self.path.parent) as probe:  # has no name, so that a kill leaves nothing
                return os.fstat(probe.fileno()).st_mtime
        except OSError:  # somebody who may only read asks whether the lease is held
            return time.time()

    def _keep_alive(self) -> None:
        while not self._lost.is_set() and not self._done.wait(HEARTBEAT_S):
            try:
                self._renew()
            except OSError as error:  # the file system comes back, or the lease expires
                log.warning("the heartbeat of %s failed: %s", self.path.name, error)

    def _renew(self) -> None:
        """Beat. A file that names nobody was damaged while nobody else took the lease: it is written again."""
        with exclusive(self._lock):
            holder = self.named()
            if holder is None and self.path.exists():
                self._write()
            elif holder is None or holder.token != self.token:
                self._lost.set()
                return
            os.utime(self.path)
            self._beaten = time.time()


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Only one process at a time is within such a block of one lock file; whoever is within may remove the file.

    A file that was removed while this process waited for it locks nothing any more: the next one is taken.
    """
    while True:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if os.fstat(fd).st_uid == os.geteuid():  # whoever may write to the folder may lock
                os.fchmod(fd, 0o600 | lock.parent.stat().st_mode & 0o666)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_file(fd, lock):
                break
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    try:
        yield
    finally:
        os.close(fd)


def run_lease(run_folder: Path) -> Lease:
    """The lease of the run in this folder, the same one however the folder's path is spelt."""
    return Lease(run_folder.resolve() / FILE)


def is_alive(run_folder: Path) -> bool:
    """Whether a living process works on the run in this folder: it holds the run's lease."""
    return run_lease(run_folder).is_held()


def _sum(holder: Holder) -> str:
    return digest("lease", asdict(holder))


def _is_file(fd: int, path: Path) -> bool:
    """Whether the open file is the one that has this path."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), path.stat())
    return False
