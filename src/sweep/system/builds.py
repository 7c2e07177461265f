"""Builds: versions of torch and kinds of CPU or GPU, which decide the last bits of what they compute.

The store lists the builds that have worked on it, so that what another build has made can be found by its key.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from sweep.domain.digests import digest
from sweep.system.store import Store

KIND, FILE = "builds", "build.txt"
BF16 = ("amx_bf16", "avx512_bf16")
"""Instructions of a CPU that compute bf16 products in another way."""


def cpu_build(torch: str, capability: str, precision: str) -> str:
    """The build on this CPU; `capability` is the set of instructions that torch has chosen.

    The vendor is a part of it because MKL chooses by it too, and instructions for bf16 are if they are used.
    """
    info = _cpu_info()
    vendor = re.search(r"^(?:vendor_id|CPU implementer)\s*:\s*(\S+)", info, re.MULTILINE)
    words = [f"torch {torch}", *([vendor[1]] if vendor else []), capability]
    return " ".join([*words, *(word for word in BF16 if precision == "bf16" and f" {word}" in info)])


def gpu_build(torch: str, model: str) -> str:
    """The build on a GPU of this model."""
    return f"torch {torch} {model}"


def record(store: Store, build: str) -> None:
    """Put the build on the store's list."""

    def write(folder: Path) -> None:
        (folder / FILE).write_text(build)

    store.make(KIND, digest(KIND, build), write)


def recorded(store: Store) -> list[str]:
    """All builds on the store's list."""
    folders = [folder for key in sorted(store.keys(KIND)) if (folder := store.get(KIND, key)) is not None]
    return [(folder / FILE).read_text() for folder in folders]


@cache
def _cpu_info() -> str:
    """What Linux says of its first CPU; empty elsewhere."""
    file = Path("/proc/cpuinfo")
    return file.read_text().partition("\n\n")[0] if file.is_file() else ""
