"""What Slurm says of jobs and nodes: `squeue` first, `scontrol` or `sacct` for what has left the queue.

A controller that doesn't answer is no news: nothing follows from it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

ANSWER_S = 60
"""A busy controller takes its time; one that takes longer is taken for unreachable."""
ENDLESS = ("infinite", "UNLIMITED", "n/a")
FINAL = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
)
"""States of a job that is over."""
HELD = re.compile(r"held|DependencyNeverSatisfied", re.IGNORECASE)
"""Reasons why a job will not start by itself."""


class Unreachable(RuntimeError):
    """Slurm's controller doesn't answer, or refuses; the message is its own."""


@dataclass(frozen=True)
class Queued:
    """A job, or one element of an array, in the queue."""

    state: str
    """As squeue spells it: PENDING, RUNNING, COMPLETING, SUSPENDED, ..."""
    reason: str

    @property
    def held(self) -> bool:
        """Whether it waits for a person."""
        return self.state == "REQUEUE_HOLD" or (self.state == "PENDING" and HELD.search(self.reason) is not None)

    @property
    def pending(self) -> bool:
        """Whether it has not begun, or not again."""
        return self.state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED")


@dataclass(frozen=True, kw_only=True)
class Partition:
    """What one kind of node of a partition has."""

    name: str
    mem_mb: int
    cpus: int
    gpus: int
    max_min: float
    """Longest time limit in minutes; inf: none."""


def ask(*words: str) -> str:
    """What a command of Slurm's prints; Unreachable where it fails or is silent for too long."""
    try:
        return subprocess.run(words, text=True, capture_output=True, check=True, timeout=ANSWER_S).stdout
    except subprocess.CalledProcessError as error:
        raise Unreachable(f"{words[0]}: {error.stderr.strip() or error.stdout.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"{words[0]}: {error}") from error


def queue() -> dict[str, Queued]:
    """Everything of mine that Slurm has not done with, by id: "12", or "12_3" of an array."""
    lines = ask("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%r").splitlines()
    return {job: Queued(state, reason) for job, state, reason in (line.split("|", 2) for line in lines)}


def ended(jobs: Collection[str]) -> dict[str, str]:
    """How jobs that have left the queue ended, as far as somebody remembers: the controller, else accounting.

    The controller forgets after some minutes (MinJobAge); accounting, where there is any, may be late.
    """
    states: dict[str, str] = {}
    for look in (_remembered, _accounted):
        missing = set(jobs) - states.keys()
        told = look({job.partition("_")[0] for job in missing}) if missing else {}
        # what never began of an array has one record, of the whole: "12", or "12_[3-5]"
        rest = {name.partition("_")[0] for name, state in told.items() if state == "CANCELLED" and not _single(name)}
        whole = {job: "CANCELLED" for job in missing if "_" in job and job.partition("_")[0] in rest}
        states |= whole | {job: told[job] for job in missing if told.get(job) in FINAL}
    return states


def _single(name: str) -> bool:
    return re.fullmatch(r"\d+_\d+", name) is not None


def _remembered(jobs: Collection[str]) -> dict[str, str]:
    """Id -> state of all elements of these jobs that the controller knows."""
    found: dict[str, str] = {}
    for job in jobs:
        try:
            lines = ask("scontrol", "--oneliner", "show", "job", job).splitlines()
        except Unreachable:
            continue  # forgotten
        for facts in map(_facts, lines):
            element = facts.get("ArrayTaskId")
            name = facts["JobId"] if element is None else f"{facts['ArrayJobId']}_{element}"
            found[name] = facts["JobState"]
    return found


def _accounted(jobs: Collection[str]) -> dict[str, str]:
    """The same by accounting; many clusters keep none."""
    asked = ("--allocations", "--parsable2", "--format=JobID,State", f"--jobs={','.join(sorted(jobs))}")
    try:
        lines = ask("sacct", "--noheader", *asked).splitlines()
    except Unreachable:
        return {}
    return {job: state.split()[0] for job, state in (line.split("|", 1) for line in lines) if state}


def described(job: str) -> dict[str, str]:
    """The controller's record of one job, as `scontrol show job` spells it."""
    return _facts(ask("scontrol", "--oneliner", "show", "job", job).splitlines()[0])


def _facts(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def max_array_size() -> int:
    """Most elements of one array."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    assert found is not None
    return int(found[1])


def partitions() -> list[Partition]:
    """Every kind of node of every partition."""
    return list(_partitions(ask("sinfo", "--noheader", "--format=%R|%m|%c|%G|%l").splitlines()))


def _partitions(lines: Sequence[str]) -> Iterator[Partition]:
    for line in lines:
        name, memory, cpus, gres, limit = line.split("|")
        gpus = sum(int(number) for number in re.findall(r"gpu:(?:[^:,(]+:)?(\d+)", gres))
        mem_mb, num_cpus = (int(re.sub(r"\D", "", word)) for word in (memory, cpus))  # a "+" says: or more
        yield Partition(name=name, mem_mb=mem_mb, cpus=num_cpus, gpus=gpus, max_min=minutes(limit))


def minutes(limit: str) -> float:
    """Minutes of a time as Slurm writes it: [days-]hours:minutes:seconds, or minutes:seconds."""
    if limit in ENDLESS:
        return float("inf")
    days, _, clock = limit.rpartition("-")
    *hours, mins, seconds = (int(part) for part in clock.split(":"))
    return int(days or 0) * 1440 + (hours[0] if hours else 0) * 60 + mins + seconds / 60
