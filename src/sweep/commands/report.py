"""`sweep report SWEEP… [--out FOLDER]`: what a sweep shows, as a page, figures, tables, and a summary in the terminal.

If commands with other axes share a sweep, each question is analysed by itself. Several sweeps are analysed together.

`--csv FILE --axes A,B --outcome C` analyses any table of results in the same way. `--table FILE` analyses anybody's
trainings and anneals: an evaluation a row, with the columns checkpoint, step, tokens, lr, arm and METRIC/TASK.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from sweep.analysis.answers import Answers, answer, table
from sweep.analysis.effects import effects
from sweep.analysis.factors import varying_axes
from sweep.analysis.findings import MATTERING, RUNS, TABLES_OF, findings, next_commands, run_counts
from sweep.analysis.gaussian_process import importances
from sweep.analysis.opening import Opening, opening
from sweep.analysis.side_by_side import side_by_side
from sweep.analysis.wording import listed
from sweep.commands.command_line import DEFAULT_SWEEP, command_parser, refusals
from sweep.commands.report_table import table_report
from sweep.domain.errors import Refusal, unknown
from sweep.page.charts import Picture
from sweep.page.figures import FIGURES_OF, FIRST, report_figures, table_figures
from sweep.page.html import Question, Report, Section, first_picture, page
from sweep.page.plain import as_json, summary
from sweep.page.svg import alone
from sweep.sweeps.listing import listing
from sweep.sweeps.outcome_table import PARAM, read_outcomes
from sweep.sweeps.outcomes import digest_axes, frame, frames, readable
from sweep.sweeps.paired_documents import paired_documents, without_records
from sweep.sweeps.questions import Part, parts, recorded_questions
from sweep.sweeps.run_folders import MULTIRUN, sweep_folder
from sweep.system.terminal import show
from sweep.tracking import FILE, read
from sweep.tracking.opening import keep_opening
from sweep.tracking.place import mlflow_place, recorded_tracking

EXAMPLES = """\
sweep report                                        the sweep called main
sweep report steps grid --out both                  two sweeps as one report, in the folder both/
sweep report main --mlflow sweep                    from what MLflow has in the experiment `sweep`
sweep report --csv runs.csv --axes lr,frac --outcome loss
sweep report --table logs.parquet --outcome loss/c4,acc/piqa      trainings and anneals of any origin
"""
OF_A_QUESTION = re.compile(r"\d+-[a-z_]+\.csv")
"""Names of the files of one question of several."""
COMPARED = "What changed between the sweeps?"
PAGE, FIGURES, FIRST_PICTURE = "report.html", "figures", "report.svg"
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
    parser.add_argument("--table", type=Path, metavar="FILE", help="trainings and anneals of any origin (CSV, Parquet)")
    parser.add_argument("--axes", metavar="A,B", default="", help="its columns that were varied")
    parser.add_argument(
        "--outcome", metavar="C", default="", help="its column of results; of a --table the first ones: C,D"
    )
    parser.add_argument("--mlflow", metavar="EXPERIMENT", help="read the sweeps from MLflow instead of from folders")
    parser.add_argument("--together", action="store_true", help="analyse all runs of a sweep as one design")
    parser.add_argument("--json", action="store_true", help="print every answer as JSON instead of the summary")
    given = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    sweeps = given.sweeps or [DEFAULT_SWEEP]
    if given.csv is not None:
        report, written = report_csv(
            given.csv, [name for name in given.axes.split(",") if name], given.outcome, given.out
        )
    elif given.table is not None:
        report = table_report(given.table, [name for name in given.outcome.split(",") if name])
        written = _write(given.out or given.table.with_suffix(""), report)
    elif given.mlflow is not None:
        report, written = report_mlflow(given.mlflow, sweeps, given.out, together=given.together)
    else:
        folders = [sweep_folder(name) for name in sweeps]
        report, written = report_sweeps(folders, given.out, attach=True, together=given.together)
    shown = as_json(report, str(written)) if given.json else f"{summary(report)}report    {written}\n"
    show(shown)


def report_sweeps(
    sweeps: Sequence[Path], out: Path | None = None, *, attach: bool = False, together: bool = False
) -> tuple[Report, Path]:
    """Write the report of these sweeps, finished or not; the report and the path of its page.

    Each question of a sweep is analysed by itself; all runs are analysed as one design if they are to be `together`, or
    if there are several sweeps. `attach` also logs the report to the run of each sweep in MLflow, if the sweep is
    tracked and MLflow answers.
    """
    outcomes, left_out = readable(read_outcomes(sweeps))
    runs = frame(outcomes)
    params = [name.removeprefix(PARAM) for name in outcomes.schema.names if name.startswith(PARAM)]
    unlisted = ("records", "command", "keys", "lost")
    columns = [name for name in runs if name not in unlisted and not name.startswith("stderr/")]
    folder, title = out or sweeps[0] / "report", f"sweep {', '.join(sweep.name for sweep in sweeps)}"
    whole = together or len(sweeps) > 1
    found = [Part("", runs)] if whole else parts(runs, params, recorded_questions(sweeps[0]))
    asked = Asked(params, folder, frames(outcomes, sweeps) if len(sweeps) > 1 else {})
    sections = [_answered(part, asked, number if len(found) > 1 else None) for number, part in enumerate(found, 1)]
    if names := without_records(runs):
        left_out.append(f"Records are gone, so gains are not tested on all tasks: {listed(names)}.")
    report = Report(title, [f"{run_counts(runs)}.", *_introduction(runs, found), *left_out], sections)
    written = _write(folder, report)
    runs[columns].to_csv(folder / "runs.csv", index=False)
    for sweep in sweeps if attach else ():
        _attach(sweep, folder, len(runs), sections)
    return report, written


@dataclass(frozen=True)
class Asked:
    """What the sections of a report have in common."""

    params: Sequence[str]
    folder: Path
    """Of the page."""
    sweeps: Mapping[str, pd.DataFrame]
    """The runs of each sweep, if there are several."""


def _compared(answers: Answers, asked: Asked) -> tuple[Question, Opening]:
    """The sweeps side by side, and an opening that begins with their difference."""
    sentences, differences = side_by_side(answers, asked.sweeps, asked.params)
    tables = {"side_by_side": table(differences)} if differences else {}
    said = opening(answers)
    first = [sentence for sentence in sentences if "a difference of" in sentence][:1]
    return Question(title=COMPARED, sentences=sentences, pictures={}, tables=tables), replace(
        said, sentences=(*first, *said.sentences)
    )


def _answered(part: Part, asked: Asked, number: int | None) -> Section:
    """The answers to one question; of several, its pictures and tables have its `number`."""
    answers = answer(part.rows, [*asked.params, *digest_axes(part.rows, asked.params)], paired_documents)
    prefix = "" if number is None else f"{number}-"
    figures, tables, said = report_figures(answers, _some_steps(answers)), answers.tables(), findings(answers)
    questions = [
        Question(
            title=question,
            sentences=said.get(question, []),
            pictures={prefix + name: figures[name] for name in FIGURES_OF[question] if name in figures},
            tables={prefix + name: tables[name] for name in names if name in tables},
            runs=listing(part.rows, answers, asked.folder) if question == RUNS else None,
        )
        for question, names in TABLES_OF.items()
    ]
    said_first = opening(answers)
    if asked.sweeps:
        compared, said_first = _compared(answers, asked)
        questions.insert(0, compared)
    return Section(
        title="" if number is None else f"{number}. {part.title}",
        opening=said_first,
        first=next((prefix + name for name in FIRST if name in figures), ""),
        questions=[q for q in questions if q.sentences or q.pictures or q.tables or q.runs is not None],
        commands=next_commands(answers),
    )


def _introduction(runs: pd.DataFrame, found: Sequence[Part]) -> Iterator[str]:
    """How several questions share the runs; nothing if there is one."""
    if len(found) == 1:
        return
    listed = "; ".join(f"{number}. {part.title} ({len(part.rows)} runs)" for number, part in enumerate(found, 1))
    yield f"{len(runs)} runs of commands that asked different questions, each analysed by itself: {listed}."
    yield "With --together all runs are analysed as one design; name=NAME keeps a question in a sweep of its own."


def report_mlflow(
    experiment: str, names: Sequence[str], out: Path | None, *, together: bool = False
) -> tuple[Report, Path]:
    """Write the same report from the journals and records of these sweeps in MLflow; they are kept in its folder."""
    from sweep.tracking.connection import Connection
    from sweep.tracking.reports import fetch

    folder, place = out or MULTIRUN / names[0] / "report", mlflow_place(MULTIRUN.absolute())
    to = Connection(place.tracking_uri, experiment, place.artifact_root)
    fetched = {name: folder / "from-mlflow" / name for name in names}
    for name, copy in fetched.items():
        if not fetch(to, name, copy):
            raise Refusal(f"SWEEP={name}: MLflow has no journal of it in the experiment {experiment}")
    return report_sweeps(list(fetched.values()), folder, together=together)


def report_csv(file: Path, names: Sequence[str], outcome: str, out: Path | None) -> tuple[Report, Path]:
    """Write effects, levels and figures of any table of results; the report and the path of its page."""
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
    question = Question(
        title=MATTERING,
        sentences=shares,
        pictures=table_figures(runs, axes, outcome, of_terms, next(iter(noise), None)),
        tables={name: table(records) for name, records in answers.items() if records},
    )
    section = Section(opening=Opening(tuple(shares[:1]), None), first="effects", questions=[question], commands=[])
    report = Report(f"{outcome} of {file.name}", [], [section])
    return report, _write(out or file.with_suffix(""), report)


def _attach(sweep: Path, folder: Path, runs: int, sections: Sequence[Section]) -> None:
    """Log the report of so many runs to MLflow, and its opening as the sweep's note.

    One warning if MLflow doesn't answer, because the report itself is complete.
    """
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

    def send() -> None:
        keep_opening(sweep, runs, [(section.title, section.opening) for section in sections])
        attach(connect(), sweep, folder)

    if error := error_of(send):
        logging.getLogger(__name__).warning("the report is not in MLflow: %s", error)


def _some_steps(answers: Answers) -> dict[str, pd.DataFrame]:
    """The updates of a few anneals, spread over the sweep, by the runs' names."""
    runs = answers.finished_anneals()
    chosen = runs.iloc[:: max(1, len(runs) // MOST_NORMS)].head(MOST_NORMS)
    steps = {row["name"]: read(Path(row["sweep"], row["folder"])).steps for _, row in chosen.iterrows()}
    return {name: pd.DataFrame(list(records)) for name, records in steps.items() if records}


def _write(folder: Path, report: Report) -> Path:
    """Write page, pictures and tables; the path of the page, which appears whole."""
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    for earlier in (*folder.glob("*.csv"), *folder.glob(f"{FIGURES}/*")):
        if OF_A_QUESTION.match(earlier.name) or earlier.parent.name == FIGURES:
            earlier.unlink()  # of a report that found more questions, or had other pictures
    for question in (question for section in report.sections for question in section.questions):
        for name, rows in question.tables.items():
            rows.to_csv(folder / f"{name}.csv", index=False)
        for name, picture in question.pictures.items():
            (folder / FIGURES / f"{name}.svg").write_text(alone(picture), encoding="utf-8")
    if (first := first_picture(report)) is not None:
        (folder / FIRST_PICTURE).write_text(alone(Picture(first.title, first.charts[:1])), encoding="utf-8")
    part = folder / f".{PAGE}.{os.getpid()}"
    part.write_text(page(report), encoding="utf-8")
    os.replace(part, folder / PAGE)
    return folder / PAGE
