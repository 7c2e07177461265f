"""The end of a sweep: what is shown there can't fail what the runs have done."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sweep.planning.controls import Point
from sweep.sweeps import closing
from tests.composing import composed


def test_a_table_that_can_not_be_shown_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(closing, "draw", lambda *_: 1 / 0)
    with caplog.at_level(logging.ERROR):
        closing.close([Point((), composed("anneal.steps=4"), "a key")])
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "the table can't be shown (ZeroDivisionError: division by zero); the same command shows it again"
    ]
