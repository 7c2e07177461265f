"""The facts that a run's journal begins with: where, when and by which code it started, and what it works with."""

from __future__ import annotations

import functools
import getpass
import importlib.metadata
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sweep.launch.in_job import attempt_id
from sweep.planning.names import Identity
from sweep.run.prepare import Prepared
from sweep.run.published import address
from sweep.run.score import task_digests
from sweep.system.files import file_digest
from sweep.system.hardware import machine
from sweep.system.store import Store

PACKAGES = ("torch", "ai2-olmo", "lm-eval", "transformers", "numpy", "hydra-core", "mlflow")


def attempt(identity: Identity, chosen: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The journal's event of one start of a run; `chosen` is the configuration as a plain tree."""
    return {
        "key": identity.key,
        "name": identity.name,
        "sweep": identity.sweep,
        "params": identity.params,
        "host": socket.gethostname(),
        "user": _user(),
        "pid": os.getpid(),
        "job": attempt_id(),
        "machine": machine(),
        "versions": versions(),
        "requirements": requirements(),
        "git": _git(),
        "config_yaml": yaml.safe_dump(chosen, sort_keys=False),
        "command": command,
    }


def inputs(store: Store, checkpoint_name: str, prepared: Prepared) -> dict[str, Any]:
    """The journal's event of what a run starts from: checkpoint, data, tasks and held-out text, each by its digest.

    `data` has an entry for each source; its `uri` is the first file, and `data.json` in the run's folder has all files.
    """
    plan, scoring = prepared.plan, prepared.scoring
    position, heldout = plan.start, scoring.heldout if scoring.tasks.heldout else None
    return {
        "checkpoint": {
            "name": checkpoint_name,
            "digest": prepared.checkpoint.key,
            "uri": _uri(prepared),
            "step": position.step,
            "tokens": position.tokens,
            "lr": plan.position.lr,
        },
        "peak_lr": plan.peak_lr,
        "window": {
            "epoch": position.epoch,
            "first_instance": position.instances,
            "updates": len(plan.learning_rates),
            "batch_size": plan.batch_size,
            "sequence_length": plan.sequence_length,
        },
        "data": [
            {
                "name": name,
                "uri": fact["files"][0],
                "num_files": len(fact["files"]),
                **{key: fact[key] for key in ("digest", "weight", "instances", "annealed_on", "passes")},
            }
            for name, fact in prepared.data.items()
        ],
        "tasks": task_digests(scoring),
        "heldout": heldout and {"digest": file_digest(heldout / "heldout.npy")[:32], "uri": str(heldout)},
        "store": str(store.root),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


@functools.cache
def requirements() -> str:
    """Every installed package at its version, as a requirements.txt."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found, key=str.lower))


def _uri(prepared: Prepared) -> str:
    """Where the checkpoint comes from: a public address, a folder of the user's, or a state of the store."""
    choice = prepared.choice
    if choice.model.source in ("hub", "published"):
        return address(choice, prepared.checkpoint.folder)
    if choice.model.source == "local":
        return str(Path(choice.checkpoint.path or "").absolute())
    return f"store://states/{prepared.checkpoint.key}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


@functools.cache
def _git() -> dict[str, Any] | None:
    """Commit, branch and remote of the working folder, and whether it has changes; None outside a repository.

    Asked once a process, as its code is read once.
    """

    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], text=True, stderr=subprocess.DEVNULL).strip()

    try:
        found: dict[str, Any] = {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "-uno")),
        }
        found["branch"] = git("rev-parse", "--abbrev-ref", "HEAD")
        found["repoURL"] = git("config", "--default", "", "--get", "remote.origin.url")
    except (OSError, subprocess.CalledProcessError):
        return None
    return found
