"""Checks before anything is submitted: whether the cluster has what a job asks for, and sbatch's own test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.domain.errors import Refusal, unknown
from sweep.launch.cluster import ANSWER_S, Partition, Unreachable, partitions
from sweep.launch.slurm import executor
from sweep.launch.submitit_private import batch_script

SIGNAL_RESOLUTION_S = 60
"""Slurm may send its signal this much earlier than asked (sbatch's manual, --signal)."""
KEY = "hydra.launcher"


def check_present() -> None:
    """Raise Refusal if this machine doesn't have the commands of Slurm."""
    if missing := [name for name in ("sbatch", "squeue", "scontrol", "srun") if shutil.which(name) is None]:
        raise Refusal(
            f"hydra/launcher=slurm needs Slurm's commands, and {', '.join(missing)} is not on this machine: "
            "submit from a login node of the cluster, or take hydra/launcher=local"
        )


def check_request(parameters: Mapping[str, Any]) -> None:
    """Raise Refusal if no node has what these parameters of Submitit's ask for, or the run can't stop in time."""
    minutes, delay = parameters["timeout_min"], parameters["signal_delay_s"]
    least = -(-(delay + SIGNAL_RESOLUTION_S) // 60)
    if minutes < least:
        raise Refusal(
            f"{KEY}.timeout_min={minutes}: {KEY}.signal_delay_s={delay} before the end a run is told to stop, "
            f"and Slurm may say so {SIGNAL_RESOLUTION_S} s early: at least {least}"
        )
    if parameters["teardown"] and not parameters["use_srun"]:
        raise Refusal(f"{KEY}.teardown needs {KEY}.use_srun=true: without srun the run takes the script's place")
    try:
        every = partitions()
    except Unreachable as error:
        raise Refusal(f"hydra/launcher=slurm: Slurm's controller doesn't answer ({error})") from error
    _check_nodes(parameters, every)


def _check_nodes(parameters: Mapping[str, Any], every: Sequence[Partition]) -> None:
    chosen = parameters["partition"]
    names = sorted({partition.name for partition in every})
    for name in chosen.split(",") if chosen is not None else ():
        if name not in names:
            raise Refusal(f"{KEY}.partition={chosen}: {unknown(name, names)}")
    usable = [partition for partition in every if chosen is None or partition.name in chosen.split(",")]
    where = f"partition {chosen}" if chosen else "this cluster"
    limits = {
        "mem_gb": max(p.mem_mb for p in usable) / 1024,
        "gpus_per_node": max(p.gpus for p in usable),
        "cpus_per_task": max(p.cpus for p in usable),
    }
    for name, most in limits.items():
        if parameters[name] is not None and parameters[name] > most:
            raise Refusal(f"{KEY}.{name}={parameters[name]:g}: no node of {where} has more than {most:g}")
    longest = max(p.max_min for p in usable)
    if parameters["timeout_min"] > longest:
        raise Refusal(f"{KEY}.timeout_min={parameters['timeout_min']}: {where} allows at most {longest:g}")


def check_accepted(folder: Path, parameters: Mapping[str, Any]) -> None:
    """Raise Refusal with sbatch's message if it would not take such a job; nothing is submitted."""
    try:
        script = batch_script(executor(folder, parameters), "true")
    except (NameError, ValueError) as error:
        raise Refusal(f"{KEY}: {error}") from error
    try:
        tested = subprocess.run(
            ["sbatch", "--test-only"], input=script, text=True, capture_output=True, check=False, timeout=ANSWER_S
        )
    except subprocess.TimeoutExpired as error:
        raise Refusal(f"hydra/launcher=slurm: Slurm's controller doesn't answer ({error})") from error
    if tested.returncode:
        message = " ".join(line for line in tested.stderr.splitlines() if line.strip())
        raise Refusal(f"{KEY}: sbatch would not take such a job: {message or 'it does not say why'}")
