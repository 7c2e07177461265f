"""The door, as a user stands before it: help, completion, refusals without a traceback, whole sweeps refused early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.doors import sweep
from tests.skips import HAS_GPU


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("sweep model=olmo-1b checkpoint.step=73802", "checkpoint.step=738020"),
        ("sweep -m checkpoint.step=1000,2", "checkpoint.step=1000,2000 checkpoint.step=1000,2500"),
        ("sweep model=local checkpoint.step=", ""),
        ("sweep anneal.sh", "anneal.shape="),
    ],
)
def test_the_tab_key_completes_a_checkpoints_step(line: str, found: str, tmp_path: Path) -> None:
    assert sweep("-sc", "query=bash", cwd=tmp_path, COMP_LINE=line).stdout.strip() == found


def test_help_teaches(tmp_path: Path) -> None:
    shown = sweep("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for taught in (
        "-m anneal.steps=250,1000,4000",
        "experiment=steps",
        "tasks.limit",
        "olmo-7b, olmo-7b-0424",
        "tiny-l, tiny-m",
        "shape: ",
    ):
        assert taught in shown.stdout


def test_cfg_job_shows_what_would_run(tmp_path: Path) -> None:
    shown = sweep("--cfg", "job", "anneal.steps=7", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "steps: 7" in shown.stdout
    assert not list(tmp_path.iterdir()), "looking leaves nothing behind"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("sweep model=", {"model=tiny-s", "model=local"}), ("sweep anneal.s", {"anneal.steps=", "anneal.shape="})],
)
def test_shell_completion_offers_options_and_keys(typed: str, offered: set[str], tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("sweep")
    install = subprocess.run([command, "-sc", "install=bash"], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert install.stdout.rstrip().endswith("hydra_bash_completion sweep")
    query = sweep("-sc", "query=bash", cwd=tmp_path, COMP_LINE=typed, COMP_POINT=str(len(typed)))
    assert offered <= set(query.stdout.split())


def test_a_server_without_an_address_is_refused_before_any_compute(tmp_path: Path) -> None:
    refused = sweep("tracking=server", cwd=tmp_path, MLFLOW_TRACKING_URI="")
    assert refused.returncode == 1
    assert "refused: tracking=server needs an address: export MLFLOW_TRACKING_URI=" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "multirun" / "store" / "states").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["anneal.stepss=3"], "'stepss' is not one of name, steps, shape"),
        (["anneal.steps=-3"], "anneal.steps=-3: must not be negative"),
        (["controls=all"], "adds runs to a sweep, and this is one run: give -m"),
        (["-m", "anneal.steps=250,1000,-4"], "anneal.steps=-4: must not be negative"),
        (["-m", "anneal.steps=250", "anneal.shape=linear,linaer"], "did you mean linear"),
        (["model=tiny-xl"], "is not one of datadecide-10m"),
        (["model=local", "checkpoint.path=/nowhere"], "checkpoint.path=/nowhere: there is no such folder"),
        (["-m", "anneal.steps=250,500", "hydra.launcher.workers=-1"], "hydra.launcher.workers=-1: must be at least 1"),
        (["hydra.run.dir=elsewhere"], "hydra.run.dir=elsewhere: not for changing"),
        (["anneal.steps=="], "Error parsing override"),
        pytest.param(["compute.device=cuda"], "there is no CUDA device", marks=pytest.mark.slow),
    ],
)
def test_a_refusal_is_a_message_and_not_a_traceback(words: list[str], complaint: str, tmp_path: Path) -> None:
    import torch

    if "compute.device=cuda" in words and torch.cuda.is_available():
        pytest.skip(HAS_GPU)
    refused = sweep(*words, "tracking=none", cwd=tmp_path)
    assert refused.returncode != 0
    assert complaint in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "multirun" / "store" / "states").exists(), "refused before any compute"
