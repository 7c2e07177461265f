"""Workers side by side: each a process with its GPU, replaced if it is killed, and stopped once, quietly."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from sweep.launch.local import Look, WorkersFailed, begin_work, cores, run_workers, visible_gpus


class Runs:
    """Runs that are files: taken by removing them."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.results = folder, list[Any]()
        self.names = [f"run{i}" for i in range(number)]
        for name in self.names:
            (folder / name).touch()

    def ended(self, result: Any) -> None:
        self.results.append(result)

    def look(self) -> Look:
        left = len(list(self.folder.glob("run*")))
        return Look(running={}, left=left, any_free=left > 0)


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "expected"), [(["GPU-a", "GPU-b"], {"GPU-a", "GPU-b"}), ([], {""})])
def test_each_worker_sees_its_gpu_and_one_that_is_killed_is_replaced(
    gpus: list[str], expected: set[str], tmp_path: Path
) -> None:
    runs, folder = Runs(tmp_path, 6), tmp_path

    def work() -> str:  # a local function travels whole to the worker
        begin_work()
        for run in sorted(folder.glob("run*")):
            with contextlib.suppress(FileNotFoundError):
                run.unlink()
                if run.name == "run1":
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(0.5)
        return os.environ["CUDA_VISIBLE_DEVICES"]

    run_workers(work, runs, workers=2, gpus=gpus, logs=tmp_path / "logs")
    assert set(runs.results) == expected
    assert not list(tmp_path.glob("run*"))


@pytest.mark.slow
def test_workers_that_begin_no_run_are_not_replaced_for_ever(tmp_path: Path) -> None:
    runs = Runs(tmp_path, 1)

    def work() -> None:
        raise ImportError("no such module")

    with pytest.raises(WorkersFailed, match=r"3 workers ended one after another: .*no such module.*log"):
        run_workers(work, runs, workers=1, gpus=[], logs=tmp_path / "logs")


def test_the_chosen_gpus_are_those_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-f00")
    assert visible_gpus() == ["3", "GPU-f00"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho GPU-1\necho GPU-2\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert visible_gpus() == ["GPU-1", "GPU-2"]


def test_there_is_a_core() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
