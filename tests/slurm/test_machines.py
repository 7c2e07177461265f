"""What goes wrong with nodes, daemons and disks, and what then holds: no run is lost, none is written by two."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.launch.cluster import described, last_states
from sweep.planning.names import run_folder
from sweep.sweeps.run_states import RunState
from sweep.tracking import outcome, read
from tests.slurm.commands import (
    Sweep,
    asleep,
    config_of,
    finish,
    node_of,
    pid_of,
    running,
    starts,
    until,
    updates_of,
    updates_written,
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_every_daemon_of_the_cluster_listens_on_loopback_alone(sweep: Sweep) -> None:
    base = int(Path(os.environ["SLURM_CONF"]).with_name("port_base").read_text())
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {int(row[1].split(":")[1], 16): row[1].split(":")[0] for row in rows if row[3] == "0A"}
    ours = {port: address for port, address in listening.items() if base <= port < base + 200}
    assert ours
    assert set(ours.values()) == {"0100007F"}, ours


def test_a_node_that_goes_down_loses_no_run(sweep: Sweep) -> None:
    runs = sweep.launch([""], updates=40)
    [found] = until(runs, running)
    node = node_of(found.job)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"], check=True)
    try:
        until(runs, lambda now: now[0].state == "pending" or len(starts(runs.runs[0].folder)) == 2)
        assert [run.state for run in finish(runs)] == ["finished"]
    finally:
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=True)


@pytest.fixture
def no_accounting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """sacct, as it answers on a cluster that keeps no accounts."""
    sacct = tmp_path / "bin" / "sacct"
    sacct.parent.mkdir()
    sacct.write_text("#!/bin/sh\necho Slurm accounting storage is disabled >&2\nexit 1\n")
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", str(sacct.parent), prepend=":")


@pytest.mark.usefixtures("no_accounting")
def test_without_accounting_the_end_of_a_job_is_seen_too(sweep: Sweep) -> None:
    found = finish(sweep.launch(["kill", ""]))
    assert [run.state for run in found] == ["interrupted", "finished"]
    assert "FAILED" in found[0].detail, "the controller remembers"


def test_a_controller_that_is_away_for_a_minute_makes_nobody_conclude_anything(sweep: Sweep, cluster: Path) -> None:
    runs = sweep.launch(["", "raise"], updates=40)
    longer = sweep.launch([""], first=2, updates=900)
    until(longer, running)
    with asleep(pid_of(cluster, "slurmctld")):
        began = time.monotonic()
        assert [run.state for run in longer.look()] == ["unknown"]
        assert longer.todo() == [], "what may be running is not submitted again"
        time.sleep(max(0.0, 60 - (time.monotonic() - began)))
    assert [run.state for run in finish(runs)] == ["finished", "failed"]
    assert [run.state for run in finish(longer)] == ["finished"]
    assert updates_written(longer.runs[0].folder) == list(range(1, 901))


def in_second_life(run: RunState) -> bool:
    """Whether Slurm took the run's job for lost, and has started it once more."""
    facts = described(run.job or "")
    return facts["JobState"] == "RUNNING" and facts["Restarts"] == "1"


@pytest.mark.usefixtures("repaired")
def test_a_dead_slurmd_leaves_two_processes_to_a_run_and_the_lease_decides(sweep: Sweep, cluster: Path) -> None:
    """One of the old ones is well and ends its run; the other sleeps, is taken for dead, and wakes up too late."""
    subprocess.run(["scontrol", "update", "nodename=node2", "state=drain", "reason=test"], check=True)
    runs = sweep.launch(["", ""], updates=800)
    found = until(runs, running)
    assert {node_of(run.job) for run in found} == {"node1"}
    well, late = (run.folder for run in runs.runs)
    until(runs, lambda now: all(len(updates_written(folder)) > 60 for folder in (well, late)))
    old = read(late).attempts[0]["pid"]
    subprocess.run(["scontrol", "update", "nodename=node2", "state=resume"], check=True)
    os.kill(pid_of(cluster, "slurmd.node1"), signal.SIGKILL)
    with asleep(old):
        until(runs, lambda now: all(in_second_life(run) for run in now), within_s=100)
        assert outcome(well) is None, "two processes have it now"
        until(runs, lambda now: len(starts(late)) == 2, within_s=180)
    until(runs, lambda now: not Path(f"/proc/{old}").exists())
    assert [run.state for run in finish(runs)] == ["finished", "finished"]
    assert updates_of(well, 0) == list(range(1, 801))
    assert len(starts(well)) == 1, "the process that came second found it done"
    assert updates_of(late, 1) == list(range(51, 801)), "from the last state on, and nobody writes in between"
    job = found[1].job
    assert "LeaseLost" in Path(f"{sweep.home}/.slurm/{job}/{job}_0_log.err").read_text()


@pytest.fixture
def disk(sweep: Sweep) -> Iterator[Path]:
    """The folder of a run, on a disk of 64 kB."""
    folder = sweep.home / run_folder(config_of(0))
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_run_whose_folder_is_full_and_then_read_only(sweep: Sweep, disk: Path) -> None:
    runs = sweep.launch(["", ""], updates=120)
    until(runs, running)
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    [full, other] = finish(runs)
    assert full.state in ("failed", "interrupted"), "as there is room for a last line in its journal, or not"
    assert "OSError: [Errno 28]" in full.detail
    assert other.state == "finished"
    assert last_states([full.job or ""]) == {full.job: "FAILED"}
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    [blocked, other] = finish(sweep.launch(["", ""], updates=120))
    assert (blocked.state, other.state) == ("interrupted", "finished")
    assert blocked.detail.startswith("its job ended FAILED; ")
    assert "OSError: [Errno 30]" in blocked.detail
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    (disk / "ballast").unlink()
    again = sweep.launch(["", ""], updates=120)
    assert [run.state for run in finish(again)] == ["finished", "finished"]
    assert set(updates_written(disk)) == set(range(1, 121))
