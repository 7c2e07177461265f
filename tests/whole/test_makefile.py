"""What `make clean` and `make clean-runs` delete, in a copy of the Makefile beside a made-up checkout."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
MADE_AGAIN = (
    ".venv/bin/python",
    ".pytest_cache/README.md",
    ".mypy_cache/cache.json",
    ".ruff_cache/CACHEDIR.TAG",
    "build/lib/sweep.py",
    "dist/sweep.whl",
    "src/sweep/__pycache__/main.pyc",
    "tests/domain/__pycache__/test_schedule.pyc",
)
RUNS = ("multirun/main/a_run/journal.jsonl", "multirun/store/states/a_key/model.safetensors", "multirun/mlflow.db")
OTHERS = ("src/sweep/main.py", "tests/domain/test_schedule.py", "downloads/model.pt", "outputs/page.html")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*MADE_AGAIN, *RUNS, *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "bench").mkdir()
    (tmp_path / "conf").mkdir()
    shutil.copy(MAKEFILE, tmp_path)
    return tmp_path


def make(checkout: Path, *arguments: str, answer: str | None = None) -> subprocess.CompletedProcess[str]:
    """The finished command; with an answer it has a terminal, in which that is typed."""
    ours, theirs = pty.openpty()
    try:
        if answer is not None:
            os.write(ours, f"{answer}\n".encode())
        return subprocess.run(
            ["make", *arguments], cwd=checkout, stdin=subprocess.DEVNULL if answer is None else theirs,
            text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)


def left(checkout: Path) -> set[str]:
    files = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()}
    return files - {"Makefile"}


def test_clean_keeps_all_that_cost_compute_or_a_download(checkout: Path) -> None:
    done = make(checkout, "clean")
    assert done.returncode == 0, done.stderr
    assert left(checkout) == {*RUNS, *OTHERS}


def test_clean_runs_deletes_the_runs_alone_after_a_yes(checkout: Path) -> None:
    done = make(checkout, "clean-runs", answer="yes")
    assert done.returncode == 0, done.stderr
    assert "Type yes" in done.stdout
    assert left(checkout) == {*MADE_AGAIN, *OTHERS}


@pytest.mark.parametrize("answer", ["", "no", "y", "YES"])
def test_clean_runs_deletes_nothing_after_another_answer(checkout: Path, answer: str) -> None:
    done = make(checkout, "clean-runs", answer=answer)
    assert done.returncode != 0
    assert "nothing is deleted" in done.stdout
    assert left(checkout) == {*MADE_AGAIN, *RUNS, *OTHERS}


def test_clean_runs_without_a_terminal_needs_the_answer_beforehand(checkout: Path) -> None:
    done = make(checkout, "clean-runs")
    assert done.returncode != 0
    assert "CONFIRM=yes" in done.stderr
    assert left(checkout) == {*MADE_AGAIN, *RUNS, *OTHERS}
    assert make(checkout, "clean-runs", "CONFIRM=yes").returncode == 0
    assert left(checkout) == {*MADE_AGAIN, *OTHERS}
