"""Cuts tags, params and points into batches for MLflow's `log_batch`, with an update's points in the same batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from sweep.tracking.mlflow_values import Point

ENTITIES, NAMED, BYTES = 1000, 100, 1_000_000
"""Limits of MLflow 3.17's REST API: of points, params and tags together; of params and of tags; of bytes of JSON.

MLflow's own server does not enforce the last one, but other servers do.
"""
POINT_BYTES = 120
"""Bytes of a point's JSON without its name; a param or tag takes half of it."""


@dataclass
class Batch:
    """One `log_batch`."""

    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    size: int = 1000
    """Upper bound of the JSON in bytes; the first 1000 are for what is around the entries."""


def batches(tags: Mapping[str, str], params: Mapping[str, str], points: Iterable[Point]) -> Iterator[Batch]:
    """Everything, in order, in as few batches as possible.

    MLflow stores all points of a batch or none. So it has all points of an update or none, unless they exceed a batch.
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
    for _, group in groupby(points, key=lambda point: (point.name.partition("/")[0], point.step)):
        update = list(group)
        for chunk in (update[start : start + ENTITIES] for start in range(0, len(update), ENTITIES)):
            size = sum(len(point.name) + POINT_BYTES for point in chunk)
            if _is_past(batch, len(chunk), size):
                yield batch
                batch = Batch()
            batch.points += chunk
            batch.size += size
    if batch.tags or batch.params or batch.points:
        yield batch


def _is_past(batch: Batch, more: int, size: int) -> bool:
    """Whether `more` entries of `size` bytes in all exceed what one batch may hold."""
    held = len(batch.tags) + len(batch.params) + len(batch.points)
    return held + more > ENTITIES or batch.size + size > BYTES
