"""`sweep status [SWEEP]`: how every run of a sweep stands, by its journal and by Slurm's own word.

Without an option it exits with 1 where a run is neither live nor finished, with --wait where one is not finished.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sweep.commands.command_line import DEFAULT_SWEEP, command_parser
from sweep.launch.cluster import Unreachable
from sweep.sweeps.run_states import LIVE, Cluster, Standing, look, to_text
from sweep.sweeps.slurm import cancel_jobs, watch

MULTIRUN = Path("multirun")
EVERY_S = 10.0
EXAMPLES = """\
sweep status                    the sweep called main
sweep status steps --watch      show it every 10 s, until no run is live
sweep status steps --wait       wait until no run is live, then name the runs that are not finished
sweep status steps --cancel     cancel its jobs of the cluster; the runs record that they were interrupted
"""


def main() -> None:
    """Show, watch, wait for or cancel the runs of one sweep."""
    parser = command_parser("status", __doc__, EXAMPLES)
    parser.add_argument("sweep", nargs="?", metavar="SWEEP", default=DEFAULT_SWEEP, help="its name; default: main")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="show the runs again and again, until no run is live")
    how.add_argument("--wait", action="store_true", help="say nothing until no run is live")
    how.add_argument("--cancel", action="store_true", help="cancel the jobs of its live runs")
    parser.add_argument("--poll", type=float, default=EVERY_S, help=f"seconds between two looks; {EVERY_S:.0f}")
    chosen = parser.parse_args()
    try:
        if chosen.cancel:
            sys.stdout.write(f"cancelled: {cancel_jobs(look(MULTIRUN, chosen.sweep, Cluster()))} jobs\n")
        elif chosen.wait:
            sys.exit(_wait(chosen.sweep, chosen.poll))
        else:
            sys.exit(_show(chosen.sweep, chosen.poll if chosen.watch else None))
    except (FileNotFoundError, Unreachable) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _show(sweep: str, every_s: float | None) -> int:
    """Print the runs once, or until none is live; the exit code."""
    cluster = Cluster()
    found = look(MULTIRUN, sweep, cluster)
    sys.stdout.write(_page(found))
    while every_s is not None and any(standing.state in LIVE for standing in found):
        time.sleep(every_s)
        found = look(MULTIRUN, sweep, cluster)
        sys.stdout.write(f"\n{time.strftime('%H:%M:%S')}\n{_page(found)}")
        sys.stdout.flush()
    return 0 if all(standing.state in (*LIVE, "finished") for standing in found) else 1


def _wait(sweep: str, every_s: float) -> int:
    """Wait until no run is live, then name what is not finished; the exit code."""
    cluster = Cluster()
    names = [standing.run for standing in look(MULTIRUN, sweep, cluster)]
    found = watch(names, lambda: look(MULTIRUN, sweep, cluster), poll_s=every_s)
    left = [standing for standing in found if standing.state != "finished"]
    sys.stdout.write("".join(f"{to_text(standing)}\n" for standing in left))
    sys.stdout.write(f"{len(found) - len(left)} of {len(found)} runs finished\n")
    return 1 if left else 0


def _page(found: Sequence[Standing]) -> str:
    counts = Counter(standing.state for standing in found)
    summary = ", ".join(f"{number} {state}" for state, number in counts.items())
    return "".join(f"{to_text(standing)}\n" for standing in found) + f"{len(found)} runs: {summary}\n"
