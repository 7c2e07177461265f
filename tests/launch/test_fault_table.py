"""The table of faults in docs/slurm.md names a test for each line, and says whether it runs the real run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def sources(file: str) -> dict[str, str]:
    """Test -> its code."""
    text = (ROOT / "tests" / "slurm" / f"{file}.py").read_text()
    return {code.partition("(")[0]: code for code in re.split(r"^def ", text, flags=re.MULTILINE)[1:]}


def runs_of(code: str) -> set[str]:
    """What a test runs: the real run as a user's command, the stand-in, or both."""
    return {kind for kind, sign in (("real", "start(home"), ("stand-in", ".launch(")) if sign in code}


def test_every_line_names_tests_that_are_there_and_says_what_they_run() -> None:
    text = (ROOT / "docs" / "slurm.md").read_text().partition("`tests/slurm/` |")[2]
    lines = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) > 20
    for *_, kinds, tests, _ in lines:
        ran: set[str] = set()
        for file, name in (named.split(": ") for named in tests.split("; ")):
            named = [code for test, code in sources(file).items() if test.startswith("test_") and name in test]
            assert named, f"{file}: {name}"
            assert runs_of(named[0]) & set(kinds.split(", ")), f"{file}: {name} is no {kinds} run"
            ran |= runs_of(named[0])
        assert set(kinds.split(", ")) <= ran, tests
