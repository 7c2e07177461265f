"""The HTTP client waits between tries, repeats passing statuses alone, and gives up in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.system import http
from tests.checkpoints.server import serving


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BACKOFF_S", 0.001)


def test_waits_double_differ_and_begin_before_the_second_try() -> None:
    waits = [http._wait_s(failures) / http.BACKOFF_S for failures in range(1, http.TRIES)]
    assert all(0.75 * 2**n <= wait <= 1.25 * 2**n for n, wait in enumerate(waits))
    assert len({http._wait_s(1) for _ in range(9)}) > 1, "many connections do not come back at once"
    retry = http.session().get_adapter("https://x").max_retries.increment("GET", "/", error=OSError())
    assert 0.75 <= retry.get_backoff_time() / http.BACKOFF_S <= 1.25


@pytest.mark.parametrize(("status", "asked"), [(503, http.TRIES), (429, http.TRIES), (403, 1), (404, 1)])
def test_passing_statuses_are_repeated_and_permanent_ones_are_not(tmp_path: Path, status: int, asked: int) -> None:
    with serving(tmp_path) as server, http.session() as session:
        server.failures = [status] * 20
        assert http.ask(session, f"{server.url}/x").status_code == status
        assert len(server.gets) == asked


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with http.session() as session, pytest.raises(http.Unreachable, match="ConnectionError"):
        http.ask(session, "http://127.0.0.1:9/x")


def test_tries_are_counted_anew_after_progress() -> None:
    calls: list[str] = []

    def attempt() -> None:
        calls.append("cut")
        raise http.BrokenBody("cut")

    with pytest.raises(http.BrokenBody, match="cut"):
        http.retried(attempt, progress=lambda: min(len(calls), 3))
    assert len(calls) == 3 + http.TRIES - 1
