"""Where, when and of what code a run was started: the facts that may differ from attempt to attempt."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
from typing import Any

import yaml

from sweep.config import RunConfig, params, tree
from sweep.keys import run_key
from sweep.launch.work import attempt_id
from sweep.names import run_name

PACKAGES = ("torch", "ai2-olmo", "lm-eval", "transformers", "numpy", "hydra-core", "mlflow")


def attempt(config: RunConfig, command: str) -> dict[str, Any]:
    """What the journal says of one start of a run."""
    return {
        "key": run_key(config),
        "name": run_name(config),
        "sweep": config.name,
        "params": params(config),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": attempt_id(),
        "versions": versions(),
        "git": _git(),
        "config_yaml": yaml.safe_dump(tree(config), sort_keys=False),
        "command": command,
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that decide a run's numbers."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def _git() -> dict[str, Any] | None:
    """Commit of the working folder and whether it has changes; None outside a repository."""

    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], text=True, stderr=subprocess.DEVNULL).strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return None
