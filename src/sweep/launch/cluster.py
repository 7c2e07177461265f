"""Questions to Slurm: `squeue` for jobs in the queue, `scontrol` or `sacct` for ended ones, `sinfo` for nodes.

If the controller doesn't answer, a question raises Unreachable: nothing follows about the jobs.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

ANSWER_S = 60
"""Seconds that a busy controller may take to answer; after that it is taken for unreachable."""
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
"""States of a job that has ended."""
ELEMENT = re.compile(r"\d+_\d+")
"""The id of one element of an array."""
UNKNOWN_JOB = re.compile(r"invalid job id", re.IGNORECASE)
"""How the controller says that it doesn't know a job (any more)."""
HELD = re.compile(r"held|DependencyNeverSatisfied", re.IGNORECASE)
"""Reasons why a job will not start by itself."""


class Unreachable(RuntimeError):
    """Slurm's controller doesn't answer, or answers with an error, which is the message."""


@dataclass(frozen=True)
class Queued:
    """A job, or one element of an array, in the queue."""

    state: str
    """As squeue spells it: PENDING, RUNNING, COMPLETING, SUSPENDED, ..."""
    reason: str

    @property
    def held(self) -> bool:
        """Whether it starts only after a person's command."""
        return self.state == "REQUEUE_HOLD" or (self.state == "PENDING" and HELD.search(self.reason) is not None)

    @property
    def pending(self) -> bool:
        """Whether it waits for its start, the first one or one more."""
        return self.state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED")


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One kind of node in a partition, and what such a node has."""

    name: str
    mem_mb: int
    cpus: int
    gpus: int
    max_min: float
    """The longest time limit in minutes; inf: there is no limit."""


def ask(*words: str) -> str:
    """The output of a command of Slurm; Unreachable if it fails or takes too long."""
    try:
        return subprocess.run(words, text=True, capture_output=True, check=True, timeout=ANSWER_S).stdout
    except subprocess.CalledProcessError as error:
        raise Unreachable(f"{words[0]}: {error.stderr.strip() or error.stdout.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"{words[0]}: {error}") from error


def queue() -> dict[str, Queued]:
    """This user's jobs in the queue by id: "12", or "12_3" for an element of an array."""
    lines = ask("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%r").splitlines()
    return {job: Queued(state, reason) for job, state, reason in (line.split("|", 2) for line in lines)}


def last_states(jobs: Collection[str]) -> dict[str, str]:
    """Job -> its state, for those of these jobs that the controller or accounting remembers; most are FINAL.

    The controller forgets a job after some minutes (MinJobAge); accounting may be late, and many clusters have none.
    """
    states: dict[str, str] = {}
    for look in (_remembered, _accounted):
        missing = set(jobs) - states.keys()
        answers = look({job.partition("_")[0] for job in missing}) if missing else {}
        # the elements of an array that never began share one record, named "12" or "12_[3-5]"
        shared = {name for name, state in answers.items() if state == "CANCELLED" and not re.fullmatch(ELEMENT, name)}
        arrays = {name.partition("_")[0] for name in shared}
        states |= {job: "CANCELLED" for job in missing if "_" in job and job.partition("_")[0] in arrays}
        states |= {job: answers[job] for job in missing if job in answers}
    return states


def _remembered(jobs: Collection[str]) -> dict[str, str]:
    """Id -> state of all elements of these jobs that the controller remembers."""
    states: dict[str, str] = {}
    for job in jobs:
        try:
            lines = ask("scontrol", "--oneliner", "show", "job", job).splitlines()
        except Unreachable as error:
            if UNKNOWN_JOB.search(str(error)):
                continue  # forgotten
            raise
        for facts in map(_facts, lines):
            element = facts.get("ArrayTaskId")
            name = facts["JobId"] if element is None else f"{facts['ArrayJobId']}_{element}"
            states[name] = facts["JobState"]
    return states


def _accounted(jobs: Collection[str]) -> dict[str, str]:
    """Id -> state of these jobs by accounting; empty on a cluster without it.

    Only FINAL states: accounting may take a job for running for ever, if its end was lost.
    """
    query = ("--allocations", "--parsable2", "--format=JobID,State", f"--jobs={','.join(sorted(jobs))}")
    try:
        lines = ask("sacct", "--noheader", *query).splitlines()
    except Unreachable:
        return {}
    states = {job: state.split()[0] for job, state in (line.split("|", 1) for line in lines) if state}
    return {job: state for job, state in states.items() if state in FINAL}


def described(job: str) -> dict[str, str]:
    """The controller's record of one job, as `scontrol show job` spells it."""
    return _facts(ask("scontrol", "--oneliner", "show", "job", job).splitlines()[0])


def _facts(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def max_array_size() -> int:
    """The largest number of elements of one array."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    assert match is not None
    return int(match[1])


def partitions() -> list[Partition]:
    """Every kind of node of every partition."""
    return list(_partitions(ask("sinfo", "--noheader", "--format=%R|%m|%c|%G|%l").splitlines()))


def _partitions(lines: Sequence[str]) -> Iterator[Partition]:
    for line in lines:
        name, memory, cpus, gres, limit = line.split("|")
        gpus = sum(int(number) for number in re.findall(r"gpu:(?:[^:,(]+:)?(\d+)", gres))
        mem_mb, num_cpus = (int(re.sub(r"\D", "", word)) for word in (memory, cpus))  # "8+" means 8 or more
        yield Partition(name=name, mem_mb=mem_mb, cpus=num_cpus, gpus=gpus, max_min=minutes(limit))


def minutes(limit: str) -> float:
    """Minutes of a time that Slurm writes as [days-]hours:minutes:seconds or minutes:seconds; inf: no limit."""
    if limit in ENDLESS:
        return float("inf")
    days, _, clock = limit.rpartition("-")
    *hours, mins, seconds = (int(part) for part in clock.split(":"))
    return int(days or 0) * 1440 + (hours[0] if hours else 0) * 60 + mins + seconds / 60
