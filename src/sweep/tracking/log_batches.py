"""What goes into one `log_batch`: as much as MLflow takes, and an update's points all together (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from sweep.tracking.mlflow_values import Point

ENTITIES, NAMED, BYTES = 1000, 100, 1_000_000
"""Limits of MLflow 3.17's REST API: points, params and tags together; params, and tags; the request's JSON.

Its own server does not hold callers to the last one (it counts the request's fields); servers of others do.
"""
POINT_BYTES = 120
"""JSON of a point besides its name; of a param or tag half of it."""


@dataclass
class Batch:
    """One `log_batch`."""

    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    size: int = 1000
    """JSON in bytes, at most; begins with what is around the entities."""


def batches(tags: Mapping[str, str], params: Mapping[str, str], points: Iterable[Point]) -> Iterator[Batch]:
    """Everything, in order and in as few batches as may be.

    MLflow stores a batch's points whole or not at all, and so it does an update's, unless one alone is past the limit.
    """
    batch = Batch()
    for kind, named in (("tags", tags), ("params", params)):
        for name, value in named.items():
            size = len(json.dumps([name, value])) + POINT_BYTES // 2
            if len(getattr(batch, kind)) == NAMED or _is_past(batch, 1, size):
                yield batch
                batch = Batch()
            getattr(batch, kind)[name] = value
            batch.size += size
    for _, together in groupby(points, key=lambda point: (point.name.partition("/")[0], point.step)):
        whole = list(together)
        for some in (whole[at : at + ENTITIES] for at in range(0, len(whole), ENTITIES)):
            size = sum(len(point.name) + POINT_BYTES for point in some)
            if _is_past(batch, len(some), size):
                yield batch
                batch = Batch()
            batch.points += some
            batch.size += size
    if batch.tags or batch.params or batch.points:
        yield batch


def _is_past(batch: Batch, more: int, size: int) -> bool:
    held = len(batch.tags) + len(batch.params) + len(batch.points)
    return held + more > ENTITIES or batch.size + size > BYTES
