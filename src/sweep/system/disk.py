"""Whether the disk has room and lets this user write; if not, one line that says where, who, and what to do."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from sweep.domain.errors import Refusal

GO_ON = "the same command goes on where this one stopped"
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def check_room(folder: Path, needed: float, what: str) -> None:
    """Refusal if the disk of this folder, which need not exist yet, has less than `needed` free bytes.

    `what` needs them, such as "this sweep".
    """
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise Refusal(
            f"{what} needs about {size_text(needed)} of disk, and {size_text(free)} are free at {folder}: free some "
            "(sweep space shows what the store holds), or choose another disk with SWEEP_STORE; anneal.keep=false "
            "keeps no annealed states"
        )


def check_writable(paths: Iterable[Path]) -> None:
    """Refusal if this user may not write to one of these files and folders, or make it if it doesn't exist yet."""
    for path in paths:
        there = _existing(path)
        if not os.access(there, os.R_OK | os.W_OK | (os.X_OK if there.is_dir() else 0)):
            raise Refusal(_forbidden(there))


def explained(error: OSError) -> str | None:
    """One line for a full disk, or for a file that this user may not write; None for other errors."""
    path = error.filename if isinstance(error.filename, str) else os.fspath(error.filename or "")
    if error.errno in FULL:
        place = f"{path}: " if path else ""
        return f"{place}no space is left on this disk: free some (sweep space shows what the store holds); {GO_ON}"
    if error.errno in FORBIDDEN and path:
        return _forbidden(_existing(Path(path)))
    return None


def is_full(folder: Path, error: BaseException) -> bool:
    """Whether an error, which may be of a library that has its own, says that the disk of this folder is full."""
    numbers = [f"os error {number}" for number in FULL] + [f"code: {number}" for number in FULL]
    said = any(words in str(error) for words in ("No space left", "quota exceeded", *numbers))
    return said or (isinstance(error, OSError) and error.errno in FULL)


def share_like(path: Path, like: Path) -> None:
    """Let others do with `path` what they may do with the folder `like`, whatever this process's umask is."""
    allowed = stat.S_IMODE(like.stat().st_mode)
    if not path.is_dir():
        allowed &= 0o666
    now = stat.S_IMODE(path.stat().st_mode)
    if now | allowed != now:
        path.chmod(now | allowed)


def make_shared(folder: Path, like: Path) -> None:
    """Make a folder, and those above it up to `like`, which let others do what they may do with `like`."""
    if not folder.is_dir():
        if folder != like:
            make_shared(folder.parent, like)
        folder.mkdir(parents=True, exist_ok=True)
        if folder != like:
            share_like(folder, like)


def _forbidden(path: Path) -> str:
    """Why this user may not write to an existing file or folder, and what to do."""
    found = path.stat()
    mode, owner, me = stat.filemode(found.st_mode), _name(found.st_uid), _name(os.geteuid())
    if os.access(path, os.W_OK) is False and found.st_uid == os.geteuid() and found.st_mode & stat.S_IWUSR:
        return f"{path} is on a disk that can only be read: choose a store elsewhere with SWEEP_STORE"
    return (
        f"{path} belongs to {owner} and is {mode}, so {me} may not write to it: ask {owner} for chmod -R g+rwX on it, "
        "or choose a store of your own with SWEEP_STORE and work in a folder of your own"
    )


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists and may be looked at."""
    path = path.absolute()
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def size_text(number: float) -> str:
    """A number of bytes for people, in GB or MB."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e8 else f"{number / 1e6:,.1f} MB"
