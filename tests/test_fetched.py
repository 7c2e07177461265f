"""What a revision on the Hub doesn't tell is told by the model's option, in ai2-olmo's own names."""

from __future__ import annotations

import pytest
from olmo.config import TrainConfig

from sweep.fetched import published_checkpoint, training_tree
from sweep.refusal import Refusal
from sweep.store import Store
from tests.test_config import composed


@pytest.mark.parametrize("name", ["olmo-1b", "olmo-7b", "olmo2-7b", "datadecide-150m"])
def test_the_training_is_one_that_ai2_olmo_knows(name: str) -> None:
    model = composed(f"model={name}").model
    config = TrainConfig.new(**training_tree(model, 1000))
    assert (config.global_train_batch_size, config.max_grad_norm) == (model.batch_size, 1.0)
    assert config.softmax_auxiliary_loss == (name == "olmo2-7b")


@pytest.mark.parametrize(
    ("chosen", "way_out"),
    [
        (("model=datadecide-4m",), "a folder that has it, with model=local"),
        (("model=olmo2-7b", "checkpoint.step=1000", "checkpoint.source=hub"), "checkpoint.source=http, which has it"),
    ],
)
def test_weights_without_optimizer_are_refused_before_they_are_downloaded(
    chosen: tuple[str, ...], way_out: str, store: Store
) -> None:
    with pytest.raises(Refusal, match=rf"without optimizer state \(allenai/OLMo#796\).*take {way_out}"):
        published_checkpoint(store, composed(*chosen))
