"""How far long work is: bars in a terminal, a line every 30 s in a log, a small file for whoever watches the run."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from sweep.system.lease import run_lease

log = logging.getLogger(__name__)

FILE = "progress.json"
WRITE_S = 1.0
LOG_S = 30.0

_folder: ContextVar[tuple[Path, str] | None] = ContextVar("_folder", default=None)
"""Where progress is written, and the attempt whose progress it is."""


@contextlib.contextmanager
def reporting(folder: Path, attempt: str) -> Iterator[None]:
    """Within the block, progress is also written to `progress.json` in `folder`; it is removed when the block ends.

    `attempt` is the token of the run's lease, by which a reader tells it from the file of a killed attempt.
    """
    token = _folder.set((folder, attempt))
    try:
        yield
    finally:
        _folder.reset(token)
        with contextlib.suppress(OSError):
            (folder / FILE).unlink()


class Report(NamedTuple):
    """How far a run is with its current stage."""

    stage: str
    done: int
    total: int
    ends: float | None = None
    """When this stage ends at its speed so far, seconds since 1970; None: too early to say."""


def read_progress(folder: Path) -> Report | None:
    """The last report of the run in `folder`; None if it has no long stage at the moment, or no process."""
    try:
        fields = json.loads((folder / FILE).read_bytes())
        attempt, ends = fields["attempt"], fields["ends"]
        report = Report(str(fields["stage"]), int(fields["done"]), int(fields["total"]), ends and float(ends))
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None
    holder = run_lease(folder).holder()
    return report if holder is not None and holder.token == attempt else None


class Display:
    """Bars on stderr if it is a terminal, else a line in the log every LOG_S seconds; a context manager."""

    def __init__(self, *, shown: bool = True) -> None:
        console = Console(file=sys.stderr)
        title = TextColumn("{task.description}", markup=False)
        columns = (title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bars = Bars(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))
        self._logs = shown and not console.is_terminal
        self._logged = time.monotonic()

    def log(self, message: str) -> None:
        """Log the message, unless there are bars or the last message was less than LOG_S seconds ago."""
        if self._logs and time.monotonic() - self._logged >= LOG_S:
            self._logged = time.monotonic()
            log.info("%s", message)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.bars.disable:  # else rich writes an empty line
            self.bars.stop()


class Progress:
    """Progress of one stage; a context manager whose block is the stage."""

    def __init__(self, stage: str, *, total: int, done: int = 0, shown: bool = True) -> None:
        self.stage, self.total, self.done = stage, total, done
        self._first, self._began, self._written = done, time.monotonic(), 0.0
        self._display = Display(shown=shown)
        self._bar = self._display.bars.add_task(stage, total=total, completed=done)

    def advance(self, by: int, note: str = "") -> None:
        """Count `by` more as done; `note` is shown beside the stage."""
        self.done += by
        self._display.bars.update(self._bar, completed=self.done, description=f"{self.stage} {note}".strip())
        self._display.log(f"{self.stage} {self.done}/{self.total} {note}".strip())
        now = time.monotonic()
        if now - self._written >= WRITE_S and (place := _folder.get()) is not None:
            self._write(*place)
            self._written = now

    def _write(self, folder: Path, attempt: str) -> None:
        """Replace the run's file; a full disk or a lost network share loses the report and not the run."""
        part = folder / f".{FILE}.part"
        with contextlib.suppress(OSError):
            part.write_text(json.dumps({**self._report()._asdict(), "attempt": attempt}))
            part.replace(folder / FILE)

    def _report(self) -> Report:
        advanced, seconds = self.done - self._first, time.monotonic() - self._began
        ends = time.time() + seconds * (self.total - self.done) / advanced if advanced else None
        return Report(self.stage, self.done, self.total, ends)

    def __enter__(self) -> Progress:
        self._display.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.__exit__()


class RunsProgress(Display):
    """Progress of many runs at a time: a bar for each running one, and one for all."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = names
        self._total = self.bars.add_task("runs", total=len(names))
        self._tasks: dict[int, TaskID] = {}

    def show(self, running: Mapping[int, Report | None], *, done: int) -> None:
        """Show the reports of the running runs, by their place among the names, and how many runs have ended."""
        self.bars.update(self._total, completed=done)
        for index in self._tasks.keys() - running.keys():
            self.bars.remove_task(self._tasks.pop(index))
        for index, report in running.items():
            if index not in self._tasks:
                self._tasks[index] = self.bars.add_task("", total=None)
            stage, completed, total = report[:3] if report else (f"{self.names[index]}: starting or waiting", 0, None)
            self.bars.update(self._tasks[index], description=stage, completed=completed, total=total)
        stages = ", ".join(f"{r.stage} {r.done}/{r.total}" for r in running.values() if r) or "starting"
        self.log(f"{done} of {len(self.names)} runs done; {stages}")
