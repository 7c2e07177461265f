"""A small sample of `bench/faults.py`: after random damage and kills the same commands tell what they told before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "faults.py"


@pytest.mark.slow
def test_after_random_faults_the_same_commands_tell_the_same(corpus: Path) -> None:
    command = [sys.executable, str(BENCH), "--faults", "8", "--seed", "7", "--corpus", str(corpus)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "8 faults with seed 7, 0 rounds left a difference" in result.stdout
