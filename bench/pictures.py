"""The pictures of README and docs, from a sweep that was made: `python bench/pictures.py SWEEP`, in its working folder.

For one such as: python -m sweep -m name=grid checkpoint.step=500 anneal.steps=50,100,200 anneal.peak_scale=0.5,1,2
seed=0,1 tasks.limit=100 'controls=[none,constant]'. It needs Chromium.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PATIENT_MS = 60_000
"""Of the page's own clock, which runs ahead if it only waits."""
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"


def shoot(address: str, name: str, width: int, height: int) -> None:
    """The page at an address as docs/`name`.png."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        flags += [f"--window-size={width},{height}", f"--virtual-time-budget={PATIENT_MS}"]
        command = [CHROMIUM, *flags, f"--screenshot={DOCS / name}.png", address]
        subprocess.run(command, check=True, capture_output=True, timeout=300)


def shoot_report(sweep: str) -> None:
    """The report's page as it opens, and some of its pictures."""
    subprocess.run([sys.executable, "-m", "sweep", "report", sweep], check=True)
    page = Path("multirun", sweep, "report", "report.html").absolute()
    shoot(page.as_uri(), "report-page", 1100, 720)
    text = page.read_text()
    wanted = "settings-0|effects-0|frontier-0|arms-0|peaks-0|laws-0"
    charts = re.findall(rf'<svg class="chart" id="figure-(?:{wanted})".*?</svg>', text, re.DOTALL)
    style = re.findall("<style>.*?</style>", text, re.DOTALL)[0]
    shown = page.with_name(".figures.html")
    shown.write_text(f'<meta charset="utf-8">{style}<main class="charts">{"".join(charts)}</main>')
    shoot(shown.as_uri(), "report-figures", 1000, 1000)
    shown.unlink()


def shoot_mlflow(sweep: str) -> None:
    """The table and the charts. The other pages need a click, or show the machine: they are made by hand."""
    subprocess.run([sys.executable, "-m", "sweep", "sync", sweep], check=True)
    command = [sys.executable, "-m", "sweep", "ui", "5057"]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        link = server.stdout.readline().strip()
        try:
            shoot(link, "mlflow-table", 1400, 560)
            shoot(link.replace("TABLE", "CHART"), "mlflow-charts", 1400, 1480)
        finally:
            server.send_signal(signal.SIGINT)


if __name__ == "__main__":
    shoot_report(sys.argv[1])
    shoot_mlflow(sys.argv[1])
