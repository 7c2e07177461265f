"""How far long work is: a bar in a terminal, a line now and then in a log, a small file for whoever watches the run."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tqdm import tqdm

FILE = "progress.json"
WRITE_S = 1.0
LOG_S = 30.0

_folder: ContextVar[Path | None] = ContextVar("_folder", default=None)


@contextlib.contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """Within the block, progress is also written to `progress.json` in `folder`, which is gone afterwards."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)
        (folder / FILE).unlink(missing_ok=True)


class Report(NamedTuple):
    """How far a run is with what it is at."""

    stage: str
    done: int
    total: int
    ends: float | None = None
    """When this stage ends at its speed so far, seconds since 1970; None: too early to say."""


def read_progress(folder: Path) -> Report | None:
    """The report of the run in `folder`; None where nothing long is under way."""
    try:
        return Report(**json.loads((folder / FILE).read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


class Progress:
    """Progress of one stage; as a context manager it ends with the block."""

    def __init__(self, stage: str, *, total: int, done: int = 0, shown: bool = True) -> None:
        quiet = not sys.stderr.isatty()
        self.stage, self.total, self.done = stage, total, done
        self._first, self._began = done, time.monotonic()
        self._bar = tqdm(
            desc=stage, total=total, initial=done, mininterval=LOG_S if quiet else 0.2, leave=quiet, ncols=100,
            unit_scale=total > 100_000, disable=not shown,
        )  # fmt: skip
        self._written = 0.0

    def advance(self, by: int, note: str = "") -> None:
        """So much more is done; `note` is shown beside the bar."""
        self.done += by
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(by)
        now = time.monotonic()
        if now - self._written >= WRITE_S and (folder := _folder.get()) is not None:
            part = folder / f".{FILE}.{os.getpid()}"
            part.write_text(json.dumps(self._report()._asdict()))
            part.replace(folder / FILE)
            self._written = now

    def _report(self) -> Report:
        made, seconds = self.done - self._first, time.monotonic() - self._began
        ends = time.time() + seconds * (self.total - self.done) / made if made else None
        return Report(self.stage, self.done, self.total, ends)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()
