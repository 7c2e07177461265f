"""`python -m sweep.wait SWEEP`: return when no run of a sweep is live any more; exits with 0 where all are finished."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sweep.clustered import watch
from sweep.standing import Cluster, look, to_text

POLL_S = 10.0


def main() -> None:
    """Wait, then name what is not finished."""
    parser = argparse.ArgumentParser(prog="python -m sweep.wait", description=__doc__)
    parser.add_argument("sweep", help="its name: a folder under multirun/")
    parser.add_argument("--poll", type=float, default=POLL_S, help="seconds between two questions to Slurm")
    chosen = parser.parse_args()
    cluster, multirun = Cluster(), Path("multirun")
    try:
        names = [standing.run for standing in look(multirun, chosen.sweep, cluster)]
        found = watch(names, lambda: look(multirun, chosen.sweep, cluster), poll_s=chosen.poll)
    except FileNotFoundError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    left = [standing for standing in found if standing.state != "finished"]
    sys.stdout.write("".join(f"{to_text(standing)}\n" for standing in left))
    sys.stdout.write(f"{len(found) - len(left)} of {len(found)} runs finished\n")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
