"""A run without its seconds of imports: it writes a journal, stops when asked, and can be told to misbehave."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from sweep import stopping
from sweep.launch.work import attempt_id
from sweep.tracking import Journal

UPDATE_S = 0.1


def light(folder: str, key: str, updates: int, fault: str, flag: str) -> None:
    """`updates` of a tenth of a second, gone on with where an earlier start stopped.

    `fault` strikes half-way, while the file `flag` is there: raise, exit, kill, swallow (an app that catches all
    exceptions) or memory.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    saved = place / "saved"
    done = int(saved.read_text()) if saved.exists() else 0
    with Journal(place) as journal:
        journal.write("attempt", key=key, job=attempt_id())
        try:
            while done < updates:
                if done == updates // 2 and Path(flag).exists():
                    misbehave(fault)
                done += 1
                time.sleep(UPDATE_S)
                journal.write("step", update=done)
                if stopping.asked():
                    saved.write_text(str(done))
                stopping.check()
        except BaseException as error:
            status = "failed" if isinstance(error, Exception) else "interrupted"
            journal.write("outcome", status=status, error=f"{type(error).__name__}: {error}", result=None)
            raise
        journal.write("outcome", status="finished", error=None, result={"key": key})


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
