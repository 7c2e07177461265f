"""`sweep status [SWEEP]`: the state of every run of a sweep, by its journal, its lease and Slurm.

A run is finished, failed, interrupted (its process is gone without an outcome, or was stopped) or not started; it is
live while it is running, pending, held (by Slurm, until a person releases its job) or unknown (Slurm does not answer).
The exit code is 1 if a run is neither live nor finished; with --wait, if a run is not finished.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence

from sweep.commands.command_line import DEFAULT_SWEEP, command_parser, refusals, seconds
from sweep.launch.cluster import Unreachable
from sweep.sweeps.run_folders import MULTIRUN
from sweep.sweeps.run_states import LIVE, Cluster, RunState, look, to_text
from sweep.sweeps.slurm import cancel_jobs, watch

EVERY_S = 10.0
EXAMPLES = """\
sweep status                    the sweep called main
sweep status steps --watch      show it every 10 s, until no run is live
sweep status steps --wait       wait until no run is live, then name the runs that are not finished
sweep status steps --cancel     cancel its jobs of the cluster; the runs record that they were interrupted
"""


@refusals()
def main() -> None:
    """Show, watch, wait for or cancel the runs of one sweep."""
    parser = command_parser("status", __doc__, EXAMPLES)
    parser.add_argument("sweep", nargs="?", metavar="SWEEP", default=DEFAULT_SWEEP, help="its name; default: main")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="show the runs again and again, until no run is live")
    how.add_argument("--wait", action="store_true", help="print nothing until no run is live")
    how.add_argument("--cancel", action="store_true", help="cancel the jobs of its live runs")
    parser.add_argument("--poll", type=seconds, default=EVERY_S, help=f"seconds between two questions; {EVERY_S:.0f}")
    chosen = parser.parse_args()
    try:
        if chosen.cancel:
            sys.stdout.write(f"cancelled: {cancel_jobs(look(MULTIRUN, chosen.sweep, Cluster()))} jobs\n")
        elif chosen.wait:
            sys.exit(_wait(chosen.sweep, chosen.poll))
        else:
            sys.exit(_show(chosen.sweep, chosen.poll if chosen.watch else None))
    except Unreachable as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _show(sweep: str, every_s: float | None) -> int:
    """Print the runs once, or every `every_s` seconds until none is live; the exit code."""
    cluster = Cluster()
    runs = look(MULTIRUN, sweep, cluster)
    sys.stdout.write(_page(runs))
    while every_s is not None and any(run.state in LIVE for run in runs):
        time.sleep(every_s)
        runs = look(MULTIRUN, sweep, cluster)
        sys.stdout.write(f"\n{time.strftime('%H:%M:%S')}\n{_page(runs)}")
        sys.stdout.flush()
    return 0 if all(run.state in (*LIVE, "finished") for run in runs) else 1


def _wait(sweep: str, every_s: float) -> int:
    """Wait until no run is live, then print those that are not finished; the exit code."""
    cluster = Cluster()
    names = [run.run for run in look(MULTIRUN, sweep, cluster)]
    runs = watch(names, lambda: look(MULTIRUN, sweep, cluster), poll_s=every_s)
    unfinished = [run for run in runs if run.state != "finished"]
    sys.stdout.write("".join(f"{to_text(run)}\n" for run in unfinished))
    sys.stdout.write(f"{len(runs) - len(unfinished)} of {len(runs)} runs finished\n")
    return 1 if unfinished else 0


def _page(runs: Sequence[RunState]) -> str:
    """A line for each run, and how many are in each state."""
    counts = Counter(run.state for run in runs)
    summary = ", ".join(f"{number} {state}" for state, number in counts.items())
    return "".join(f"{to_text(run)}\n" for run in runs) + f"{len(runs)} runs: {summary}\n"
