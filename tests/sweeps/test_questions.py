"""Commands that ask different questions in one sweep: which runs are analysed together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.commands.report import main
from sweep.domain.digests import digest
from sweep.planning.controls import Point
from sweep.planning.names import run_key
from sweep.sweeps.asking import FOLDER, Questions
from sweep.sweeps.outcome_table import PARAM, read_outcomes
from sweep.sweeps.outcomes import frame
from sweep.sweeps.questions import Question, parts, recorded_questions
from tests.composing import composed
from tests.journals import params, write_run

STEPS = [{"anneal.steps": steps} for steps in (10, 20, 40)]
GRID = [
    {"anneal.shape": shape, "anneal.peak_scale": scale}
    for shape in ("linear", "sqrt", "cosine")
    for scale in (0.5, 1.0)
]
CHECKPOINTS = [{"checkpoint.step": step} for step in (200, 400)]


def make(sweep: Path, *points: dict[str, Any], command: bool = False) -> Question:
    """Make these runs; the question of the command that made them."""
    for point in points:
        words = " ".join(f"{key}={value}" for key, value in point.items())
        write_run(sweep, gain=0.01, command=f"python -m sweep {words}" if command else None, **point)
    axes = dict.fromkeys(key for point in points for key in point if key != "seed")
    return Question(tuple(axes), frozenset(digest(params(**point)) for point in points))


def found(sweep: Path, *questions: Question) -> dict[str, int]:
    """Title -> number of runs of each part."""
    table = read_outcomes([sweep])
    names = [name.removeprefix(PARAM) for name in table.schema.names if name.startswith(PARAM)]
    return {part.title: len(part.rows) for part in parts(frame(table), names, questions)}


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "an old folder"])
def test_commands_of_the_readme_one_after_the_other_are_questions_of_their_own(tmp_path: Path, recorded: bool) -> None:
    made = [make(tmp_path, *points, command=True) for points in (STEPS, GRID, CHECKPOINTS)]
    asked = made if recorded else []
    assert {frozenset(title.split(", ")): runs for title, runs in found(tmp_path, *asked).items()} == {
        frozenset({"anneal.shape", "anneal.peak_scale"}): 6,
        frozenset({"anneal.steps"}): 3,
        frozenset({"checkpoint.step"}): 3,  # with the default run, which the first command made
    }


def test_what_extends_or_repeats_a_question_is_part_of_it(tmp_path: Path) -> None:
    first = make(tmp_path, *STEPS)
    more = make(tmp_path, {"anneal.steps": 80}, {"anneal.steps": 160})
    make(tmp_path, {"anneal.steps": 80, "seed": 1})
    write_run(tmp_path, gain=0.0, arm="constant", **{"anneal": "constant", "anneal.shape": "constant"})
    write_run(tmp_path, gain=0.0, arm="none", **{"anneal": "none", "anneal.steps": 0})
    assert found(tmp_path, first, more) == {"": 8}
    both = Question(("anneal.steps", "anneal.shape"), frozenset({*first.runs, *make(tmp_path, *GRID).runs}))
    assert sum(found(tmp_path, first, more, both).values()) > 8


def test_one_question_and_a_run_of_something_else(tmp_path: Path) -> None:
    asked = make(tmp_path, *STEPS)
    write_run(tmp_path, gain=0.0, **{"model": "other", "checkpoint.step": 7})
    assert found(tmp_path, asked) == {"anneal.steps": 3, "other runs": 1}
    assert found(tmp_path) == {"": 4}, "single runs that nothing tells apart by command are compared with each other"


def test_a_command_records_what_it_varies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = [[f"anneal.steps={steps}", f"seed={seed}"] for steps in (10, 20) for seed in (0, 1)]
    runs = [Point((), config, run_key(config)) for config in (composed(*words) for words in (["anneal=none"], *chosen))]
    for size in (5, 2):  # batches leave what the whole does
        questions = Questions()
        for first in range(0, 5, size):
            questions.record(runs[first : first + size])
    (asked,) = recorded_questions(Path("multirun/main"))
    assert asked.axes == ("anneal.steps",) and asked.runs == {run.key for run in runs}
    Questions().record(runs[1:2])
    (file,) = Path("multirun/main", FOLDER).iterdir()
    file.write_bytes(file.read_bytes().replace(b"anneal.steps", b"anneal.steqs"))
    assert recorded_questions(Path("multirun/main")) == []


@pytest.mark.slow
def test_the_report_says_which_questions_it_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "main"
    for points in (STEPS, CHECKPOINTS):
        make(sweep, *points, command=True)
    main([str(sweep)])
    said = " ".join(capsys.readouterr().out.split())
    assert "1. anneal.steps (3 runs); 2. checkpoint.step (3 runs)" in said
    page = (sweep / "report" / "report.html").read_text()
    assert 'id="table-1-settings"' in page and 'id="table-2-settings"' in page
    assert (sweep / "report" / "1-settings.csv").is_file()
    main([str(sweep), "--together"])
    assert "5 runs: 5 finished" in " ".join(capsys.readouterr().out.split())
    assert (sweep / "report" / "settings.csv").is_file() and not (sweep / "report" / "1-settings.csv").exists()
