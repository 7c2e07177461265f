"""The real cluster of `start_slurm.sh`; where it isn't up these tests are skipped, in CI they fail.

Each process of pytest-xdist takes the cluster in the folder SLURM_LAB-gw1, with its own number, where there is one; the
others share that of SLURM_LAB and wait for each other.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.slurm.commands import ROOT, START, Sweep

LAB = Path(os.environ.get("SLURM_LAB", "/tmp/sweep-slurm"))


@pytest.fixture(scope="session")
def cluster() -> Path:
    """The cluster's own folder; its commands find it by SLURM_CONF."""
    own = LAB.with_name(f"{LAB.name}-{os.environ.get('PYTEST_XDIST_WORKER', '')}")
    lab = own if own.is_dir() else LAB
    os.environ["SLURM_CONF"] = str(lab / "etc" / "slurm.conf")
    try:
        subprocess.run(["scontrol", "ping"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no Slurm cluster ({error}): tests/slurm/start_slurm.sh brings one up")
    return lab


@pytest.fixture(autouse=True)
def _one_after_another(cluster: Path) -> Iterator[None]:
    """Some take nodes down, and none leaves jobs behind; pytest-xdist's groups don't hold under pytest 9.2."""
    with FileLock(cluster / "tests.lock"):
        yield
        subprocess.run(["scancel", "--me"], check=True)


@pytest.fixture
def repaired(cluster: Path) -> Iterator[None]:
    """Afterwards every daemon and node of the cluster is up."""
    yield
    subprocess.run([START], env={**os.environ, "SLURM_LAB": str(cluster)}, check=True, capture_output=True)


@pytest.fixture
def sweep(cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    monkeypatch.chdir(tmp_path)
    return Sweep(tmp_path / "multirun" / "light")
