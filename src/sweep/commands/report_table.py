"""`sweep report --table FILE`: the report of a table of somebody's trainings and anneals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sweep.analysis.answers import table
from sweep.analysis.findings import CHECKPOINTS
from sweep.analysis.table_findings import TABLES_OF, table_findings, table_opening
from sweep.analysis.training_tables import (
    ANNEALED,
    ARMS,
    NEEDED,
    NUMBERS,
    OF_ANNEAL,
    OPTIONAL,
    STDERR,
    TableAnswers,
    table_answers,
    training_table,
)
from sweep.domain.errors import Refusal, shown, unknown
from sweep.page.figures import pictures
from sweep.page.html import Question, Report, Section
from sweep.page.trained import as_saved_and_annealed

PARQUET = (".parquet", ".pq")
PICTURE = "annealed_curves"


def table_report(file: Path, looked_at: Sequence[str]) -> Report:
    """The report of the table in this file; the outcomes `looked_at` come first, by default the first of each metric.

    Raises Refusal if the file is no such table.
    """
    rows = read_table(file)
    outcomes = _outcomes(file, rows)
    for name in looked_at:
        if name not in outcomes:
            raise Refusal(f"--outcome={name}: {unknown(name, outcomes)}")
    _check(file, rows)
    primary = list(looked_at) or list({name.partition("/")[0]: name for name in reversed(outcomes)}.values())[::-1]
    answers = table_answers(training_table(rows, outcomes), primary)
    return Report(f"anneals in {file.name}", [*_unread(rows, outcomes)], [_section(answers)])


def _section(answers: TableAnswers) -> Section:
    tables = {
        "gains": answers.gains,
        "places": answers.ranking.places,
        "orders": answers.ranking.decisions,
        "laws": answers.laws,
        "predictions": answers.predictions,
    }
    drawn = pictures({PICTURE: ("As saved and as annealed, over tokens", as_saved_and_annealed(answers))})
    questions = [
        Question(
            title=question,
            sentences=sentences,
            pictures=drawn if question == CHECKPOINTS else {},
            tables={name: table(tables[name]) for name in TABLES_OF.get(question, ()) if tables[name]},
        )
        for question, sentences in table_findings(answers).items()
        if sentences or question == CHECKPOINTS
    ]
    return Section(opening=table_opening(answers), first=next(iter(drawn), ""), questions=questions, commands=[])


def read_table(file: Path) -> pd.DataFrame:
    """The rows of a CSV or Parquet file that has the needed columns."""
    if not file.is_file():
        raise Refusal(f"--table={file}: no such file")
    try:
        rows = pd.read_parquet(file) if file.suffix in PARQUET else pd.read_csv(file, float_precision="round_trip")
    except (OSError, ValueError) as error:  # the errors of pandas' and pyarrow's parsers are ValueErrors
        kind = "Parquet file" if file.suffix in PARQUET else "table of comma-separated values"
        raise Refusal(f"--table={file} is no {kind}: {shown(error)}") from error
    rows.columns = rows.columns.map(str)
    if rows.empty:
        raise Refusal(f"--table={file}: has no rows")
    for name in NEEDED:
        if name not in rows:
            raise Refusal(
                f"--table={file}: has no column {name}; it needs {', '.join(NEEDED)} and outcomes like loss/c4"
            )
    return rows


def _outcomes(file: Path, rows: pd.DataFrame) -> list[str]:
    """The columns METRIC/TASK, which must be numbers."""
    names = [name for name in rows if "/" in name and not name.startswith(STDERR)]
    if not names:
        raise Refusal(f"--table={file}: has no outcome; the column of one is called METRIC/TASK, like loss/c4")
    for name in rows:
        if name in names or name.startswith(STDERR):
            _check_numbers(file, rows, name, may_be_blank=True)
    return names


def _check(file: Path, rows: pd.DataFrame) -> None:
    """Refuse rows that can't be what they say."""
    for name in NUMBERS:
        _check_numbers(file, rows, name, may_be_blank=False)
    for place, arm in enumerate(rows["arm"]):
        if arm not in ARMS:
            raise Refusal(f"--table={file}: arm in row {place + 1}: {unknown(str(arm), ARMS)}")
    if ANNEALED not in set(rows["arm"]):
        raise Refusal(f"--table={file}: no row has arm={ANNEALED}, so there is no anneal to report on")
    blank = rows["checkpoint"].isna()
    if blank.any():
        raise Refusal(f"--table={file}: checkpoint in row {int(np.argmax(blank)) + 1} is blank; it needs a name")
    same = rows.duplicated([name for name in (*OF_ANNEAL, "arm", "step") if name in rows])
    if same.any():
        raise Refusal(
            f"--table={file}: row {int(np.argmax(same)) + 1} has the {', '.join(OF_ANNEAL)}, arm and step of an earlier"
            " row; a column training, anneal or seed can tell them apart"
        )


def _check_numbers(file: Path, rows: pd.DataFrame, name: str, *, may_be_blank: bool) -> None:
    numbers = pd.to_numeric(rows[name], errors="coerce")
    bad = ~np.isfinite(numbers.to_numpy(float)) & ~(rows[name].isna().to_numpy() & may_be_blank)
    not_negative = name in NUMBERS or name.startswith(STDERR)
    bad |= (numbers < 0).to_numpy() & not_negative
    if bad.any():
        place, more = int(np.argmax(bad)), ", 0 or more" if not_negative else ""
        raise Refusal(
            f"--table={file}: {name} in row {place + 1} is {shown(rows[name].iloc[place])}; must be a number{more}"
        )
    rows[name] = numbers


def _unread(rows: pd.DataFrame, outcomes: Sequence[str]) -> Iterator[str]:
    read = {*NEEDED, *OPTIONAL, *outcomes}
    unread = [name for name in rows if name not in read and not name.startswith(STDERR)]
    if unread:
        yield f"Columns that are not read: {', '.join(unread)}."
