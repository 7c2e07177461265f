"""A `log_batch` is within MLflow's limits, and holds updates whole."""

from __future__ import annotations

import json

import pytest

from sweep.tracking import log_batches
from sweep.tracking.mlflow_values import Point


def updates(number: int, curves: int = 6) -> list[Point]:
    return [Point(f"train/{name}", 0.0, 0, update) for update in range(1, number + 1) for name in range(curves)]


def test_an_updates_points_are_sent_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_batches, "ENTITIES", 20)
    made = list(log_batches.batches({}, {}, updates(10)))
    assert [len(batch.points) for batch in made] == [18, 18, 18, 6]
    assert [point for batch in made for point in batch.points] == updates(10)


def test_tags_params_and_points_share_a_batch_where_they_fit() -> None:
    scores = [Point(f"after/{name}", 0.5, 0, 0) for name in range(90)]
    (batch,) = log_batches.batches({"host": "a"}, {"model": "b"}, [*scores, *updates(100)])
    assert (batch.tags, batch.params, len(batch.points)) == ({"host": "a"}, {"model": "b"}, 690)


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_no_batch_is_beyond_a_limit_and_nothing_is_lost(letter: str) -> None:
    tags = {f"tag {number}": letter * 8000 for number in range(130)}
    params = {f"param {number}": letter * 6000 for number in range(250)}
    points = [*(Point(f"after/{'n' * 200} {number}", 0.5, 1 << 41, 0) for number in range(2500)), *updates(700)]
    made = list(log_batches.batches(tags, params, points))
    assert {name: value for batch in made for name, value in batch.tags.items()} == tags
    assert {name: value for batch in made for name, value in batch.params.items()} == params
    assert [point for batch in made for point in batch.points] == points
    for batch in made:
        assert len(batch.tags) <= 100
        assert len(batch.params) <= 100
        assert len(batch.tags) + len(batch.params) + len(batch.points) <= 1000
        named = [[{"key": k, "value": v} for k, v in of.items()] for of in (batch.tags, batch.params)]
        metrics = [
            {"key": p.name, "value": -1.2345678901234567e-300, "timestamp": p.timestamp, "step": 10**6}
            for p in batch.points
        ]
        body = json.dumps({"run_id": "r" * 32, "metrics": metrics, "params": named[1], "tags": named[0]})
        assert len(body) <= 1_000_000


def test_nothing_to_send_is_no_batch() -> None:
    assert list(log_batches.batches({}, {}, [])) == []
