"""Runs side by side: each in a process of its own, with its GPU, and stopped once, quietly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweep.launch.local import begin_work, cores, run_all, visible_gpus


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "expected"), [(["GPU-a", "GPU-b"], {"GPU-a", "GPU-b"}), ([], {""})])
def test_each_run_sees_its_gpu(gpus: list[str], expected: set[str], tmp_path: Path) -> None:
    def seen() -> str:  # a local function travels whole to the worker
        begin_work()
        return os.environ["CUDA_VISIBLE_DEVICES"]

    found = run_all(seen, [(), ()], [tmp_path / "a", tmp_path / "b"], workers=2, gpus=gpus, logs=tmp_path / "logs")
    assert set(found) == expected


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
