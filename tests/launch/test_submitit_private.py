"""The batch script that Submitit writes for us: fails when a version of Submitit changes what we use of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.launch.slurm import executor
from sweep.launch.submitit_private import batch_script

PARAMETERS = {"name": "main", "timeout_min": 5, "mem_gb": 0.5, "nodes": 1, "signal_delay_s": 60, "partition": None}


@pytest.fixture(autouse=True)
def _srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Submitit looks for srun."""
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_the_script_asks_for_what_was_chosen(tmp_path: Path) -> None:
    script = batch_script(executor(tmp_path, PARAMETERS), "true").splitlines()
    assert {"#SBATCH --job-name=main", "#SBATCH --time=5", "#SBATCH --mem=512MB", "#SBATCH --nodes=1"} <= {*script}
    assert "#SBATCH --signal=USR2@60" in script
    assert not any("partition" in line for line in script)
    assert script[-1].startswith("srun ") and script[-1].endswith(" true")


def test_without_srun_the_run_takes_the_scripts_place_and_gets_its_signals(tmp_path: Path) -> None:
    submitting = executor(tmp_path, {**PARAMETERS, "use_srun": False})
    assert "#SBATCH --signal=B:USR2@60" in batch_script(submitting, "true").splitlines()
    assert submitting._executor._submitit_command_str.startswith("exec ")  # type: ignore[attr-defined]


def test_a_teardown_runs_however_the_run_ends(tmp_path: Path) -> None:
    script = batch_script(executor(tmp_path, {**PARAMETERS, "teardown": ["echo a", "echo b"]}), "true")
    assert "trap 'echo a; echo b' EXIT" in script.splitlines()


def test_an_unknown_parameter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NameError, match="partitoin"):
        executor(tmp_path, {**PARAMETERS, "partitoin": "main"})
