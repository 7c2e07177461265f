"""`python -m sweep.ui [PORT]`: the MLflow UI on the local outcomes, with the link that opens it ready to compare."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Serve until interrupted, on loopback."""
    multirun = Path("multirun").absolute()
    port = sys.argv[1] if len(sys.argv) > 1 else "5000"
    database = multirun / "mlflow.db"
    if not database.is_file():
        sys.exit(f"there are no outcomes yet: {database} is made by the first run, e.g. `make sweep`")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", port]
    os.execv(sys.executable, [*command, "--backend-store-uri", f"sqlite:///{database}"])


if __name__ == "__main__":
    main()
