"""Processes of this host, told apart from later ones of the same number."""

from __future__ import annotations

import os
from pathlib import Path


def born(pid: int) -> str | None:
    """Start time of a process of this host, to tell it from a later one with the same number; None: no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
        return _alive(pid)
    return None if fields[0] == "Z" else fields[19]


def _alive(pid: int) -> str | None:
    """Stand-in for a start time where there is no /proc (macOS)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"
