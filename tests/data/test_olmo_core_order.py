"""The order of OLMo-core's loader, against the instances that OLMo-core itself noted step by step."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from sweep.data.olmo_core_order import OlmoCoreOrder, instances_of_files, token_dtype
from tests.skips import NO_OLMO_CORE

SHARED = Path(os.environ.get("OLMO_CORE_FIXTURES", Path(__file__).parents[3] / "shared" / "olmo_core"))
needs_fixtures = pytest.mark.skipif(not SHARED.is_dir(), reason=NO_OLMO_CORE)
RUN = {"batch_tokens": 1024, "sequence_length": 128, "max_sequence_length": 128, "seed": 34521}
NUM_INSTANCES = sum(instances_of_files((340066, 260300), np.dtype("uint16"), 128, 128))


def test_first_batches_are_those_that_olmo_core_read():
    batches = OlmoCoreOrder(num_instances=NUM_INSTANCES, **RUN).batches(epoch=1, tokens_processed=200 * 1024)
    noted = ([904, 816, 1211, 291, 958, 1624, 906, 2008], [475, 895, 1512, 25, 1697, 1936, 921, 2145])
    assert [batch.tolist() for _, batch in itertools.islice(batches, 2)] == list(noted)


@needs_fixtures
@pytest.mark.parametrize("name", ["olmo2/base", "olmo2/anneal"])
def test_every_step_has_the_instances_and_the_epoch_that_olmo_core_noted(name):
    with (SHARED / "fixtures" / f"{name}.csv").open() as file:
        noted = list(csv.DictReader(file))
    done = (int(noted[0]["step"]) - 1) * RUN["batch_tokens"]
    batches = OlmoCoreOrder(num_instances=NUM_INSTANCES, **RUN).batches(epoch=1, tokens_processed=done)
    for row, (epoch, batch) in zip(noted, batches, strict=False):
        assert (epoch, " ".join(map(str, batch))) == (int(row["epoch"]), row["indices"])


def test_a_chunk_keeps_neighbours_and_an_epoch_drops_what_is_no_whole_batch():
    order = OlmoCoreOrder(num_instances=22, batch_tokens=24, sequence_length=4, max_sequence_length=16, seed=1)
    read = order.epoch(1)
    assert read.shape == (3, 6)
    assert all(first % 4 == 0 for first in read.reshape(-1)[::4])
    assert not np.array_equal(read, order.epoch(2))
    epochs = [epoch for epoch, _ in itertools.islice(order.batches(epoch=1, tokens_processed=24), 5)]
    assert epochs == [1, 1, 2, 2, 2]


def test_a_file_drops_its_remainder_and_a_vocabulary_decides_the_type():
    assert instances_of_files((70, 31), np.dtype("uint16"), 4, 8) == [8, 2]
    assert [token_dtype(size).name for size in (256, 257, 65536, 65537)] == ["uint8", "uint16", "uint16", "uint32"]


def test_a_batch_that_is_no_multiple_of_an_instance_is_refused():
    with pytest.raises(ValueError, match="global_batch_size=1000"):
        OlmoCoreOrder(num_instances=9, **RUN | {"batch_tokens": 1000})
