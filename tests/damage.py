"""Damage to files: what a disk, a full file system or a person may do to them."""

from __future__ import annotations

import shutil
from pathlib import Path


def flipped(content: bytes, bit: int) -> bytes:
    """The content with one bit changed."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flip(file: Path, bit: int) -> None:
    """Change one bit of a file."""
    file.write_bytes(flipped(file.read_bytes(), bit))


def damage(file: Path, how: str) -> None:
    """Flip a bit, empty, truncate or remove a file, or put a folder in its place."""
    content = file.read_bytes()
    match how:
        case "flipped":
            flip(file, 4 * len(content) + 3)
        case "emptied":
            file.write_bytes(b"")
        case "truncated":
            file.write_bytes(content[: 2 * len(content) // 3])
        case "removed":
            file.unlink()
        case "a folder":
            file.unlink()
            file.mkdir()
        case "gone with its folder":
            shutil.rmtree(file.parent)


HOW = ("flipped", "emptied", "truncated", "removed", "a folder")
