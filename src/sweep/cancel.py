"""`python -m sweep.cancel SWEEP`: end the cluster's jobs of a sweep; the same command goes on where they stopped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sweep.clustered import cancel_jobs
from sweep.launch.cluster import Unreachable
from sweep.standing import Cluster, look


def main() -> None:
    """Cancel what is in the queue or running, and say how much that was."""
    parser = argparse.ArgumentParser(prog="python -m sweep.cancel", description=__doc__)
    parser.add_argument("sweep", help="its name: a folder under multirun/")
    try:
        number = cancel_jobs(look(Path("multirun"), parser.parse_args().sweep, Cluster()))
    except (FileNotFoundError, Unreachable) as error:
        sys.exit(str(error))
    sys.stdout.write(f"cancelled: {number} jobs\n")


if __name__ == "__main__":
    main()
