"""A content-addressed store of folders: whole or absent, digest-checked, leased; safe for several processes and hosts.

An entry is `ROOT/KIND/KEY/`, its files plus `entry.json` (their sizes and SHA-256). It appears by one rename.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweep.system import stop_signals
from sweep.system.files import file_digest, fsync, write_durably
from sweep.system.lease import Lease
from sweep.system.processes import born

log = logging.getLogger(__name__)

MANIFEST = "entry.json"


@dataclass(frozen=True)
class Entry:
    """One stored folder, for `usage`."""

    kind: str
    key: str
    bytes: int


class Store:
    """The store at `root`; made on first use."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self._verified: set[Path] = set()

    def path(self, kind: str, key: str) -> Path:
        """Where the entry is, or would be."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the entry is there; its digest is checked by `get`."""
        return (self.path(kind, key) / MANIFEST).is_file()

    def keys(self, kind: str) -> set[str]:
        """Keys of all entries of a kind, unchecked."""
        with contextlib.suppress(FileNotFoundError):
            return {name for name in os.listdir(self.root / kind) if not name.startswith(".")}
        return set()

    def get(self, kind: str, key: str) -> Path | None:
        """The entry's folder, its digests checked once a process; None where absent. A damaged one is set aside."""
        path = self.path(kind, key)
        if not self.has(kind, key):
            return None
        if path in self._verified:
            return path
        try:
            damage = _damage(path)
        except OSError as error:
            damage = str(error)
        if damage is None:
            self._verified.add(path)
            return path
        log.warning("%s is damaged (%s): set aside, it will be made again", path, damage)
        self._set_aside(path)
        return None

    def digests(self, kind: str, key: str) -> dict[str, str]:
        """File -> SHA-256 of an entry that `get` has given."""
        manifest = json.loads((self.path(kind, key) / MANIFEST).read_text())
        return {name: sha for name, (_, sha) in manifest.items()}

    @contextlib.contextmanager
    def writing(self, kind: str, key: str) -> Iterator[Path]:
        """A folder to fill; it becomes the entry when the block ends well, and vanishes when it doesn't."""
        target = self.path(kind, key)
        part = target.parent / f".{key}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex}.part"
        part.mkdir(parents=True)
        try:
            yield part
            _seal(part)
            self._publish(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def make(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """The entry's folder, built by `build(folder)` where absent; of several processes, one builds."""
        return self.make_all(kind, {key: build})[key]

    def make_all(
        self, kind: str, builds: Mapping[str, Callable[[Path], None]], *, poll_s: float = 0.2
    ) -> dict[str, Path]:
        """The folders of all entries, the absent ones built; processes that want the same ones share the work."""
        found: dict[str, Path] = {}
        while len(found) < len(builds):
            before = len(found)
            for key in [key for key in builds if key not in found]:
                if (folder := self.get(kind, key) or self._try_build(kind, key, builds[key])) is not None:
                    found[key] = folder
            if len(found) == before:
                stop_signals.pause(poll_s)
        return found

    def drop(self, kind: str, key: str) -> None:
        """Remove an entry; absent is fine."""
        path = self.path(kind, key)
        self._verified.discard(path)
        self._set_aside(path, keep=False)

    def move(self, kind: str, key: str, to: str) -> None:
        """Give an entry another kind; where that exists already, the entry stays as it is."""
        target = self.path(to, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            os.rename(self.path(kind, key), target)
            self._verified.discard(self.path(kind, key))

    def usage(self) -> tuple[Entry, ...]:
        """All entries with their sizes, largest first."""
        entries = [
            Entry(kind.name, key, _bytes(kind / key))
            for kind in self.root.iterdir()
            if kind.is_dir() and kind.name != "leases"
            for key in self.keys(kind.name)
        ]
        return tuple(sorted(entries, key=lambda e: -e.bytes))

    def tidy(self) -> int:
        """Remove what killed writers of this host left half-written, and what was set aside as damaged; bytes freed."""
        freed = 0
        for folder in self.root.glob("*/.*"):
            if folder.suffix == ".damaged" or (folder.suffix == ".part" and _abandoned(folder.name)):
                freed += _bytes(folder)
                shutil.rmtree(folder, ignore_errors=True)
        return freed

    @contextlib.contextmanager
    def lease(self, kind: str, key: str, *, poll_s: float = 0.5) -> Iterator[Lease]:
        """Hold the right to work on an entry; waits while a living holder has it."""
        lease = self._lease(kind, key)
        waited = False
        while not lease.acquire():
            if not waited:
                log.info("waiting for %s, which is working on %s/%s", lease.holder(), kind, key)
                waited = True
            stop_signals.pause(poll_s)
        try:
            yield lease
        finally:
            lease.release()

    def leased(self, kind: str, key: str) -> bool:
        """Whether a living process holds the lease of an entry."""
        return self._lease(kind, key).is_held()

    def _try_build(self, kind: str, key: str, build: Callable[[Path], None]) -> Path | None:
        """Build the entry; None where another process is at it."""
        lease = self._lease(kind, key)
        if not lease.acquire():
            return None
        try:
            if (found := self.get(kind, key)) is not None:
                return found
            with self.writing(kind, key) as part:
                build(part)
            return self.get(kind, key)
        finally:
            lease.release()

    def _lease(self, kind: str, key: str) -> Lease:
        folder = self.root / "leases"
        folder.mkdir(parents=True, exist_ok=True)
        return Lease(folder / f"{kind}-{key}")

    def _publish(self, part: Path, target: Path) -> None:
        try:
            os.rename(part, target)
        except OSError:
            if (target / MANIFEST).is_file():
                return  # somebody published the same content first
            self._set_aside(target)
            os.rename(part, target)
        fsync(target.parent)

    def _set_aside(self, path: Path, *, keep: bool = True) -> None:
        self._verified.discard(path)
        aside = path.parent / f".{path.name}.{uuid.uuid4().hex}.damaged"
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
            if not keep:
                shutil.rmtree(aside, ignore_errors=True)


def store_at(multirun: Path) -> Store:
    """The store: where SWEEP_STORE says, else beside the runs."""
    return Store(os.environ.get("SWEEP_STORE") or multirun / "store")


def _bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def _abandoned(part: str) -> bool:
    """Whether the writer of a part folder, named in it, was of this host and is gone."""
    writer = part.split(".", 2)[2]
    host, pid, _unique, _ending = writer.rsplit(".", 3)
    return host == socket.gethostname() and born(int(pid)) is None


def _seal(folder: Path) -> None:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    manifest = {str(f.relative_to(folder)): [f.stat().st_size, file_digest(f)] for f in files}
    for f in files:
        fsync(f)
    write_durably(folder / MANIFEST, json.dumps(manifest, indent=1))
    fsync(folder)


def _damage(folder: Path) -> str | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except json.JSONDecodeError:
        return "its manifest is unreadable"
    for name, (size, sha) in manifest.items():
        f = folder / name
        if not f.is_file():
            return f"{name} is missing"
        if f.stat().st_size != size or file_digest(f) != sha:
            return f"{name} has changed"
    return None
