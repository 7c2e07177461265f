"""A run without its seconds of imports: it writes a journal, stops when asked, and can be told to misbehave."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from sweep.launch.in_job import attempt_id
from sweep.run.memory import Memory
from sweep.sweeps.queue import QueuedRun
from sweep.system import stop_signals
from sweep.system.files import write_durably
from sweep.system.lease import Lease, LeaseLost
from sweep.tracking import Journal

UPDATE_S = 0.1
SAVE_INTERVAL = 50


def light(
    run: QueuedRun, lease: Lease | None, memory: Memory, *, updates: int, faults: Mapping[str, str], flag: str
) -> None:
    """`updates` of a tenth of a second, gone on with where an earlier start stopped.

    The fault of this run strikes half-way, while the file `flag` is there: raise, exit, kill, memory, or deaf to every
    signal. A worker calls this in place of a real run.
    """
    assert lease is not None
    work(run.folder, lease, run.key, updates, faults[run.folder.name], flag)


def work(place: Path, lease: Lease, key: str, updates: int, fault: str, flag: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    saved = place / "saved"
    done = int(saved.read_text()) if saved.exists() else 0
    with Journal(place) as journal:
        journal.write("attempt", key=key, job=attempt_id(), pid=os.getpid())
        try:
            while done < updates:
                if done == updates // 2 and Path(flag).exists():
                    misbehave(fault)
                done += 1
                time.sleep(UPDATE_S)
                lease.check()
                journal.write("step", update=done)
                if stop_signals.asked() or done % SAVE_INTERVAL == 0:
                    write_durably(saved, str(done))
                stop_signals.check()
        except LeaseLost:
            raise
        except BaseException as error:
            status = "failed" if isinstance(error, Exception) else "interrupted"
            journal.write("outcome", status=status, error=f"{type(error).__name__}: {error}", result=None)
            raise
        journal.write(
            "outcome", status="finished", error=None, result={"key": key, "final_state": "none", "params": {}}
        )


def misbehave(fault: str) -> None:
    if fault == "raise":
        raise ValueError("this run's own fault")
    if fault == "exit":
        raise SystemExit(3)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "memory":
        hoard = []
        for _ in range(100):
            hoard.append(bytearray(os.urandom(1 << 20) * 20))
            time.sleep(0.1)
    if fault == "deaf":
        time.sleep(1000)
