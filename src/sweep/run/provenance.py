"""Where, when and of what code a run was started, and what it works with: the facts its journal begins with."""

from __future__ import annotations

import functools
import getpass
import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

import yaml

from sweep.config import RunConfig, params, tree
from sweep.launch.in_job import attempt_id
from sweep.planning.keys import run_key
from sweep.planning.names import run_name
from sweep.planning.plan import planned_peak
from sweep.run.prepare import Prepared
from sweep.run.published import address
from sweep.system.files import file_digest
from sweep.system.hardware import machine
from sweep.system.store import Store

PACKAGES = ("torch", "ai2-olmo", "lm-eval", "transformers", "numpy", "hydra-core", "mlflow")


def attempt(config: RunConfig, command: str) -> dict[str, Any]:
    """What the journal says of one start of a run."""
    return {
        "key": run_key(config),
        "name": run_name(config),
        "sweep": config.name,
        "params": params(config),
        "host": socket.gethostname(),
        "user": _user(),
        "pid": os.getpid(),
        "job": attempt_id(),
        "machine": machine(),
        "versions": versions(),
        "requirements": requirements(),
        "git": _git(),
        "config_yaml": yaml.safe_dump(tree(config), sort_keys=False),
        "command": command,
    }


def inputs(store: Store, config: RunConfig, prepared: Prepared) -> dict[str, Any]:
    """What the journal says of where a run starts: checkpoint, learning rate, data, held-out text, each by its digest.

    `data` has an entry a source; `uri` is its first file, `data.json` in the run's folder has all.
    """
    plan, heldout = prepared.plan, prepared.scoring.heldout if config.tasks.heldout else None
    position = plan.start
    return {
        "checkpoint": {
            "name": run_name(config).partition(" ")[0],
            "digest": prepared.source.key,
            "uri": _uri(config, prepared),
            "step": position.step,
            "tokens": position.tokens,
            "lr": plan.position.lr,
        },
        "peak_lr": planned_peak(config.anneal, plan.position.lr) if config.anneal.steps else None,
        "window": {
            "epoch": position.epoch,
            "first_instance": position.instances,
            "updates": config.anneal.steps,
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
        "heldout": heldout and {"digest": file_digest(heldout / "heldout.npy")[:32], "uri": str(heldout)},
        "store": str(store.root),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Of Python and the packages that decide a run's numbers."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


@functools.cache
def requirements() -> str:
    """Every installed package at its version, as a requirements.txt."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found, key=str.lower))


def _uri(config: RunConfig, prepared: Prepared) -> str:
    """Where the checkpoint is from: a public address, a folder of the user's, or a state of the store."""
    if config.model.source == "published":
        return address(config)
    if config.model.source == "local":
        return str(Path(config.checkpoint.path or "").absolute())
    return f"store://states/{prepared.source.key}"


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
