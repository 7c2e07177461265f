"""Where each run of a sweep keeps its files, and whether it is finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweep.domain.errors import Refusal, unknown
from sweep.launch import job_log
from sweep.planning.names import Identity
from sweep.system.store import Store, store_at
from sweep.tracking import FILE, outcome
from sweep.tracking.journal import damage, last_records

MULTIRUN = Path("multirun")
STATES = "states"


def expected_folder(identity: Identity) -> Path:
    """The folder where this run keeps its files."""
    return MULTIRUN / identity.sweep / identity.folder


def folder_of(place: str) -> Path:
    """The folder of the run at this place among all runs."""
    return MULTIRUN / place


def sweep_names(multirun: Path = MULTIRUN) -> list[str]:
    """The names of all sweeps, sorted."""
    return sorted({path.parents[1].name for file in (FILE, job_log.FILE) for path in multirun.glob(f"*/*/{file}")})


def sweep_folder(sweep: str, multirun: Path = MULTIRUN) -> Path:
    """The folder of a sweep that is given as a folder, or by its name under `multirun`; Refusal if there is none."""
    for folder in (multirun / sweep, Path(sweep)):
        if folder.is_dir():
            return folder
    names = sweep_names(multirun)
    there = f"under {multirun} {unknown(sweep, names)}" if names else f"there are no runs in {multirun.absolute()}"
    raise Refusal(f"SWEEP={sweep}: no such folder, and {there}")


def is_finished(key: str, folder: Path) -> bool:
    """Whether the run with this key is finished, and nothing of it has to be made again."""
    last = outcome(folder)
    if last is None or last["status"] != "finished" or last["result"]["key"] != key:
        return False
    return damage_to_mend(folder, last["result"]) is None


def damage_to_mend(folder: Path, result: dict[str, Any]) -> str | None:
    """What of a finished run is damaged and can be made again; None if nothing is.

    Weights that were to be kept are trained again. Records, and lines of the journal, are made again if the weights are
    there, which takes no training. What was deleted on purpose is not missed.
    """
    store, state, params = store_at(folder.absolute().parents[1]), result["final_state"], result["params"]
    if params.get("anneal.keep", True) and store.was_damaged(STATES, state):
        return "its weights were damaged"
    if params.get("anneal.steps") and not store.has(STATES, state):
        return None
    if lines := damage(folder):
        return f"line {lines[0]} of its journal is damaged"
    for name, path in last_records(folder).items():
        entry = Path(folder, path).parent
        if Store(entry.parents[1]).was_damaged(entry.parent.name, entry.name):
            return f"its {name} was damaged"
    return None


def why_unfinished(folder: Path) -> str:
    """Why a run that is not finished has ended."""
    last = outcome(folder)
    if last is None:
        return "interrupted: its process is gone" if (folder / FILE).is_file() else "not started"
    return f"{last['status']}: {last['error'] or 'by another configuration'}"


def objective(folder: Path) -> float | None:
    """What a sweeper that seeks, such as Optuna's, minimises: a finished run's held-out loss, in nats per token.

    None if the run isn't finished or has no held-out loss.
    """
    last = outcome(folder)
    scores = last["result"]["after"] if last is not None and last["status"] == "finished" else ()
    losses = (s["value"] for s in scores if s["metric"] == "loss" and s["task"].partition(":")[0] == "heldout")
    return next(losses, None)
