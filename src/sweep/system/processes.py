"""Processes of this host. Process numbers are used again, so a process is known by its start time too."""

from __future__ import annotations

from pathlib import Path

import psutil


def born(pid: int) -> str | None:
    """Start time of a process of this host, in the kernel's own unit; None: there is no such process, or a zombie.

    Without /proc (macOS) it is "alive". psutil's start time is not used: it moves when the clock is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return "alive" if not Path("/proc/self/stat").exists() and psutil.pid_exists(pid) else None
    return None if fields[0] == "Z" else fields[19]
