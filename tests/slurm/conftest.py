"""The real cluster of `start_slurm.sh`: absent it is red in CI, and the reason to skip elsewhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

LAB = Path(os.environ.get("SLURM_LAB", "/tmp/sweep-slurm"))


@pytest.fixture(scope="session")
def cluster() -> Path:
    """The cluster's own folder; its commands find it by SLURM_CONF."""
    os.environ["SLURM_CONF"] = str(LAB / "etc" / "slurm.conf")
    try:
        subprocess.run(["scontrol", "ping"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"no Slurm cluster ({error}): tests/slurm/start_slurm.sh brings one up"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return LAB
