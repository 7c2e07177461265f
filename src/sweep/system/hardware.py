"""The machine that a run is on, and how busy it is; the figures have the names of MLflow's own monitor."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pynvml

INTERVAL_S = 10.0
MB = 1e6


def machine() -> dict[str, Any]:
    """CPU, cores, memory in GB, operating system, and the GPUs that this process may use."""
    described: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "os": platform.platform(),
    }
    with contextlib.suppress(pynvml.NVMLError), _visible_gpus() as gpus:
        driver = pynvml.nvmlSystemGetDriverVersion()  # raises without a driver
        described |= {"gpus": [pynvml.nvmlDeviceGetName(gpu) for gpu in gpus], "driver": driver}
    return described


def memory_gb() -> float:
    """Main memory of this machine that is free, or would be if it were needed, in GB."""
    return psutil.virtual_memory().available / 1e9


@cache
def gpu_memories() -> tuple[int, ...]:
    """Bytes of memory of each GPU that this process may use; empty without a driver. Asked once a process."""
    with contextlib.suppress(pynvml.NVMLError), _visible_gpus() as gpus:
        return tuple(pynvml.nvmlDeviceGetMemoryInfo(gpu).total for gpu in gpus)
    return ()


@contextlib.contextmanager
def watched(write: Callable[[dict[str, float]], None], *, every_s: float = INTERVAL_S) -> Iterator[None]:
    """Within the block, a thread writes a sample every `every_s` seconds, and a last one at the end.

    The thread ends silently if `write` raises: the work in the block meets the same fault by itself.
    """
    over = threading.Event()

    def watch() -> None:
        psutil.cpu_percent()  # the next call's figure is of the time since this one
        with contextlib.suppress(Exception), _visible_gpus() as gpus:
            while not over.wait(every_s):
                write(sample(gpus))
            write(sample(gpus))

    thread = threading.Thread(target=watch, name="machine", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def sample(gpus: list[Any]) -> dict[str, float]:
    """Current figures; the CPU's % is of the time since the last call. A part of a GPU has not all of a GPU's."""
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(Path.cwd()))
    figures = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MB,
        "system_memory_usage_percentage": memory.percent,
        "process_memory_usage_megabytes": psutil.Process().memory_info().rss / MB,
        "disk_available_megabytes": disk.free / MB,
    }
    for number, gpu in enumerate(gpus):
        with contextlib.suppress(pynvml.NVMLError):
            held = pynvml.nvmlDeviceGetMemoryInfo(gpu)
            figures[f"gpu_{number}_memory_usage_megabytes"] = held.used / MB
            figures[f"gpu_{number}_memory_usage_percentage"] = 100 * held.used / held.total
        with contextlib.suppress(pynvml.NVMLError):
            figures[f"gpu_{number}_utilization_percentage"] = pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu
        with contextlib.suppress(pynvml.NVMLError):
            figures[f"gpu_{number}_power_usage_watts"] = pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000
    return {name: round(float(value), 1) for name, value in figures.items()}


@contextlib.contextmanager
def _visible_gpus() -> Iterator[list[Any]]:
    """Handles of the GPUs that this process may use; empty without a driver."""
    with contextlib.ExitStack() as stack:
        gpus: list[Any] = []
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            stack.callback(pynvml.nvmlShutdown)
            gpus = _gpus()
        yield gpus


def _gpus() -> list[Any]:
    """Handles of the GPUs in CUDA_VISIBLE_DEVICES, which has numbers, or the UUIDs of GPUs and of parts of GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return [
        pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name)
        for name in names
    ]


def _cpu() -> str:
    """The CPU's model name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
