"""A state goes through the shards of several ranks and comes back with the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.checkpoints import load_state, read_config, save_state
from sweep.checkpoints.distributed import shard, whole
from sweep.system.ranks import Ranks
from tests.system.test_ranks import together

FILES = ("model.safetensors", "optim.safetensors")


def pickled(*_: Any, **__: Any) -> None:
    """Stands in for the one function by which torch's collectives send Python objects."""
    raise AssertionError("a pickle would be sent")


def there_and_back(ranks: Ranks, folder: Path, into: Path, moments: bool) -> int:
    """Bytes of the weights that this rank has read itself."""
    torch.distributed.distributed_c10d._object_to_tensor = pickled
    place = torch.device("cpu" if ranks.leads else "meta")
    state = load_state(folder, read_config(folder), device=place, moments=moments)
    read = sum(p.nbytes for p in state.model.parameters() if not p.is_meta)
    shard(state, num_ranks=ranks.size, device=torch.device("cpu"))
    gathered = whole(state, keep=ranks.leads)
    if gathered is not None:
        save_state(into, gathered)
    return read


@pytest.mark.parametrize(
    ("train_config", "moments"), [("olmo", True), ("olmo", False), ("gemma2", True)], indirect=["train_config"]
)
def test_a_state_comes_back_from_its_shards_to_the_bit(folder: Path, tmp_path: Path, moments: bool) -> None:
    expected, into = tmp_path / "expected", tmp_path / "into"
    for path in (expected, into):
        path.mkdir()
    save_state(expected, load_state(folder, read_config(folder), device=torch.device("cpu"), moments=moments))
    first, *others = together(2, there_and_back, folder, into, moments)
    assert isinstance(first, int) and first > 0, first
    assert others == [0], "only the first rank reads weights"
    for name in FILES:
        assert (into / name).read_bytes() == (expected / name).read_bytes()
