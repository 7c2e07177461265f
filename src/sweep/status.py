"""`python -m sweep.status SWEEP [--watch]`: how every run stands, by its journal and by Slurm's own word."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from sweep.standing import LIVE, Cluster, Standing, look, to_text

WATCH_S = 10.0


def main() -> None:
    """Print the runs; with --watch until none is live. Exits with 1 where one is neither live nor finished."""
    parser = argparse.ArgumentParser(prog="python -m sweep.status", description=__doc__)
    parser.add_argument("sweep", nargs="?", default="main", help="its name: a folder under multirun/")
    parser.add_argument("--watch", action="store_true", help=f"every {WATCH_S:.0f} s, until no run is live")
    chosen = parser.parse_args()
    cluster = Cluster()
    try:
        found = look(Path("multirun"), chosen.sweep, cluster)
        sys.stdout.write(_page(found))
        while chosen.watch and any(standing.state in LIVE for standing in found):
            time.sleep(WATCH_S)
            found = look(Path("multirun"), chosen.sweep, cluster)
            sys.stdout.write(f"\n{time.strftime('%H:%M:%S')}\n{_page(found)}")
            sys.stdout.flush()
    except FileNotFoundError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if all(standing.state in (*LIVE, "finished") for standing in found) else 1)


def _page(found: list[Standing]) -> str:
    counts = Counter(standing.state for standing in found)
    summary = ", ".join(f"{number} {state}" for state, number in counts.items())
    return "".join(f"{to_text(standing)}\n" for standing in found) + f"{len(found)} runs: {summary}\n"


if __name__ == "__main__":
    main()
