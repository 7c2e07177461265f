"""The page as a browser has it: MLflow's saved views are undocumented, so their effect is looked at."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.tracking import sweeps
from sweep.tracking.connection import Connection
from tests.browser import chromium

from .conftest import ATTEMPT, INPUTS, write_run

PATIENT_MS = 60_000
"""Of the page's own clock, which runs ahead where it only waits."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated"),
]


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `sweep ui` prints after a sweep of steps and peak."""
    chromium()
    folder = tmp_path_factory.mktemp("browser")
    multirun = folder / "multirun"
    for steps in (20, 40):
        for scale in (0.5, 2.0):
            params = {**ATTEMPT["params"], "anneal.steps": steps, "anneal.peak_scale": scale}
            inputs = {**INPUTS, "peak_lr": INPUTS["checkpoint"]["lr"] * scale}
            name = f"tiny-s@2000 linear {steps} scale={scale:g}"
            write_run(
                multirun / "grid" / f"{steps}-{scale}", name=name, key=name, sweep="grid", params=params, inputs=inputs
            )
    to = Connection(f"sqlite:///{multirun}/mlflow.db", "sweep", multirun / "mlartifacts")
    runs = sweeps.journals(multirun / "grid")
    assert [synced.error for synced in sweeps.sync_runs(to, runs)] == [None] * 4
    assert sweeps.sync_parent(to, multirun / "grid", runs) is None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sweep", "ui", str(port)]
    with subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.send_signal(signal.SIGINT)


def page(address: str, profile: Path) -> str:
    """The page's elements once its scripts have come to rest."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=2400,3600", f"--user-data-dir={profile}"]
    rest = [f"--virtual-time-budget={PATIENT_MS}", "--dump-dom", address]
    return subprocess.run([chromium(), *flags, *rest], text=True, capture_output=True, check=True, timeout=300).stdout


def test_the_printed_link_opens_the_table_with_the_sweeps_columns(link: str, tmp_path: Path) -> None:
    found = page(link, tmp_path)
    for column in ("anneal.steps", "plan.peak_lr", "before/mean", "delta/mean", "after/heldout.loss", "cost/tokens"):
        assert column in found
    assert found.count("tiny-s@2000 linear 20 scale=0.5") >= 1
    assert "MLflow Assistant" not in found, "it opens by itself where the page is at localhost"
    assert "4</strong> matching runs" in found or "4 matching runs" in found, "the points, without their parent"


def test_the_charts_are_there(link: str, tmp_path: Path) -> None:
    found = page(link.replace("compareRunsMode=TABLE", "compareRunsMode=CHART"), tmp_path)
    for chart in (
        "Parallel Coordinates",
        "anneal.steps vs. delta/heldout.loss",
        "plan.log10_peak_lr vs. delta/mean",
        "anneal.steps vs. plan.log10_peak_lr vs. delta/heldout.loss",
        "train/loss",
        "train/lr",
    ):
        assert chart in found
