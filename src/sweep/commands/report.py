"""`sweep report SWEEP… [--out FOLDER]`: what a sweep says, as a page, figures, tables and a summary here.

`--csv FILE --axes A,B --outcome C` analyses any table of results in the same way.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from sweep.analysis.answers import Answers, answer, table
from sweep.analysis.effects import effects
from sweep.analysis.factors import axes
from sweep.analysis.findings import findings, next_commands
from sweep.analysis.gaussian_process import importances
from sweep.commands.command_line import DEFAULT_SWEEP, command_parser, refusals
from sweep.domain.errors import Refusal, unknown
from sweep.page.figures import draw, plain
from sweep.page.html import page
from sweep.sweeps.outcomes import PARAM, found_sweep, frame, read_outcomes
from sweep.sweeps.paired_documents import paired
from sweep.tracking import FILE, read
from sweep.tracking.place import mlflow_place, recorded_tracking

EXAMPLES = """\
sweep report                                        the sweep called main
sweep report steps grid --out both                  two sweeps as one report, in the folder both/
sweep report main --mlflow sweep                    from what MLflow has in the experiment `sweep`
sweep report --csv runs.csv --axes lr,frac --outcome loss
"""
PAGE, FIGURES = "report.html", "figures"
WAIT_S = 20.0
"""For a lock of MLflow's."""
TAILS = 6
"""Runs whose updates are read for the norms along the anneal."""


@refusals()
def main(argv: Sequence[str] | None = None) -> None:
    """Write the report and print its summary; a refusal is printed without a traceback and exits with 1."""
    parser = command_parser("report", __doc__, EXAMPLES)
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help=f"name or folder; default: {DEFAULT_SWEEP}")
    parser.add_argument(
        "--out", type=Path, help="folder of the report; the first sweep's own, report/, where none is given"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a table of results of any origin, a row a run")
    parser.add_argument("--axes", metavar="A,B", help="its columns that were varied")
    parser.add_argument("--outcome", metavar="C", help="its column of results")
    parser.add_argument("--mlflow", metavar="EXPERIMENT", help="read the sweeps named from MLflow, not from folders")
    given = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    sweeps = given.sweeps or [DEFAULT_SWEEP]
    if given.csv is not None:
        where = report_csv(given.csv, given.axes, given.outcome, given.out)
    elif given.mlflow is not None:
        where = report_mlflow(given.mlflow, sweeps, given.out)
    else:
        where = report([found_sweep(name, Path("multirun")) for name in sweeps], given.out, attach=True)
    sys.stdout.write(f"report    {where}\n")


def report(sweeps: Sequence[Path], out: Path | None = None, *, attach: bool = False) -> Path:
    """Write the report of these sweeps, finished or not; the page's path.

    `attach` also logs it to each sweep's own run in MLflow, where that answers and the sweep is tracked.
    """
    outcomes = read_outcomes(sweeps)
    runs = frame(outcomes)
    params = [name.removeprefix(PARAM) for name in outcomes.schema.names if name.startswith(PARAM)]
    answers = answer(runs, params, paired)
    title = f"sweep {', '.join(sweep.name for sweep in sweeps)}"
    folder = out or sweeps[0] / "report"
    said, commands = findings(answers), next_commands(answers)
    _print(title, said, commands)
    figures = draw(answers, _tails(answers))
    shown = answers.tables()
    listed = [name for name in runs if name not in ("records", "command") and not name.startswith("stderr/")]
    written = _write(folder, page(title, said, commands, figures, shown), figures, {**shown, "runs": runs[listed]})
    for sweep in sweeps if attach else ():
        _attach(sweep, folder)
    return written


def report_mlflow(experiment: str, names: Sequence[str], out: Path | None) -> Path:
    """The same report from the journals and records that MLflow has of these sweeps, kept in its folder."""
    from sweep.tracking.connection import Connection
    from sweep.tracking.reports import fetch

    multirun, folder = Path("multirun").absolute(), out or Path("multirun", names[0], "report")
    place = mlflow_place(multirun)
    to = Connection(place.tracking_uri, experiment, place.artifact_root)
    fetched = {name: folder / "from-mlflow" / name for name in names}
    for name, copy in fetched.items():
        if not fetch(to, name, copy):
            raise Refusal(f"SWEEP={name}: MLflow has no journal of it in the experiment {experiment}")
    return report(list(fetched.values()), folder)


def _attach(sweep: Path, folder: Path) -> None:
    """Log the report to MLflow; one line where it doesn't answer."""
    runs = [events for path in sweep.glob(f"*/{FILE}") if (events := read(path.parent, steps=False)).attempts][:1]
    tracking = recorded_tracking(runs[0]) if runs else None
    if tracking is None or not tracking["enabled"]:
        return
    from sweep.tracking.connection import Connection
    from sweep.tracking.reports import attach
    from sweep.tracking.sweeps import in_a_line

    place = mlflow_place(sweep.absolute().parent, tracking["uri"], tracking["experiment"])
    try:
        to = Connection(place.tracking_uri, place.experiment, place.artifact_root, within_s=WAIT_S)
        attach(to, sweep, folder)
    except Exception as failure:  # an MLflow that is away is no fault of the report
        logging.getLogger(__name__).warning("the report is not in MLflow: %s", in_a_line(failure))


def report_csv(file: Path, names: str | None, outcome: str | None, out: Path | None) -> Path:
    """Write effects, levels and figures of any table of results; the page's path."""
    if not file.is_file():
        raise Refusal(f"--csv={file}: no such file")
    runs = pd.read_csv(file)
    wanted = [name for name in (names or "").split(",") if name]
    for option, value in [*(("--axes", name) for name in wanted or [""]), ("--outcome", outcome or "")]:
        if value not in runs:
            raise Refusal(f"{option}={value}: {unknown(value, [str(c) for c in runs])}")
    assert outcome is not None
    if not pd.api.types.is_numeric_dtype(runs[outcome]):
        raise Refusal(f"--outcome={outcome}: must be numbers, and {file} has {runs[outcome].iloc[0]!r} there")
    runs = runs.assign(**{name: runs[name].astype(object).where(runs[name].notna(), "null") for name in wanted})
    varying = axes(runs, wanted)
    if not varying:
        raise Refusal(f"--axes={names}: none of them varies in {file}")
    affected, levels, noise = effects(runs, varying, [outcome])
    opinion = importances(runs.dropna(subset=[outcome]), varying, outcome, outcome)
    found = {"effects": affected, "levels": levels, "noise": noise, "importances": opinion}
    tables = {name: table(records) for name, records in found.items() if records}
    said = {
        "Which axis matters?": [f"{e.term}: {e.share_percent:.1f} % of the variance, {e.verdict}" for e in affected]
    }
    title = f"{outcome} of {file.name}"
    _print(title, said, [])
    figures = plain(runs, varying, outcome, affected, noise)
    return _write(out or file.with_suffix(""), page(title, said, [], figures, tables), figures, tables)


def _tails(answers: Answers) -> dict[str, pd.DataFrame]:
    """The updates of a few anneals, spread over the sweep."""
    runs = answers.runs[answers.runs["status"] == "finished"]
    runs = runs[runs["arm"] == "decay"] if "arm" in runs else runs
    chosen = runs.iloc[:: max(1, len(runs) // TAILS)].head(TAILS)
    made = {}
    for _, row in chosen.iterrows():
        steps = read(Path(row["sweep"], row["run"])).steps
        if steps:
            made[row["name"]] = pd.DataFrame(list(steps))
    return made


def _write(folder: Path, text: str, figures: dict[str, tuple[str, bytes]], tables: dict[str, pd.DataFrame]) -> Path:
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    for name, found in tables.items():
        found.to_csv(folder / f"{name}.csv", index=False)
    for name, (_, data) in figures.items():
        (folder / FIGURES / f"{name}.png").write_bytes(data)
    part = folder / f".{PAGE}.{os.getpid()}"
    part.write_text(text, encoding="utf-8")
    os.replace(part, folder / PAGE)
    return folder / PAGE


def _print(title: str, said: dict[str, list[str]], commands: Sequence[tuple[str, str]]) -> None:
    console = Console(highlight=False, emoji=False)
    console.print(title, style="bold", markup=False)
    for question, sentences in said.items():
        console.print(question, style="bold", markup=False)
        for sentence in sentences:
            console.print(f"  {sentence}", markup=False)
    if commands:
        console.print("Runs worth making next", style="bold")
        for why, command in commands:
            console.print(f"  {why}\n    {command}", markup=False, soft_wrap=True)
