"""`sweep sync [SWEEP ...]`: bring MLflow up to date from the runs' journals. Any MLflow, at any time.

A SWEEP is its name under multirun/, or the path of a sweep's or a run's folder, wherever it was copied to. What MLflow
has already is not sent again, so the command may be stopped, repeated, and run beside itself and beside runs. MLflow is
at MLFLOW_TRACKING_URI if that is set, else at the tracking.uri that the runs were configured with, else in mlflow.db
beside the sweeps.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Never, TypeVar

from rich.console import Console
from rich.progress import track

from sweep.commands.command_line import DEFAULT_SWEEP, command_parser, refusals
from sweep.domain.errors import Refusal
from sweep.domain.redaction import redact
from sweep.sweeps.run_folders import MULTIRUN, sweep_folder, sweep_names
from sweep.tracking import FILE, Events, lost_lines, read
from sweep.tracking.place import Place, mlflow_place, recorded_tracking

EXAMPLES = """\
sweep sync                     the sweep called main
sweep sync steps grid          two sweeps
sweep sync --all               all sweeps under multirun/
sweep sync main --check        send nothing: name every difference
sweep sync main --watch        go on with what changes, until Ctrl-C
MLFLOW_TRACKING_URI=https://lab.example.org sweep sync /copied/multirun/main
"""
EVERY_S = 5.0
"""Seconds between two looks at the journals with --watch."""
console = Console(stderr=True)
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Runs of one sweep that belong into the same MLflow."""

    sweep_folder: Path
    place: Place
    runs: dict[Path, Events]
    """Run folder -> its events in brief."""

    def __str__(self) -> str:
        return f"{self.sweep_folder.name} -> {redact(self.place.tracking_uri)}, experiment {self.place.experiment}"


@refusals()
def main() -> None:
    """Exit with 1 if MLflow lacks anything, or if --check finds a difference."""
    parser = command_parser("sync", __doc__, EXAMPLES)
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help=f"name or folder; default: {DEFAULT_SWEEP}")
    parser.add_argument("--all", action="store_true", help="all sweeps under multirun/")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="send nothing; name what differs, and exit with 1 then")
    how.add_argument("--watch", action="store_true", help="go on with what changes, until interrupted")
    chosen = parser.parse_args()
    if chosen.all and chosen.sweeps:
        parser.error("--all means every sweep: it takes no SWEEP")
    names = all_sweeps() if chosen.all else chosen.sweeps or [DEFAULT_SWEEP]
    folders = [folder for name in names for folder in run_folders(name)]
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    try:
        if chosen.watch:
            watch(folders)
        grouped, unreadable = parts(folders)
        results = [(check if chosen.check else sync)(part) for part in grouped]
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
    if unreadable or not all(results):
        sys.exit(1)


def all_sweeps() -> list[str]:
    """The names of all sweeps under multirun/; Refusal if there is none."""
    if names := sweep_names():
        return names
    raise Refusal(f"there are no runs in {MULTIRUN.absolute()}: give the folder of a sweep")


def run_folders(name: str) -> list[Path]:
    """The run folders of a sweep, or the one run, that an argument names; Refusal if there is none."""
    folder = sweep_folder(name).absolute()
    if (folder / FILE).is_file():
        return [folder]
    if runs := sorted(path.parent for path in folder.glob(f"*/{FILE}")):
        return runs
    raise Refusal(f"SWEEP={name}: {folder} holds no run")


def parts(run_folders: list[Path]) -> tuple[list[Part], list[Path]]:
    """The runs, grouped by sweep and by the MLflow that they belong into; and those whose journal can't be read.

    The latter are named on the terminal.
    """
    grouped: dict[tuple[Path, Place], dict[Path, Events]] = {}
    unreadable: list[Path] = []
    for folder in dict.fromkeys(run_folders):
        events = read(folder, steps=False)
        if not events.attempts:
            console.print(
                f"{folder / FILE} holds no attempt that can be read, so the run is left out: "
                "the command that made it makes it again",
                style="red", markup=False, soft_wrap=True,
            )  # fmt: skip
            unreadable.append(folder)
            continue
        tracking = recorded_tracking(events)
        place = mlflow_place(folder.parent.parent, tracking["uri"], tracking["experiment"])
        grouped.setdefault((folder.parent, place), {})[folder] = events.summary()
    return [Part(folder, place, runs) for (folder, place), runs in grouped.items()], unreadable


def sync(part: Part, *, verbose: bool = True) -> bool:
    """Send what MLflow lacks; whether it has everything now. If not `verbose`, only errors are printed."""
    from sweep.tracking.connection import Connection
    from sweep.tracking.sweeps import in_a_line, journals, sync_parent, sync_runs

    try:
        to = Connection(part.place.tracking_uri, part.place.experiment, part.place.artifact_root)
        results = _tracked(sync_runs(to, part.runs), part, verbose=verbose)
        errors = {result.folder.name: result.error for result in results if result.error}
        if (error := sync_parent(to, part.sweep_folder, journals(part.sweep_folder, part.runs))) is not None:
            errors["the sweep's own run"] = error
    except Exception as failure:  # an MLflow that does not answer is no bug of ours: one line says so
        errors = {"all": in_a_line(failure)}
    if verbose or errors:
        sys.stdout.write(f"{part}: {len(part.runs)} runs" + ("" if errors else ", all there") + "\n")
        sys.stdout.write("".join(f"  not sent: {name}: {error}\n" for name, error in errors.items()))
        lost = {folder.name: lost_lines(events) for folder, events in part.runs.items() if events.lost}
        sys.stdout.write("".join(f"  {name}: {lines}\n" for name, lines in lost.items()))
        sys.stdout.flush()
    return not errors


def check(part: Part) -> bool:
    """Print how MLflow differs from the journals; whether it does not."""
    from sweep.tracking.connection import Connection
    from sweep.tracking.sweeps import compared, in_a_line

    try:
        to = Connection(part.place.tracking_uri, part.place.experiment, part.place.artifact_root)
        results = _tracked(compared(to, part.runs), part)
        lines = [f"{folder.name}: {line}" for folder, differences in results for line in differences]
    except Exception as failure:  # what can't be compared counts as a difference
        lines = [in_a_line(failure)]
    sys.stdout.write(f"{part}: {len(part.runs)} runs, {len(lines) or 'no'} differences\n")
    sys.stdout.write("".join(f"  {line}\n" for line in lines))
    return not lines


def _tracked(results: Iterator[T], part: Part, *, verbose: bool = True) -> Iterable[T]:
    """The results, with a bar on the terminal if `verbose`."""
    return track(results, str(part), total=len(part.runs), console=console, transient=True, disable=not verbose)


def watch(folders: list[Path]) -> Never:
    """Sync journals that change, and runs that join their sweeps, until interrupted."""
    from sweep.tracking.sweeps import is_alive

    sweeps = list(dict.fromkeys(folder.parent for folder in folders))
    synced: dict[Path, tuple[int, int, bool]] = {}
    while True:
        versions: dict[Path, tuple[int, int, bool]] = {}
        for path in (path for sweep in sweeps for path in sweep.glob(f"*/{FILE}")):
            stat = path.stat()
            versions[path.parent] = stat.st_size, stat.st_mtime_ns, is_alive(path.parent)
        changed = [folder for folder, version in versions.items() if synced.get(folder) != version]
        for part in parts(changed)[0]:
            if sync(part, verbose=not synced):
                synced |= {folder: versions[folder] for folder in part.runs}
        time.sleep(EVERY_S)
