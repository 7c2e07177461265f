"""`sweep sync [SWEEP ...]`: bring MLflow up to date from the runs' journals, any MLflow, any time.

A SWEEP is the name of a folder in multirun/, or the path of a sweep's or a run's folder wherever it was copied to;
all of multirun/ where none is given. What is in MLflow already is not sent again, so it may be stopped, repeated, and
run beside itself and beside the runs. MLflow is at MLFLOW_TRACKING_URI where that is set, else at the tracking.uri
that the runs were configured with, else in mlflow.db beside the sweeps.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import track

from sweep.domain.errors import unknown
from sweep.tracking import FILE, Events, read, redact
from sweep.tracking.brief import brief
from sweep.tracking.place import Where, database

MULTIRUN = Path("multirun")
EVERY_S = 5.0
"""Seconds between two looks at the journals with --watch."""
TRACKING = re.compile(r"^tracking:.*\n(?:[ #].*\n|\n)*", re.MULTILINE)
"""Of a configuration in YAML."""
console = Console(stderr=True)


@dataclass(frozen=True)
class Part:
    """Runs of one sweep's folder, in brief, that belong into the same MLflow."""

    sweep_folder: Path
    where: Where
    runs: dict[Path, Events]

    def __str__(self) -> str:
        return f"{self.sweep_folder.name} -> {redact(self.where.tracking_uri)}, experiment {self.where.experiment}"


def main() -> None:
    """Exit code 1 where anything is not in MLflow, or --check finds a difference."""
    parser = argparse.ArgumentParser(
        prog="sweep sync", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sweeps", nargs="*", metavar="SWEEP", help="name or folder; all in multirun/ where none is given"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="send nothing: compare, say what differs, exit with 1 then")
    how.add_argument("--watch", action="store_true", help="go on with what changes, until interrupted")
    chosen = parser.parse_args()
    names = chosen.sweeps or all_sweeps()
    if not names:
        sys.exit(f"there are no runs in {MULTIRUN.absolute()}: give the folder of a sweep")
    folders = [folder for name in names for folder in found(name)]
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    act = check if chosen.check else sync
    try:
        if chosen.watch:
            watch(folders)
        elif not min([act(part) for part in parts(folders)], default=False):
            sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")


def all_sweeps() -> list[str]:
    """The names of the sweeps here."""
    return sorted({path.parent.parent.name for path in MULTIRUN.glob(f"*/*/{FILE}")})


def found(name: str) -> list[Path]:
    """The run folders that a word of the command line means."""
    for folder in (Path(name), MULTIRUN / name):
        if (folder / FILE).is_file():
            return [folder.absolute()]
        if runs := sorted(path.parent.absolute() for path in folder.glob(f"*/{FILE}")):
            return runs
    sys.exit(f"SWEEP={name} is no folder with runs: {unknown(name, all_sweeps())}")


def parts(run_folders: list[Path]) -> Iterator[Part]:
    """The runs by sweep and by the MLflow they belong into; one without an attempt that can be read is said."""
    grouped: dict[tuple[Path, Where], dict[Path, Events]] = {}
    for folder in dict.fromkeys(run_folders):
        events = read(folder, steps=False)
        if not events.attempts:
            console.print(f"[red]{folder / FILE} holds no attempt that can be read", soft_wrap=True)
            continue
        grouped.setdefault((folder.parent, where(folder, events)), {})[folder] = brief(events)
    for (sweep_folder, place), runs in grouped.items():
        yield Part(sweep_folder, place, runs)


def where(run_folder: Path, events: Events) -> Where:
    """The MLflow a run belongs into."""
    (block,) = TRACKING.findall(events.attempts[-1]["config_yaml"])
    tracking, multirun = _tracking(block), run_folder.parent.parent
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking["uri"] or database(multirun)
    return Where(uri, tracking["experiment"], multirun / "mlartifacts")


@functools.cache
def _tracking(block: str) -> dict[str, Any]:
    """The part of a configuration; the whole of it takes YAML 10 ms and more, for each of 10,000 runs."""
    return dict(yaml.safe_load(block)["tracking"])


def sync(part: Part, *, said: bool = True) -> bool:
    """Send what is missing; whether MLflow has everything now."""
    from sweep.tracking.connection import Connection
    from sweep.tracking.sweeps import in_a_line, journals, sync_parent, sync_runs

    try:
        to = Connection(part.where.tracking_uri, part.where.experiment, part.where.artifact_root)
        results = sync_runs(to, part.runs)
        shown = track(results, str(part), total=len(part.runs), console=console, transient=True, disable=not said)
        errors = {result.folder.name: result.error for result in shown if result.error}
        if (error := sync_parent(to, part.sweep_folder, journals(part.sweep_folder, part.runs))) is not None:
            errors["the sweep's own run"] = error
    except Exception as failure:  # an MLflow that is away is no bug of ours: it is said in a line
        errors = {"all": in_a_line(failure)}
    if said or errors:
        sys.stdout.write(f"{part}: {len(part.runs)} runs" + ("" if errors else ", all there") + "\n")
        sys.stdout.write("".join(f"  not sent: {name}: {error}\n" for name, error in errors.items()))
        sys.stdout.flush()
    return not errors


def check(part: Part) -> bool:
    """Say what MLflow holds otherwise than the journals; whether nothing is."""
    from sweep.tracking.connection import Connection
    from sweep.tracking.sweeps import compared, in_a_line

    try:
        to = Connection(part.where.tracking_uri, part.where.experiment, part.where.artifact_root)
        results = track(compared(to, part.runs), str(part), total=len(part.runs), console=console, transient=True)
        lines = [f"{folder.name}: {line}" for folder, found in results for line in found]
    except Exception as failure:  # as in `sync`; what can't be compared is a difference
        lines = [in_a_line(failure)]
    sys.stdout.write(f"{part}: {len(part.runs)} runs, {len(lines) or 'no'} differences\n")
    sys.stdout.write("".join(f"  {line}\n" for line in lines))
    return not lines


def watch(folders: list[Path]) -> None:
    """Go on with the journals that change, and with runs that join their sweeps."""
    from sweep.tracking.sweeps import is_alive

    sweeps = list(dict.fromkeys(folder.parent for folder in folders))
    done: dict[Path, tuple[int, int, bool]] = {}
    while True:
        now: dict[Path, tuple[int, int, bool]] = {}
        for path in (path for sweep in sweeps for path in sweep.glob(f"*/{FILE}")):
            stat = path.stat()
            now[path.parent] = stat.st_size, stat.st_mtime_ns, is_alive(path.parent)
        changed = [folder for folder, version in now.items() if done.get(folder) != version]
        for part in parts(changed):
            if sync(part, said=not done):
                done |= {folder: now[folder] for folder in part.runs}
        time.sleep(EVERY_S)
