"""Claims: while a living process claims a key of the store, nobody drops what has this key. Many may claim one key."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sweep.system.disk import make_shared
from sweep.system.lease import LOCK, Holder, Lease, exclusive


class Claims:
    """The claims of all processes on the keys of one store, in `folder`; this process's end with `within`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own: dict[str, list[Lease]] = {}

    def claim(self, key: str) -> None:
        """From now on nobody drops what has this key, or will have it, until this process calls `unclaim` as often."""
        lease = Lease(self.folder / f"claim-{key}")
        lease.path = lease.path.with_name(f"claim-{key}.{lease.token}")
        with self._gate(key):
            taken_by = lease.take()
        assert taken_by is None, "a token is used once"
        self._own.setdefault(key, []).append(lease)

    def unclaim(self, key: str) -> None:
        """Take back one claim of this process, if there is one."""
        if self._own.get(key):
            self._own[key].pop().release()

    @contextlib.contextmanager
    def within(self) -> Iterator[None]:
        """The claims that this process makes within the block end with it."""
        try:
            yield
        finally:
            for key, leases in self._own.items():
                for _ in range(len(leases)):
                    self.unclaim(key)

    def holders(self, key: str) -> list[Holder]:
        """The living processes that claim this key."""
        files = (path for path in self.folder.glob(f"claim-{key}.*") if path.suffix not in (LOCK, ".part"))
        return [holder for path in files if (holder := Lease(path).holder()) is not None]

    @contextlib.contextmanager
    def undisputed(self, key: str) -> Iterator[bool]:
        """Whether no living process claims this key; none can begin to within the block."""
        with self._gate(key):
            yield not self.holders(key)

    @contextlib.contextmanager
    def _gate(self, key: str) -> Iterator[None]:
        make_shared(self.folder, self.folder.parent)
        gate = self.folder / f"claims-{key}{LOCK}"
        with exclusive(gate):
            try:
                yield
            finally:
                gate.unlink(missing_ok=True)
