"""The machine is watched beside the run, and never in its way."""

from __future__ import annotations

import time

import pytest

from sweep.system.hardware import machine, watched

FIGURES = {
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "process_memory_usage_megabytes",
    "disk_available_megabytes",
}


def test_it_is_told_what_the_machine_is() -> None:
    found = machine()
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0.1
    assert found["cpu"]


def test_samples_come_while_the_block_lasts_and_one_at_its_end() -> None:
    samples: list[dict[str, float]] = []
    with watched(samples.append, every_s=0.01):
        while len(samples) < 3:
            time.sleep(0.01)
    count = len(samples)
    time.sleep(0.05)
    assert len(samples) == count
    assert all(sample.keys() >= FIGURES for sample in samples)
    assert all(0 <= sample["system_memory_usage_percentage"] <= 100 for sample in samples)


def test_a_short_block_has_one_sample() -> None:
    samples: list[dict[str, float]] = []
    with watched(samples.append):
        pass
    assert len(samples) == 1


def test_what_goes_wrong_with_a_sample_is_not_the_runs_affair() -> None:
    def write(sample: dict[str, float]) -> None:
        raise OSError("the disk is full")

    with watched(write, every_s=0.01):
        time.sleep(0.05)


def test_an_error_of_the_run_goes_through() -> None:
    with pytest.raises(KeyError), watched(lambda sample: None):
        raise KeyError("loss")
