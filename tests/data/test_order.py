from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.data import Continued, Instances
from sweep.data.order import epoch_order
from sweep.domain.records import Position

SEQUENCE_LENGTH = 8


def _position(*, epoch: int = 0, instances: int = 0, data_seed: int = 6198, batch_size: int = 4) -> Position:
    return Position(
        step=100,
        epoch=epoch,
        instances=instances,
        tokens=100 * batch_size * SEQUENCE_LENGTH,
        lr=1e-3,
        batch_size=batch_size,
        sequence_length=SEQUENCE_LENGTH,
        data_seed=data_seed,
        max_grad_norm=1.0,
    )


def window(
    num_instances: int, *, position: Position, batch_size: int, num_updates: int, shuffle_seed: int = 0
) -> np.ndarray:
    order = Continued(num_instances=num_instances, position=position, batch_size=batch_size, shuffle_seed=shuffle_seed)
    return order.rows(num_updates)


def advance(position: Position, num_updates: int, *, num_instances: int, batch_size: int, lr: float) -> Position:
    return Continued(num_instances=num_instances, position=position, batch_size=batch_size).after(num_updates, lr=lr)


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Two memmaps of 30 and 20 instances and a remainder each."""
    rng = np.random.default_rng(0)
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for file, count in zip(files, (30, 20), strict=True):
        rng.integers(0, 2048, count * SEQUENCE_LENGTH + 5).astype(np.uint16).tofile(file)
    return files


class _Batch(NamedTuple):
    epoch: int
    instances: int
    """Seen of the epoch after this batch."""
    indices: list[int]
    tokens: np.ndarray


def _olmo_batches(paths: list[Path], position: Position, batch_size: int) -> Iterator[_Batch]:
    """ai2-olmo's own dataset and loader, driven as `olmo.train.Trainer` does on restoring and in `fit`."""
    from olmo.data import IterableDataset, MemMapDataset
    from torch.utils.data import DataLoader

    dataset = IterableDataset(
        MemMapDataset(*paths, chunk_size=SEQUENCE_LENGTH),
        batch_size,
        seed=position.data_seed,
        epoch=position.epoch,
        start_index=position.instances,
        drop_last=True,
        world_size=1,
        rank=0,
        fs_local_rank=0,
        num_threads=0,
    )
    loader = DataLoader(dataset, batch_size=batch_size, drop_last=True, collate_fn=list, num_workers=0)
    epoch, seen = position.epoch, position.instances
    while True:
        for items in loader:
            seen += batch_size
            tokens = np.stack([item["input_ids"].numpy() for item in items])
            yield _Batch(epoch, seen, [item["index"] for item in items], tokens)
        epoch, seen = epoch + 1, 0
        dataset.start_index = 0
        dataset.reshuffle(epoch)


# 50 instances, batches of 4 and 7: an epoch ends with a remainder of 2 and 1
@pytest.mark.parametrize("batch_size", [4, 7])
@pytest.mark.parametrize(
    ("epoch", "instances"),
    [(0, 0), (0, 20), (2, 0), (0, 44), (1, 48), (0, 50), (3, 13)],
    ids=["start", "middle", "later epoch", "near the end", "below a batch", "at the end", "off the batch grid"],
)
def test_window_and_tokens_and_position_equal_ai2_olmos_over_three_epochs(paths, batch_size, epoch, instances):
    start = _position(epoch=epoch, instances=instances)
    num_updates = 2 * (50 // batch_size) + 3
    indices = window(50, position=start, batch_size=batch_size, num_updates=num_updates)
    tokens = Instances(paths, sequence_length=SEQUENCE_LENGTH).read(indices.ravel())
    assert indices.dtype == np.uint32
    assert indices.shape == (num_updates, batch_size)
    tokens = tokens.reshape(num_updates, batch_size, SEQUENCE_LENGTH)
    for update, batch in zip(range(num_updates), _olmo_batches(paths, start, batch_size), strict=False):
        assert indices[update].tolist() == batch.indices
        np.testing.assert_array_equal(tokens[update], batch.tokens)
        now = advance(start, update + 1, num_instances=50, batch_size=batch_size, lr=0.5)
        assert (now.epoch, now.instances) == (batch.epoch, batch.instances)


def test_epoch_order_is_a_permutation_of_all_and_differs_by_epoch_and_seed():
    order = epoch_order(100, seed=1, epoch=1)
    assert sorted(order.tolist()) == list(range(100))
    np.testing.assert_array_equal(order, epoch_order(100, seed=2, epoch=0))  # OLMo adds the two
    assert order.tolist() != epoch_order(100, seed=1, epoch=2).tolist()


@st.composite
def _points(draw: st.DrawFn) -> tuple[int, Position, int]:
    num_instances = draw(st.integers(1, 60))
    batch_size = draw(st.integers(1, num_instances))
    seen = draw(st.integers(0, num_instances))
    return num_instances, _position(epoch=draw(st.integers(0, 3)), instances=seen), batch_size


@given(_points(), st.integers(0, 40), st.integers(0, 40), st.sampled_from([0, 1, 2]))
@settings(deadline=None)
def test_a_shorter_window_is_a_prefix_of_a_longer_one(point, one, other, shuffle_seed):
    num_instances, position, batch_size = point
    short, long = (
        window(
            num_instances,
            position=position,
            batch_size=batch_size,
            num_updates=count,
            shuffle_seed=shuffle_seed,
        )
        for count in sorted((one, other))
    )
    np.testing.assert_array_equal(long[: len(short)], short)
    assert short.shape == (min(one, other), batch_size)


@given(_points(), st.integers(0, 30), st.integers(0, 30))
@settings(deadline=None)
def test_going_on_from_where_a_window_ended_gives_the_rest_of_the_longer_one(point, first, second):
    num_instances, position, batch_size = point
    whole = window(num_instances, position=position, batch_size=batch_size, num_updates=first + second)
    there = advance(position, first, num_instances=num_instances, batch_size=batch_size, lr=0.0)
    rest = window(num_instances, position=there, batch_size=batch_size, num_updates=second)
    np.testing.assert_array_equal(whole[first:], rest)


@given(_points(), st.integers(1, 5))
@settings(deadline=None)
def test_another_order_draws_only_what_the_epoch_has_not_shown(point, shuffle_seed):
    num_instances, position, batch_size = point
    left = (num_instances - position.instances) // batch_size
    per_epoch = num_instances // batch_size
    rows = window(
        num_instances,
        position=position,
        batch_size=batch_size,
        num_updates=left + per_epoch,
        shuffle_seed=shuffle_seed,
    )
    seen = epoch_order(num_instances, seed=position.data_seed, epoch=position.epoch)[: position.instances]
    drawn = rows[:left].ravel().tolist()
    assert len(set(drawn)) == len(drawn)
    assert set(drawn).isdisjoint(seen.tolist())
    following = rows[left:].ravel().tolist()
    assert len(set(following)) == len(following) == per_epoch * batch_size


def _places(position: Position, shuffle_seed: int) -> list[int]:
    """Places in the original order of epoch and rest, as a window of 100 instances draws them."""
    rest = epoch_order(100, seed=position.data_seed, epoch=position.epoch)[position.instances :].tolist()
    drawn = window(100, position=position, batch_size=4, num_updates=len(rest) // 4, shuffle_seed=shuffle_seed)
    return [rest.index(index) for index in drawn.ravel()]


def test_another_order_is_a_permutation_of_the_rest_and_depends_on_both_seeds():
    position = _position(instances=40)
    assert _places(position, 0) == list(range(60))
    others = [
        _places(position, 1),
        _places(position, 2),
        _places(replace(position, data_seed=7), 1),
        _places(replace(position, epoch=1), 1),
    ]
    assert all(sorted(places) == list(range(60)) for places in others)
    assert len({tuple(places) for places in [list(range(60)), *others]}) == 5


def test_advance_counts_steps_and_tokens_and_takes_the_new_rate_and_batch():
    start = _position(instances=20)
    end = advance(start, 5, num_instances=50, batch_size=6, lr=2e-4)
    assert end == replace(
        start,
        step=105,
        instances=50,
        tokens=start.tokens + 5 * 6 * SEQUENCE_LENGTH,
        lr=2e-4,
        batch_size=6,
    )
    assert advance(start, 0, num_instances=50, batch_size=4, lr=start.lr) == start


@pytest.mark.parametrize(
    ("instances", "batch_size", "message"),
    [
        (51, 4, r"seen 51 instances of epoch 0, but the data has 50"),
        (0, 51, r"batch_size is 51; the data has 50 instances, so 1 to 50"),
        (0, 0, r"batch_size is 0"),
    ],
)
def test_a_position_or_batch_that_the_data_cannot_have_is_refused(instances, batch_size, message):
    position = _position(instances=instances)
    with pytest.raises(ValueError, match=message):
        window(50, position=position, batch_size=batch_size, num_updates=1)
    with pytest.raises(ValueError, match=message):
        advance(position, 1, num_instances=50, batch_size=batch_size, lr=0.1)


def test_more_instances_than_olmo_can_index_are_refused():
    with pytest.raises(ValueError, match="4294967295 instances do not fit"):
        epoch_order(2**32 - 1, seed=0, epoch=0)


def test_a_chunk_keeps_neighbours_and_a_file_drops_what_is_no_whole_chunk(tmp_path: Path) -> None:
    files = [tmp_path / "first", tmp_path / "second"]
    for file, tokens in zip(files, (70, 31), strict=True):
        np.zeros(tokens, dtype=np.uint16).tofile(file)
    assert len(Instances(files, sequence_length=4, chunk=2)) == 16 + 6
    order = epoch_order(22, seed=1, epoch=1, chunk=2)
    assert sorted(order) == list(range(22))
    assert all(order[::2] % 2 == 0)
    assert all(order[1::2] == order[::2] + 1)
    assert not np.array_equal(order, epoch_order(22, seed=1, epoch=2, chunk=2))
