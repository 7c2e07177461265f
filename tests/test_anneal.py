"""The loop does what ai2-olmo's own model, optimizer and scheduler do, update for update."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from olmo.config import TrainConfig
from olmo.model import OLMo
from olmo.optim import build_optimizer, build_scheduler

from sweep.anneal import anneal
from sweep.checkpoints import TrainingState, fresh_state
from sweep.data import Instances, window
from sweep.health import Diverged
from sweep.schedule import learning_rates

UPDATES = 40


def reference(config: TrainConfig, batches: list[np.ndarray]) -> list[float]:
    """ai2-olmo's parts driven as its `Trainer.train_step` drives them; cross-entropy of each update."""
    torch.manual_seed(config.seed)
    model = OLMo(config.model)
    optimizer, scheduler = build_optimizer(config, model), build_scheduler(config)
    losses = []
    for step, batch in enumerate(batches, 1):
        optimizer.zero_grad(set_to_none=True)
        ids = torch.from_numpy(batch)
        logits = model(ids).logits[..., :-1, :].contiguous().view(-1, config.model.vocab_size)
        loss = F.cross_entropy(logits, ids[..., 1:].contiguous().view(-1), reduction="sum") / ids.numel()
        loss.backward()
        optimizer.clip_grads_and_collect_metrics(step, collect_param_metrics=False)
        for group in optimizer.param_groups:
            group["lr"] = scheduler.get_lr(config.optimizer.learning_rate, step, len(batches))
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_linear_anneals_losses_equal_ai2_olmos(
    train_config: TrainConfig, state: TrainingState, instances: Instances
) -> None:
    train_config.scheduler.name = "linear_with_warmup"
    train_config.scheduler.alpha_f = 0.0
    rows = window(len(instances), position=state.position, batch_size=2, num_updates=UPDATES)
    batches = [instances.read(row) for row in rows]
    rates = learning_rates("linear", steps=UPDATES, peak=1e-2)
    ours = [r.loss for r in anneal(state.model, state.optimizer, batches, rates, max_grad_norm=1.0)]
    theirs = reference(train_config, batches)
    np.testing.assert_allclose(ours, theirs, rtol=2e-6)
    assert ours[-1] < ours[0], "something was learnt, so that equality says something"


def test_records_say_what_was_done(state: TrainingState, instances: Instances) -> None:
    rates = learning_rates("linear", steps=3, peak=1e-2)
    batches = [instances.read(np.array([i, i + 1])) for i in range(3)]
    records = list(anneal(state.model, state.optimizer, batches, rates, max_grad_norm=1.0))
    assert [r.update for r in records] == [1, 2, 3]
    assert [r.lr for r in records] == list(rates)
    assert [r.tokens for r in records] == [32, 64, 96]
    assert all(r.grad_norm > 0 and r.seconds > 0 for r in records)
    norm = torch.linalg.vector_norm(torch.stack([p.norm() for p in state.model.parameters()])).item()
    assert records[-1].param_norm == pytest.approx(norm)


def test_every_tenth_update_says_how_far_the_parameters_went(state: TrainingState, instances: Instances) -> None:
    batches = [instances.read(np.array([i, i + 1])) for i in range(20)]
    distances = []
    old = [p.detach().clone() for p in state.model.parameters()]
    records = []
    for record in anneal(state.model, state.optimizer, batches, np.full(20, 1e-2), max_grad_norm=1.0):
        new = [p.detach().clone() for p in state.model.parameters()]
        distances.append(sum((a - b).square().sum() for a, b in zip(old, new, strict=True)).sqrt().item())
        old = new
        records.append(record)
    assert [r.update for r in records if r.update_norm is not None] == [10, 20]
    assert records[9].update_norm == pytest.approx(distances[9])
    assert records[19].update_norm == pytest.approx(distances[19])


def test_gradients_are_clipped_by_their_global_norm(state: TrainingState, instances: Instances) -> None:
    batch = [instances.read(np.array([0, 1]))]
    next(anneal(state.model, state.optimizer, batch, np.array([1e-3]), max_grad_norm=1e-3))
    norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in state.model.parameters()])).item()
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_z_loss_is_minimised_and_not_reported(train_config: TrainConfig, instances: Instances) -> None:
    batch = [instances.read(np.array([0, 1]))]
    records = []
    for z_loss in (0.0, 1.0):
        fresh = fresh_state(train_config, device=torch.device("cpu"))
        records += anneal(fresh.model, fresh.optimizer, batch, np.array([1e-3]), max_grad_norm=None, z_loss=z_loss)
    assert records[0].loss == records[1].loss
    assert records[1].grad_norm > records[0].grad_norm


def test_a_loss_that_is_no_number_ends_the_run(state: TrainingState, instances: Instances) -> None:
    torch.nn.init.constant_(state.model.transformer.wte.weight, float("nan"))
    batches = [instances.read(np.array([0, 1]))]
    with pytest.raises(Diverged, match=r"update 1: the training loss is nan .*learning rate 0\.001"):
        list(anneal(state.model, state.optimizer, batches, np.array([1e-3]), max_grad_norm=1.0))


def test_a_gradient_that_is_no_number_ends_the_run(state: TrainingState, instances: Instances) -> None:
    state.model.transformer.wte.weight.register_hook(lambda gradient: gradient * float("inf"))
    batches = [instances.read(np.array([0, 1]))]
    with pytest.raises(Diverged, match=r"update 1: the training loss is 4\.\d+ and its gradient's norm (inf|nan)"):
        list(anneal(state.model, state.optimizer, batches, np.array([1e-3]), max_grad_norm=1.0))
