"""Which runs were submitted in which job is still known after a kill, a full disk or a flipped bit."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sweep.launch.job_log import FILE, FOLDER, Submitted, record, submissions


def job(number: int) -> Submitted:
    return Submitted(jobs=(f"{number}",), runs=(f"run{number}",), time=1.0, logs=("/log",))


def test_a_torn_last_line_is_cut_before_the_next_one(tmp_path: Path) -> None:
    record(tmp_path, [job(1), job(2)])
    file = tmp_path / FOLDER / FILE
    file.write_bytes(file.read_bytes()[:-7])
    assert set(submissions(tmp_path)) == {"run1"}
    record(tmp_path, [job(3)])
    assert set(submissions(tmp_path)) == {"run1", "run3"}
    assert file.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("line", [b"\xff", b"{}", b"[]", b'{"job":"1","runs":3,"time":1,"log":""}', b""])
def test_a_damaged_line_is_named_and_left_out(tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    record(tmp_path, [job(1)])
    file = tmp_path / FOLDER / FILE
    file.write_bytes(line + b"\n" + file.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert submissions(tmp_path) == {"run1": job(1)}
    assert f"{file}: line 1 is damaged" in caplog.text


def test_what_an_earlier_release_wrote_is_read(tmp_path: Path) -> None:
    record(tmp_path, [])
    (tmp_path / FOLDER / FILE).write_text('{"job": "7", "runs": ["run7"], "time": 1.0, "log": "/log"}\n')
    assert submissions(tmp_path) == {"run7": job(7)}
