"""`instance_filter` masks what ai2-olmo 0.6.0's own dataset masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from olmo.config import InstanceFilterConfig
from olmo.data import MemMapDataset

from sweep.data import InstanceFilter


def of_ai2_olmo(ids: np.ndarray, chosen: InstanceFilter, folder: Path) -> list[bool]:
    """What its dataset says of the same instances."""
    file = folder / "ids.npy"
    ids.astype(np.uint32).tofile(file)
    dataset = MemMapDataset(
        file,
        chunk_size=ids.shape[1],
        memmap_dtype=np.uint32,
        instance_filter_config=InstanceFilterConfig(
            repetition_max_period=chosen.max_period,
            repetition_min_period=chosen.min_period,
            repetition_max_count=chosen.max_count,
        ),
    )
    return [not dataset[i]["instance_mask"] for i in range(len(dataset))]


@pytest.mark.parametrize("max_count", [1, 3, 5, 9])
@pytest.mark.parametrize("letters", [1, 2, 3])
def test_random_short_alphabets(letters: int, max_count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([letters, max_count])
    chosen = InstanceFilter(min_period=1, max_period=13, max_count=max_count)
    ids = rng.integers(0, letters, (200, 61))
    assert chosen.masked(ids).tolist() == of_ai2_olmo(ids, chosen, tmp_path)


@pytest.mark.parametrize("period", range(1, 14))
def test_one_more_repetition_and_one_less_at_every_place(period: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(period)
    chosen = InstanceFilter(min_period=1, max_period=13, max_count=32)
    ids = rng.integers(0, 50_000, (80, 1024))
    for row in ids:
        length = period * 32 + rng.integers(-2 * period, 2 * period + 1)
        start = rng.choice([0, 1024 - length, rng.integers(0, 1024 - length)])
        row[start : start + length] = np.resize(rng.integers(0, 50_000, period), length)
    masked = chosen.masked(ids)
    assert masked.tolist() == of_ai2_olmo(ids, chosen, tmp_path)
    assert 0 < masked.sum() < len(ids)
