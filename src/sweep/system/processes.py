"""Processes, told apart over reboots, hosts and containers. Numbers are used again: start time and place tell more."""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from sweep.domain.digests import digest


def born(pid: int) -> str | None:
    """Start time of a process of this host, in the kernel's own unit; None: there is no such process, or a zombie.

    Without /proc (macOS) it is "alive". psutil's start time is not used: it moves when the clock is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return "alive" if not Path("/proc/self/stat").exists() and psutil.pid_exists(pid) else None
    return None if fields[0] == "Z" else fields[19]


@functools.cache
def place() -> str:
    """Where process numbers mean what they mean here: a digest of this boot of the kernel and this pid namespace.

    Two containers of one host name are two places. Without /proc (macOS) it is of the host's name.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return digest("place", boot, str(Path("/proc/self/ns/pid").readlink()))[:12]
    except OSError:
        return digest("place", socket.gethostname())[:12]


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process, known for good."""

    place: str
    pid: int
    born: str | None
    """As `born` gives it."""

    @property
    def is_gone(self) -> bool:
        """Whether it has surely ended. A process of another place, or one that this user may not see, may live."""
        return self.place == place() and born(self.pid) != self.born and not _is_hidden(self.pid)

    def __str__(self) -> str:
        return f"{self.place}-{self.pid}-{self.born}"


def this_process() -> Process:
    """This one."""
    return Process(place=place(), pid=os.getpid(), born=born(os.getpid()))


def parse_process(text: str) -> Process:
    """The process that `str` wrote; ValueError if it didn't."""
    where, pid, start = text.split("-")
    return Process(place=where, pid=int(pid), born=None if start == "None" else start)


def _is_hidden(pid: int) -> bool:
    """Whether a process of another user has this number, and /proc doesn't show it (hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return born(pid) is None
    except (ProcessLookupError, OverflowError):
        return False
    return False
