"""The table of faults in docs/slurm.md names a test for each line."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_line_names_tests_that_are_there() -> None:
    text = (ROOT / "docs" / "slurm.md").read_text()
    lines = [line.split("|")[3].strip() for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 20
    for file, name in (named.split(": ") for line in lines for named in line.split("; ")):
        there = re.findall(r"^def (test_\w+)", (ROOT / "tests" / "slurm" / f"{file}.py").read_text(), re.MULTILINE)
        assert any(name in test for test in there), f"{file}: {name}"
