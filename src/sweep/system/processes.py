"""Processes of this host. Process numbers are used again, so a process is known by its start time too."""

from __future__ import annotations

import os
from pathlib import Path


def born(pid: int) -> str | None:
    """Start time of a process of this host, in the kernel's own unit; None: there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
        return _alive(pid)
    return None if fields[0] == "Z" else fields[19]


def _alive(pid: int) -> str | None:
    """Replacement for a start time on systems without /proc, such as macOS."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"
