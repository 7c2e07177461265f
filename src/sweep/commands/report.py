"""`sweep report SWEEP… [--out FOLDER]`: what a sweep shows, as a page, figures, tables, and a summary in the terminal.

If commands with other axes share a sweep, each question is analysed by itself. Several sweeps are analysed together.

`--csv FILE --axes A,B --outcome C` analyses any table of results in the same way.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from sweep.analysis.answers import Answers, answer, table
from sweep.analysis.effects import effects
from sweep.analysis.factors import varying_axes
from sweep.analysis.findings import findings, next_commands
from sweep.analysis.gaussian_process import importances
from sweep.commands.command_line import DEFAULT_SWEEP, command_parser, refusals
from sweep.domain.errors import Refusal, unknown
from sweep.page.figures import report_figures, table_figures
from sweep.page.html import Section, page
from sweep.sweeps.outcomes import PARAM, digest_axes, frame, read_outcomes, readable
from sweep.sweeps.paired_documents import paired_documents, without_records
from sweep.sweeps.questions import Part, parts, recorded_questions
from sweep.sweeps.run_folders import MULTIRUN, sweep_folder
from sweep.tracking import FILE, read
from sweep.tracking.place import mlflow_place, recorded_tracking

EXAMPLES = """\
sweep report                                        the sweep called main
sweep report steps grid --out both                  two sweeps as one report, in the folder both/
sweep report main --mlflow sweep                    from what MLflow has in the experiment `sweep`
sweep report --csv runs.csv --axes lr,frac --outcome loss
"""
OF_A_QUESTION = re.compile(r"\d+-[a-z_]+\.(csv|png)")
"""Names of the files of one question of several."""
PAGE, FIGURES = "report.html", "figures"
LOCK_WAIT_S = 20.0
"""How long to wait for a lock of MLflow's, in seconds."""
MOST_NORMS = 6
"""Runs whose updates are read for the figure of norms."""


@refusals()
def main(argv: Sequence[str] | None = None) -> None:
    """Write the report and print its summary; a refusal is printed without a traceback and exits with 1."""
    parser = command_parser("report", __doc__, EXAMPLES)
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help=f"name or folder; default: {DEFAULT_SWEEP}")
    parser.add_argument("--out", type=Path, help="folder of the report; default: report/ in the first sweep's folder")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a table of results of any origin, a row for each run")
    parser.add_argument("--axes", metavar="A,B", default="", help="its columns that were varied")
    parser.add_argument("--outcome", metavar="C", default="", help="its column of results")
    parser.add_argument("--mlflow", metavar="EXPERIMENT", help="read the sweeps from MLflow instead of from folders")
    parser.add_argument("--together", action="store_true", help="analyse all runs of a sweep as one design")
    given = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    sweeps = given.sweeps or [DEFAULT_SWEEP]
    if given.csv is not None:
        written = report_csv(given.csv, [name for name in given.axes.split(",") if name], given.outcome, given.out)
    elif given.mlflow is not None:
        written = report_mlflow(given.mlflow, sweeps, given.out, together=given.together)
    else:
        folders = [sweep_folder(name) for name in sweeps]
        written = report(folders, given.out, attach=True, together=given.together)
    sys.stdout.write(f"report    {written}\n")


def report(sweeps: Sequence[Path], out: Path | None = None, *, attach: bool = False, together: bool = False) -> Path:
    """Write the report of these sweeps, finished or not; the path of its page.

    Each question of a sweep is analysed by itself; all runs are analysed as one design if they are to be `together`, or
    if there are several sweeps. `attach` also logs the report to the run of each sweep in MLflow, if the sweep is
    tracked and MLflow answers.
    """
    outcomes, left_out = readable(read_outcomes(sweeps))
    runs = frame(outcomes)
    params = [name.removeprefix(PARAM) for name in outcomes.schema.names if name.startswith(PARAM)]
    unlisted = ("records", "command", "keys", "lost")
    listed = [name for name in runs if name not in unlisted and not name.startswith("stderr/")]
    folder, title = out or sweeps[0] / "report", f"sweep {', '.join(sweep.name for sweep in sweeps)}"
    whole = together or len(sweeps) > 1
    found = [Part("", runs)] if whole else parts(runs, params, recorded_questions(sweeps[0]))
    sections = [_answered(part, params, number if len(found) > 1 else None) for number, part in enumerate(found, 1)]
    if names := without_records(runs):
        left_out.append(f"Records are gone, so gains are not tested on all tasks: {', '.join(names)}.")
    written = _write(folder, title, [*_introduction(runs, found), *left_out], sections)
    runs[listed].to_csv(folder / "runs.csv", index=False)
    for sweep in sweeps if attach else ():
        _attach(sweep, folder)
    return written


def _answered(part: Part, params: Sequence[str], number: int | None) -> Section:
    """The answers to one question; of several, its figures and tables have its `number`."""
    answers = answer(part.rows, [*params, *digest_axes(part.rows, params)], paired_documents)
    prefix = "" if number is None else f"{number}-"
    return Section(
        title="" if number is None else f"{number}. {part.title}",
        findings=findings(answers),
        commands=next_commands(answers),
        figures={prefix + name: drawn for name, drawn in report_figures(answers, _some_steps(answers)).items()},
        tables={prefix + name: table for name, table in answers.tables().items()},
    )


def _introduction(runs: pd.DataFrame, found: Sequence[Part]) -> Iterator[str]:
    """How several questions share the runs; nothing if there is one."""
    if len(found) == 1:
        return
    listed = "; ".join(f"{number}. {part.title} ({len(part.rows)} runs)" for number, part in enumerate(found, 1))
    yield f"{len(runs)} runs of commands that asked different questions, each analysed by itself: {listed}."
    yield "With --together all runs are analysed as one design; name=NAME keeps a question in a sweep of its own."


def report_mlflow(experiment: str, names: Sequence[str], out: Path | None, *, together: bool = False) -> Path:
    """Write the same report from the journals and records of these sweeps in MLflow; they are kept in its folder."""
    from sweep.tracking.connection import Connection
    from sweep.tracking.reports import fetch

    folder, place = out or MULTIRUN / names[0] / "report", mlflow_place(MULTIRUN.absolute())
    to = Connection(place.tracking_uri, experiment, place.artifact_root)
    fetched = {name: folder / "from-mlflow" / name for name in names}
    for name, copy in fetched.items():
        if not fetch(to, name, copy):
            raise Refusal(f"SWEEP={name}: MLflow has no journal of it in the experiment {experiment}")
    return report(list(fetched.values()), folder, together=together)


def report_csv(file: Path, names: Sequence[str], outcome: str, out: Path | None) -> Path:
    """Write effects, levels and figures of any table of results; the path of the page."""
    if not file.is_file():
        raise Refusal(f"--csv={file}: no such file")
    try:
        runs = pd.read_csv(file)
    except (OSError, ValueError) as error:  # pandas' errors of parsing are ValueErrors
        raise Refusal(f"--csv={file} is no table of comma-separated values: {error}") from error
    if runs.empty:
        raise Refusal(f"--csv={file}: has no rows")
    for option, value in [*(("--axes", name) for name in names or [""]), ("--outcome", outcome)]:
        if value not in runs:
            raise Refusal(f"{option}={value}: {unknown(value, [str(c) for c in runs])}")
    if not pd.api.types.is_numeric_dtype(runs[outcome]):
        raise Refusal(f"--outcome={outcome}: must be numbers, but {file} has {runs[outcome].iloc[0]!r}")
    runs = runs.assign(**{name: runs[name].astype(object).where(runs[name].notna(), "null") for name in names})
    axes = varying_axes(runs, names)
    if not axes:
        raise Refusal(f"--axes={','.join(names)}: none of them varies in {file}")
    of_terms, levels, noise = effects(runs, axes, [outcome])
    shares = [f"{e.term}: {e.share_percent:.1f} % of the variance, {e.verdict}" for e in of_terms]
    second_opinion = importances(runs, axes, outcome, outcome)
    answers = {"effects": of_terms, "levels": levels, "noise": noise, "importances": second_opinion}
    section = Section(
        findings={"Which axis matters?": shares},
        commands=[],
        figures=table_figures(runs, axes, outcome, of_terms, next(iter(noise), None)),
        tables={name: table(records) for name, records in answers.items() if records},
    )
    return _write(out or file.with_suffix(""), f"{outcome} of {file.name}", [], [section])


def _attach(sweep: Path, folder: Path) -> None:
    """Log the report to MLflow; one warning if MLflow doesn't answer, because the report itself is complete."""
    events = (read(path.parent, steps=False) for path in sweep.glob(f"*/{FILE}"))
    tracking = next((recorded_tracking(run) for run in events if run.attempts), None)
    if tracking is None or not tracking["enabled"]:
        return
    from sweep.tracking.connection import Connection
    from sweep.tracking.reports import attach
    from sweep.tracking.sweeps import error_of

    place = mlflow_place(sweep.absolute().parent, tracking["uri"], tracking["experiment"])

    def connect() -> Connection:
        return Connection(place.tracking_uri, place.experiment, place.artifact_root, within_s=LOCK_WAIT_S)

    if error := error_of(lambda: attach(connect(), sweep, folder)):
        logging.getLogger(__name__).warning("the report is not in MLflow: %s", error)


def _some_steps(answers: Answers) -> dict[str, pd.DataFrame]:
    """The updates of a few anneals, spread over the sweep, by the runs' names."""
    runs = answers.finished_anneals()
    chosen = runs.iloc[:: max(1, len(runs) // MOST_NORMS)].head(MOST_NORMS)
    steps = {row["name"]: read(Path(row["sweep"], row["folder"])).steps for _, row in chosen.iterrows()}
    return {name: pd.DataFrame(list(records)) for name, records in steps.items() if records}


def _write(folder: Path, title: str, introduction: Sequence[str], sections: Sequence[Section]) -> Path:
    """Print the summary and write page, figures and tables; the path of the page, which appears whole."""
    _print(title, introduction, sections)
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    for earlier in (*folder.glob("*.csv"), *folder.glob(f"{FIGURES}/*.png")):
        if OF_A_QUESTION.match(earlier.name):
            earlier.unlink()  # of a report that found more questions
    for section in sections:
        for name, rows in section.tables.items():
            rows.to_csv(folder / f"{name}.csv", index=False)
        for name, (_, data) in section.figures.items():
            (folder / FIGURES / f"{name}.png").write_bytes(data)
    part = folder / f".{PAGE}.{os.getpid()}"
    part.write_text(page(title, introduction, sections), encoding="utf-8")
    os.replace(part, folder / PAGE)
    return folder / PAGE


def _print(title: str, introduction: Sequence[str], sections: Sequence[Section]) -> None:
    console = Console(highlight=False, emoji=False)
    console.print(title, style="bold", markup=False)
    for sentence in introduction:
        console.print(sentence, markup=False)
    for section in sections:
        if section.title:
            console.print(f"\n{section.title}", style="bold", markup=False)
        for question, sentences in section.findings.items():
            console.print(question, style="bold", markup=False)
            for sentence in sentences:
                console.print(f"  {sentence}", markup=False)
        if section.commands:
            console.print("Runs worth making next", style="bold")
        for why, command in section.commands:
            console.print(f"  {why}\n    {command}", markup=False, soft_wrap=True)
