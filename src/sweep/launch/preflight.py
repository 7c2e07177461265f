"""What can't run is refused before it is submitted: by what the cluster has, and by sbatch's own test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from sweep.domain.errors import Refusal, unknown
from sweep.launch.cluster import ANSWER_S, Unreachable, partitions
from sweep.launch.slurm import Executor, executor

SIGNAL_RESOLUTION_S = 60
"""Slurm may send its signal so much earlier than asked (sbatch's manual, --signal)."""
KEY = "hydra.launcher"


def check_present() -> None:
    """Refusal where this machine has no Slurm."""
    if missing := [name for name in ("sbatch", "squeue", "scontrol", "srun") if shutil.which(name) is None]:
        raise Refusal(
            f"hydra/launcher=slurm needs Slurm's commands, and {', '.join(missing)} is not on this machine: "
            "submit from a login node of the cluster, or take hydra/launcher=local"
        )


def check_request(parameters: Mapping[str, Any]) -> None:
    """Refusal of a request that no node can meet, or that can't stop in time; the parameters are Submitit's."""
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
        there = partitions()
    except Unreachable as error:
        raise Refusal(f"hydra/launcher=slurm: Slurm's controller doesn't answer ({error})") from error
    _check_nodes(parameters, there)


def _check_nodes(parameters: Mapping[str, Any], there: list[Any]) -> None:
    chosen = parameters["partition"]
    names = sorted({partition.name for partition in there})
    if chosen is not None:
        for name in chosen.split(","):
            if name not in names:
                raise Refusal(f"{KEY}.partition={chosen}: {unknown(name, names)}")
        there = [partition for partition in there if partition.name in chosen.split(",")]
    where = f"partition {chosen}" if chosen else "this cluster"
    wanted = {
        "mem_gb": (parameters["mem_gb"], max(p.mem_mb for p in there) / 1024),
        "gpus_per_node": (parameters["gpus_per_node"], max(p.gpus for p in there)),
        "cpus_per_task": (parameters["cpus_per_task"], max(p.cpus for p in there)),
    }
    for name, (number, most) in wanted.items():
        if number is not None and number > most:
            raise Refusal(f"{KEY}.{name}={number:g}: no node of {where} has more than {most:g}")
    longest = max(p.max_min for p in there)
    if parameters["timeout_min"] > longest:
        raise Refusal(f"{KEY}.timeout_min={parameters['timeout_min']}: {where} allows at most {longest:g}")


def check_accepted(folder: Any, parameters: Mapping[str, Any]) -> None:
    """Refusal in sbatch's own words where it would not take such a job; nothing is submitted."""
    try:
        made: Executor = executor(folder, parameters)
    except ValueError as error:
        raise Refusal(f"{KEY}: {error}") from error
    script = made._make_submission_file_text("true", "test")
    try:
        tested = subprocess.run(
            ["sbatch", "--test-only"], input=script, text=True, capture_output=True, check=False, timeout=ANSWER_S
        )
    except subprocess.TimeoutExpired as error:
        raise Refusal(f"hydra/launcher=slurm: Slurm's controller doesn't answer ({error})") from error
    if tested.returncode:
        said = [line for line in tested.stderr.splitlines() if line.strip()]
        raise Refusal(f"{KEY}: sbatch would not take such a job: {' '.join(said) or 'it does not say why'}")
