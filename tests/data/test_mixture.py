import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.data import Continued, Fresh, Mixture, MixturePart
from sweep.data.mixture import interleaved
from tests.data.test_order import _position, window

POSITION = _position(instances=20)


def _fresh(size: int, *, seed: int = 0, batch_size: int = 1) -> Fresh:
    return Fresh(num_instances=size, position=POSITION, batch_size=batch_size, seed=seed)


def _mixture(*weights: float, sizes: tuple[int, ...] = (50, 7, 30), seed: int = 0) -> Mixture:
    own = Continued(num_instances=sizes[0], position=POSITION, batch_size=1, shuffle_seed=seed)
    orders = [own, *(_fresh(size, seed=seed) for size in sizes[1:])]
    parts = tuple(
        MixturePart(name=name, weight=weight, num_instances=order.num_instances, order=order)
        for name, weight, order in zip(("own", "small", "other"), weights, orders, strict=False)
    )
    return Mixture(parts=parts, position=POSITION, batch_size=4)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=3), st.integers(0, 300))
@settings(deadline=None)
def test_at_every_moment_each_source_has_its_share_within_one_instance(weights, count):
    owners = interleaved(weights, count)
    assert len(owners) == count
    for number, weight in enumerate(weights):
        ideal = np.arange(1, count + 1) * weight / sum(weights)
        assert np.abs(np.cumsum(owners == number) - ideal).max(initial=0) < 1 + 1e-9


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(0, 100), st.integers(0, 100))
@settings(deadline=None)
def test_weights_are_shares_and_fewer_instances_are_a_prefix_of_more(weights, one, other):
    short, long = (interleaved(weights, count) for count in sorted((one, other)))
    np.testing.assert_array_equal(long[: len(short)], short)
    np.testing.assert_array_equal(interleaved([4 * weight for weight in weights], one), interleaved(weights, one))


def test_each_source_keeps_its_own_order_and_a_small_one_repeats():
    mixture = _mixture(0.5, 0.3, 0.2)
    drawn = mixture.rows(50).ravel()
    own = drawn[drawn < 50]
    small = drawn[(drawn >= 50) & (drawn < 57)] - 50
    assert mixture.counts(50) == {"own": 100, "small": 60, "other": 40}
    np.testing.assert_array_equal(own, window(50, position=POSITION, batch_size=1, num_updates=100)[:, 0])
    np.testing.assert_array_equal(small, _fresh(7).rows(60)[:, 0])
    assert np.bincount(small, minlength=7).min() >= 8, "60 of 7: every instance eight times or nine"


def test_every_batch_has_its_share_within_one_instance():
    rows = _mixture(0.5, 0.25, 0.25).rows(40)
    assert ((rows < 50).sum(1) == 2).all()
    thirds = (_mixture(1, 1, 1).rows(40) < 50).sum(1)
    assert set(thirds.tolist()) <= {1, 2}


def test_a_shorter_window_is_a_prefix_and_the_seed_is_another_order():
    mixture = _mixture(0.6, 0.4)
    np.testing.assert_array_equal(mixture.rows(30)[:11], mixture.rows(11))
    assert (mixture.rows(30) != _mixture(0.6, 0.4, seed=1).rows(30)).any()
    keys = {str(m.identity()) for m in (mixture, _mixture(0.6, 0.4, seed=1), _mixture(0.5, 0.4))}
    assert len(keys) == 3


def test_a_fresh_order_is_the_whole_data_from_its_start_whatever_the_checkpoint():
    order = _fresh(50, batch_size=5)
    rows = order.rows(25)
    for epoch in range(2):
        assert sorted(rows[10 * epoch : 10 * epoch + 10].ravel().tolist()) == list(range(50))
    assert (rows[:10] != rows[10:20]).any()
    later = dataclasses.replace(order, position=_position(epoch=3, instances=40, data_seed=1))
    np.testing.assert_array_equal(later.rows(25), rows)
    assert later.identity() == order.identity()
    np.testing.assert_array_equal(order.rows(3), rows[:3])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fresh_order_is_unlike_the_original_and_other_seeds(seed):
    start = _position()
    original = window(50, position=start, batch_size=5, num_updates=10, shuffle_seed=seed)
    others = [original, window(50, position=start, batch_size=5, num_updates=10), _fresh(50, batch_size=5).rows(10)]
    mine = _fresh(50, batch_size=5, seed=seed)
    assert all((mine.rows(10) != other).any() for other in others)
    assert mine.identity() != _fresh(50, batch_size=5).identity()


@pytest.mark.parametrize("order", [_fresh(50, batch_size=4), _mixture(0.5, 0.5)], ids=["fresh", "mixture"])
def test_the_place_in_the_original_data_is_kept_where_something_else_is_read(order):
    after = order.after(3, lr=0.5)
    tokens = POSITION.tokens + 3 * 4 * POSITION.sequence_length
    assert after == dataclasses.replace(POSITION, step=103, tokens=tokens, lr=0.5)
