"""A report of anybody's trainings: the same from CSV and Parquet, and a bad table is refused by row and column."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sweep.commands.report import main
from sweep.commands.report_table import read_table
from tests.analysis.simulated import cosine_training


def test_a_table_becomes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = cosine_training(noise=0.001).assign(note="mine")
    rows.to_csv(tmp_path / "logs.csv", index=False)
    rows.to_parquet(tmp_path / "logs.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "logs.csv"), read_table(tmp_path / "logs.parquet"))
    main(["--table", str(tmp_path / "logs.csv"), "--out", str(tmp_path), "--json"])
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    opening = " ".join(section["opening"])
    assert "10 of 10 anneals are better than their training at the same step" in opening
    assert "power law with the exponent 0.4" in opening and "no difference is tested" in opening
    assert {"gains", "places", "orders", "laws", "predictions"} == set(section["tables"])
    page = (tmp_path / "report.html").read_text()
    assert "Columns that are not read: note." in page and 'id="figure-annealed_curves-0"' in page


BAD: list[tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = [
    (lambda rows: rows.drop(columns="lr"), "has no column lr; it needs checkpoint, step, tokens, lr, arm"),
    (lambda rows: rows.rename(columns={"loss/c4": "loss"}), "has no outcome"),
    (lambda rows: rows.assign(tokens="many"), "tokens in row 1 is many; must be a number"),
    (lambda rows: rows.assign(step=-rows["step"]), "step in row 1 is -100; must be a number, 0 or more"),
    (lambda rows: rows.assign(**{"loss/c4": np.inf}), "loss/c4 in row 1 is inf; must be a number"),
    (lambda rows: rows.replace({"arm": {"decay": "decoy"}}), "arm in row 11: 'decoy' is not one of none, decay"),
    (lambda rows: rows[rows["arm"] == "none"], "no row has arm=decay"),
    (lambda rows: rows.assign(checkpoint=None), "checkpoint in row 1 is blank"),
    (lambda rows: pd.concat([rows, rows]), "row 31 has the training, checkpoint, anneal, seed, arm and step of"),
    (lambda rows: rows[:0], "has no rows"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[message[:24] for _, message in BAD])
def test_a_bad_table_is_refused(spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path) -> None:
    spoil(cosine_training()).to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(SystemExit) as refused:
        main(["--table", str(tmp_path / "bad.csv"), "--out", str(tmp_path / "out")])
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_no_file_no_parquet_and_no_such_outcome_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("step,lr")
    cosine_training().to_csv(tmp_path / "logs.csv", index=False)
    for words, message in (
        (["absent.csv"], "no such file"),
        (["text.parquet"], "is no Parquet file"),
        (["logs.csv", "--outcome", "loss/c5"], "--outcome=loss/c5: 'loss/c5' is not one of loss/c4"),
    ):
        with pytest.raises(SystemExit) as refused:
            main(["--table", str(tmp_path / words[0]), *words[1:]])
        assert message in str(refused.value)
