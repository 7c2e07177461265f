"""One run, by one process or by several ranks: skipped if it is done, and written by one process at a time."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from sweep.config import RunConfig
from sweep.planning.names import run_identity
from sweep.run.memory import Memory
from sweep.sweeps.run_folders import is_finished
from sweep.system import ranks
from sweep.system.lease import Lease, run_lease


def do(config: RunConfig, *, folder: Path, command: str, memory: Memory, lease: Lease | None = None) -> None:
    """Do the run, unless it is done.

    `lease` is the right to write its folder; without one, the first rank waits for it. `memory` has what
    earlier runs of this process have read. The story of a run, with its heavy imports, is imported if there is work.
    """
    identity = run_identity(config)
    with ranks.joined() as group:
        if not group.leads:
            if group.from_first(bool):
                from sweep.run.story import follow

                follow(config, folder, ranks=group, memory=memory)
            return
        if is_finished(identity.key, folder):
            group.from_first(lambda: False)
            return
        # A journal has one writer: the same run of another command is waited for, and is done then.
        waited = run_lease(folder).waited_for(identity.name) if lease is None else nullcontext(lease)
        with waited as own:
            todo = not is_finished(identity.key, folder)
            group.from_first(lambda: todo)
            if todo:
                from sweep.run.story import run

                run(config, folder, command=command, lease=own, ranks=group, memory=memory)
