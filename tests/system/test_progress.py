"""Progress as others read it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sweep.sweeps.run_states import RunState, to_text
from sweep.system import progress
from sweep.system.lease import run_lease
from sweep.system.progress import Progress, read_progress, reporting


def test_a_stage_says_how_far_it_is_and_when_it_ends_by_its_own_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with (
        run_lease(tmp_path).waited_for("it") as lease,
        reporting(tmp_path, lease.token),
        Progress("anneal", total=400, done=200) as bar,
    ):
        assert read_progress(tmp_path) is None
        now += 10
        bar.advance(100)
        report = read_progress(tmp_path)
        assert report is not None
        assert report[:3] == ("anneal", 300, 400)
        assert report.ends == pytest.approx(time.time() + 10, abs=5), "100 took 10 s, and 100 are left"
        text = to_text(RunState(run="r", state="running", job="12_3", detail="running", progress=report))
        assert "job 12_3  anneal 300/400 until about " in text
    assert read_progress(tmp_path) is None


def test_without_a_terminal_a_line_is_logged_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with caplog.at_level("INFO"), Progress("anneal", total=400) as bar:
        for _ in range(4):
            now += progress.LOG_S / 2
            bar.advance(100, "loss 3.1")
    assert caplog.messages == ["anneal 200/400 loss 3.1", "anneal 400/400 loss 3.1"]
    assert capsys.readouterr().err == "", "no bars"
