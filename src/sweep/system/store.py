"""A content-addressed store of folders that several processes and hosts may use at once.

An entry is `ROOT/KIND/KEY/`: its files, and `entry.json` with their sizes and SHA-256. One rename publishes it, so that
it is whole or absent; damage is noticed when it is read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from sweep.system import stop_signals
from sweep.system.claims import Claims
from sweep.system.disk import is_full, make_shared, share_like
from sweep.system.files import DAMAGED, file_digest, fsync, patiently, read_bytes, write_durably
from sweep.system.lease import LOCK, Lease
from sweep.system.processes import parse_process, this_process

log = logging.getLogger(__name__)

MANIFEST = "entry.json"
DROPPED = ".dropped"
"""Ending of a folder that is being deleted."""
LEASES = "leases"
ABANDONED_S = 24 * 3600.0
"""An unfinished folder of another host, or of a container, is left alone for this long after its last change."""


@dataclass(frozen=True)
class Entry:
    """One stored folder and its size."""

    kind: str
    key: str
    bytes: int


class Store:
    """The store in the folder `root`, which is made on first use."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self.claims = Claims(self.root / LEASES)
        self._verified: set[Path] = set()

    def path(self, kind: str, key: str) -> Path:
        """The entry's folder, whether or not it exists."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the entry exists; only `get` checks its digests."""
        return (self.path(kind, key) / MANIFEST).is_file()

    def keys(self, kind: str) -> set[str]:
        """Keys of all entries of a kind, their digests not checked."""
        with contextlib.suppress(FileNotFoundError):
            return {name for name in os.listdir(self.root / kind) if not name.startswith(".")}
        return set()

    def get(self, kind: str, key: str) -> Path | None:
        """The entry's folder; None if it is absent, or damaged, in which case it is set aside.

        Each process checks an entry's digests once. OSError if the file system can't be read: that is no damage.
        """
        path = self.path(kind, key)
        if not self.has(kind, key):
            return None
        if path in self._verified:
            return path
        try:
            damage = patiently(lambda: _damage(path))
        except FileNotFoundError:  # deleted meanwhile
            return None
        if damage is None:
            self._verified.add(path)
            return path
        aside = self._set_aside(path, DAMAGED)
        log.warning("%s is damaged (%s): set aside as %s, and made again if it can be", path, damage, aside)
        return None

    def was_damaged(self, kind: str, key: str) -> bool:
        """Whether the entry was set aside as damaged or has lost its manifest, and has not been made again."""
        if self.has(kind, key):
            return False
        return self.path(kind, key).exists() or any((self.root / kind).glob(f".{key}.*{DAMAGED}"))

    def damaged_keys(self, kind: str) -> set[str]:
        """The keys of a kind for which `was_damaged` is true; faster than to ask for many."""
        folder = self.root / kind
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return set()
        set_aside = {name[1:].partition(".")[0] for name in names if name[:1] == "." and name.endswith(DAMAGED)}
        lacking = {n for n in names if n[:1] != "." and not os.access(f"{folder}/{n}/{MANIFEST}", os.F_OK)}
        return lacking | {key for key in set_aside if not self.has(kind, key)}

    def digests(self, kind: str, key: str) -> dict[str, str]:
        """File -> SHA-256 of an entry that `get` has returned."""
        manifest = json.loads(read_bytes(self.path(kind, key) / MANIFEST))
        return {name: sha for name, (_, sha) in manifest.items()}

    @contextlib.contextmanager
    def writing(self, kind: str, key: str) -> Iterator[Path]:
        """A folder to fill: published as the entry when the block ends, deleted if the block raises."""
        with self.unfinished(kind, key) as part:
            try:
                yield part
                seal(part, self.root)
            except Exception as error:  # a library has errors of its own for a full disk
                if is_full(part, error):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part.parent)) from error
                raise
            self._publish(part, self.path(kind, key))

    @contextlib.contextmanager
    def unfinished(self, kind: str, key: str) -> Iterator[Path]:
        """A folder beside the entry, deleted when the block ends if it is still there."""
        part = self.path(kind, key).parent / f".{key}.{this_process()}.{uuid.uuid4().hex}.part"
        make_shared(part, self.root)
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def make(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """The entry's folder; if absent, `build(folder)` fills it, in one process only."""
        return self.make_all(kind, {key: build})[key]

    def make_all(
        self, kind: str, builds: Mapping[str, Callable[[Path], None]], *, poll_s: float = 0.2
    ) -> dict[str, Path]:
        """The folders of all entries; absent ones are built, and processes that want the same ones share the work."""
        folders: dict[str, Path] = {}
        while len(folders) < len(builds):
            before = len(folders)
            for key in [key for key in builds if key not in folders]:
                if (folder := self.get(kind, key) or self._try_build(kind, key, builds[key])) is not None:
                    folders[key] = folder
            if len(folders) == before:
                stop_signals.pause(poll_s)
        return folders

    def drop(self, kind: str, key: str) -> bool:
        """Remove an entry, if it exists; False if a living process claims its key, so that it stays."""
        with self.claims.undisputed(key) as free:
            aside = self._set_aside(self.path(kind, key), DROPPED) if free else None
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        return free

    def link(self, kind: str, key: str, to: str) -> None:
        """Give an entry a second kind; its files are the same ones, where the file system has hard links."""
        with self.unfinished(to, key) as part:
            shutil.copytree(self.path(kind, key), part, copy_function=_linked, dirs_exist_ok=True)
            self._publish(part, self.path(to, key))

    def usage(self) -> tuple[Entry, ...]:
        """All entries with their sizes, largest first."""
        entries = [
            Entry(kind.name, key, _bytes(kind / key))
            for kind in self.root.iterdir()
            if kind.is_dir() and kind.name != LEASES
            for key in self.keys(kind.name)
        ]
        return tuple(sorted(entries, key=lambda e: -e.bytes))

    def damaged(self) -> tuple[Entry, ...]:
        """The entries that were set aside as damaged."""
        return tuple(Entry(f.parent.name, f.name, _bytes(f)) for f in self.root.glob(f"*/.*{DAMAGED}"))

    def delete_damaged(self) -> int:
        """Delete the entries that were set aside as damaged; the bytes freed."""
        entries = self.damaged()
        for entry in entries:
            shutil.rmtree(self.path(entry.kind, entry.key), ignore_errors=True)
        return sum(entry.bytes for entry in entries)

    def tidy(self) -> int:
        """Remove unfinished folders and leases of dead processes, and half-deleted entries; the bytes freed."""
        freed = 0
        for folder in self.root.glob("*/.*"):
            if folder.suffix == DROPPED or (folder.suffix == ".part" and _abandoned(folder)):
                freed += _bytes(folder)
                shutil.rmtree(folder, ignore_errors=True)
        for path in {path.with_name(path.name.removesuffix(LOCK)) for path in self.root.glob(f"{LEASES}/*")}:
            with contextlib.suppress(OSError):  # another user's
                Lease(path).tidy()
        return freed

    def lease(self, kind: str, key: str, *, poll_s: float = 0.5) -> AbstractContextManager[Lease]:
        """Hold the right to work on an entry within the block; waits while another process has it."""
        return self._lease(kind, key).waited_for(f"{kind}/{key}", poll_s=poll_s)

    def leased(self, kind: str, key: str) -> bool:
        """Whether a living process holds the lease of an entry."""
        return self._lease(kind, key).is_held()

    def _try_build(self, kind: str, key: str, build: Callable[[Path], None]) -> Path | None:
        """The entry's folder, built if absent; None if another process is building it."""
        lease = self._lease(kind, key)
        if lease.take() is not None:
            return None
        try:
            if (folder := self.get(kind, key)) is not None:
                return folder
            with self.writing(kind, key) as part:
                build(part)
            return self.get(kind, key)
        finally:
            lease.release()

    def _lease(self, kind: str, key: str) -> Lease:
        make_shared(self.root / LEASES, self.root)
        return Lease(self.root / LEASES / f"{kind}-{key}")

    def _publish(self, part: Path, target: Path) -> None:
        try:
            os.rename(part, target)
        except OSError:
            if (target / MANIFEST).is_file():
                return  # somebody published the same content first
            aside = self._set_aside(target, DAMAGED)
            log.warning("%s is damaged (it has no manifest): set aside as %s, and made again", target, aside)
            os.rename(part, target)
        fsync(target.parent)

    def _set_aside(self, path: Path, suffix: str) -> Path | None:
        """Rename an entry so that it is absent; its new path, or None if there was none."""
        self._verified.discard(path)
        aside = path.parent / f".{path.name}.{uuid.uuid4().hex}{suffix}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
            return aside
        return None


def verified(file: Path) -> Path | None:
    """A file of an entry of any store, by its path; None if the entry is absent, or damaged and set aside.

    For paths that were written down elsewhere, as those of records in journals.
    """
    folder = file.parent
    entry = Store(folder.parents[1]).get(folder.parent.name, folder.name)
    return None if entry is None else entry / file.name


def store_at(multirun: Path) -> Store:
    """The store in the folder that SWEEP_STORE names, else beside the runs."""
    return Store(os.environ.get("SWEEP_STORE") or multirun / "store")


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def _abandoned(part: Path) -> bool:
    """Whether the process that fills this folder, named in it, is gone; of one elsewhere, if a day changed nothing."""
    with contextlib.suppress(ValueError):  # named by an older release
        if parse_process(part.name.split(".")[2]).is_gone:
            return True
    with contextlib.suppress(FileNotFoundError):
        return time.time() - max(f.stat().st_mtime for f in (part, *part.rglob("*"))) > ABANDONED_S
    return True


def seal(folder: Path, root: Path) -> None:
    """Write the manifest, put everything on disk, and let others do with it what they may do with the folder `root`.

    From now on `Store.get` and `verified` check the folder.
    """
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f != folder / MANIFEST)
    assert files, f"{folder} has no file, and an entry without files can't be told from a damaged one"
    manifest = {str(f.relative_to(folder)): [f.stat().st_size, file_digest(f)] for f in files}
    for f in files:
        fsync(f)
    write_durably(folder / MANIFEST, json.dumps(manifest, indent=1))
    for path in folder.rglob("*"):
        share_like(path, root)
    fsync(folder)


def _damage(folder: Path) -> str | None:
    """What is wrong with an entry; None if nothing is. OSError if it can't be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = {str(name): (int(size), str(sha)) for name, (size, sha) in manifest.items()}
    except (ValueError, TypeError, AttributeError, OverflowError):
        return "its manifest is unreadable"
    if not files:
        return "its manifest is empty"
    for name, (size, sha) in files.items():
        f = folder / name
        if not f.is_file():
            return f"{name} is missing"
        if f.stat().st_size != size or file_digest(f) != sha:
            return f"{name} has changed"
    return None
