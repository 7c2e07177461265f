"""The loop does what ai2-olmo's own model, optimizer and scheduler do, update for update."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from olmo.config import TrainConfig
from olmo.model import OLMo
from olmo.optim import build_optimizer, build_scheduler

from sweep.checkpoints import TrainingState, fresh_state
from sweep.data import Continued, Instances
from sweep.domain.schedule import learning_rates
from sweep.training.divergence import Diverged
from sweep.training.loop import UpdateRules, anneal, configure_passes
from tests.conftest import EITHER_MODEL

UPDATES = 40


def reference(config: TrainConfig, batches: list[np.ndarray], masked: tuple[int, ...] = ()) -> list[float]:
    """ai2-olmo's parts driven as its `Trainer.train_step` drives them; cross-entropy of each update.

    The `masked` rows of every batch have an `instance_mask` of False.
    """
    torch.manual_seed(config.seed)
    model = OLMo(config.model)
    optimizer, scheduler = build_optimizer(config, model), build_scheduler(config)
    losses = []
    for step, batch in enumerate(batches, 1):
        optimizer.zero_grad(set_to_none=True)
        ids = torch.from_numpy(batch)
        labels = ids.clone()
        labels[list(masked)] = -100
        logits = model(ids).logits[..., :-1, :].contiguous().view(-1, config.model.vocab_size)
        loss = F.cross_entropy(logits, labels[..., 1:].contiguous().view(-1), reduction="sum") / ids.numel()
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
    rows = Continued(num_instances=len(instances), position=state.position, batch_size=2).rows(UPDATES)
    batches = [instances.read(row) for row in rows]
    rates = learning_rates("linear", steps=UPDATES, peak=1e-2)
    ours = [r.loss for r in anneal(state.model, state.optimizer, batches, rates, UpdateRules(max_grad_norm=1.0))]
    theirs = reference(train_config, batches)
    np.testing.assert_allclose(ours, theirs, rtol=2e-6)
    assert ours[-1] < ours[0], "something was learnt, so that equality says something"


@pytest.mark.parametrize("micro_batch_size", [None, 1])
def test_masked_instances_are_in_no_loss_as_in_ai2_olmo(
    micro_batch_size: int | None, train_config: TrainConfig, state: TrainingState, instances: Instances
) -> None:
    train_config.scheduler.name = "linear_with_warmup"
    train_config.scheduler.alpha_f = 0.0
    batches = [instances.read(np.array([i, i + 1, i + 2])) for i in range(UPDATES)]
    rates = learning_rates("linear", steps=UPDATES, peak=1e-2)
    records = anneal(
        state.model,
        state.optimizer,
        batches,
        rates,
        UpdateRules(max_grad_norm=1.0, masked=lambda ids: np.arange(len(ids)) == 1, micro_batch_size=micro_batch_size),
    )
    np.testing.assert_allclose([r.loss for r in records], reference(train_config, batches, masked=(1,)), rtol=2e-6)


def test_records_say_what_was_done(state: TrainingState, instances: Instances) -> None:
    rates = learning_rates("linear", steps=3, peak=1e-2)
    batches = [instances.read(np.array([i, i + 1])) for i in range(3)]
    records = list(anneal(state.model, state.optimizer, batches, rates, UpdateRules(max_grad_norm=1.0)))
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
    for record in anneal(state.model, state.optimizer, batches, np.full(20, 1e-2), UpdateRules(max_grad_norm=1.0)):
        new = [p.detach().clone() for p in state.model.parameters()]
        distances.append(sum((a - b).square().sum() for a, b in zip(old, new, strict=True)).sqrt().item())
        old = new
        records.append(record)
    assert [r.update for r in records if r.update_norm is not None] == [10, 20]
    assert records[9].update_norm == pytest.approx(distances[9])
    assert records[19].update_norm == pytest.approx(distances[19])


def test_an_update_whose_norm_is_taken_is_the_same_to_the_bit(
    train_config: TrainConfig, instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, weights = [instances.read(np.array([i, i + 1])) for i in range(3)], []
    for every in (1, 100):
        monkeypatch.setattr("sweep.training.loop.UPDATE_NORM_INTERVAL", every)
        state = fresh_state(train_config, device=torch.device("cpu"))
        assert (
            len(list(anneal(state.model, state.optimizer, batches, np.full(3, 1e-2), UpdateRules(max_grad_norm=1.0))))
            == 3
        )
        weights.append(dict(state.model.named_parameters()))
        assert len(state.optimizer.param_groups) == 2
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_gradients_are_clipped_by_their_global_norm(state: TrainingState, instances: Instances) -> None:
    batch = [instances.read(np.array([0, 1]))]
    next(anneal(state.model, state.optimizer, batch, np.array([1e-3]), UpdateRules(max_grad_norm=1e-3)))
    norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in state.model.parameters()])).item()
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_z_loss_is_minimised_and_not_reported(train_config: TrainConfig, instances: Instances) -> None:
    batch = [instances.read(np.array([0, 1]))]
    records = []
    for z_loss in (0.0, 1.0):
        fresh = fresh_state(train_config, device=torch.device("cpu"))
        records += anneal(
            fresh.model, fresh.optimizer, batch, np.array([1e-3]), UpdateRules(max_grad_norm=None, z_loss=z_loss)
        )
    assert records[0].loss == records[1].loss
    assert records[1].grad_norm > records[0].grad_norm


@EITHER_MODEL
def test_micro_batches_add_up_to_the_batch(train_config: TrainConfig, instances: Instances) -> None:
    batch = [instances.read(np.arange(6))]
    whole, parts = (fresh_state(train_config, device=torch.device("cpu")) for _ in range(2))
    settings = {"max_grad_norm": 1.0, "z_loss": 1e-2}
    (one,) = anneal(whole.model, whole.optimizer, batch, np.array([1e-2]), UpdateRules(**settings))
    (two,) = anneal(parts.model, parts.optimizer, batch, np.array([1e-2]), UpdateRules(micro_batch_size=4, **settings))
    assert (two.loss, two.grad_norm) == pytest.approx((one.loss, one.grad_norm), rel=1e-6)
    assert two.tokens == one.tokens == 6 * 16
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@EITHER_MODEL
def test_bf16_is_near_and_keeps_weights_and_optimizer_in_fp32(train_config: TrainConfig, instances: Instances) -> None:
    batches = [instances.read(np.array([i, i + 1])) for i in range(20)]
    losses = {}
    for precision in ("fp32", "bf16"):
        state = fresh_state(train_config, device=torch.device("cpu"))
        rates = np.full(20, 1e-2)
        records = anneal(
            state.model, state.optimizer, batches, rates, UpdateRules(max_grad_norm=1.0, precision=precision)
        )
        losses[precision] = [record.loss for record in records]
        moments = [m for of_one in state.optimizer.state.values() for m in of_one.values()]
        assert {t.dtype for t in [*state.model.parameters(), *moments]} == {torch.float32}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert all(loss != torch.tensor(loss).bfloat16().item() for loss in losses["bf16"][:3]), "the loss is not rounded"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch 2.13's compiler warns of its own doings
def test_compiled_blocks_give_the_same_losses(train_config: TrainConfig, instances: Instances) -> None:
    batches = [instances.read(np.array([i, i + 1])) for i in range(5)]
    losses = []
    for compiled in (False, True):
        state = fresh_state(train_config, device=torch.device("cpu"))
        names = set(state.model.state_dict())
        configure_passes(state.model, activation_checkpointing=False, compile=compiled)
        losses.append(
            [
                r.loss
                for r in anneal(state.model, state.optimizer, batches, np.full(5, 1e-2), UpdateRules(max_grad_norm=1))
            ]
        )
        assert set(state.model.state_dict()) == names, "a compiled model is saved like any other"
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_loss_that_is_no_number_ends_the_run(state: TrainingState, instances: Instances) -> None:
    torch.nn.init.constant_(state.model.transformer.wte.weight, float("nan"))
    batches = [instances.read(np.array([0, 1]))]
    with pytest.raises(Diverged, match=r"update 1: the training loss is nan .*learning rate 0\.001"):
        list(anneal(state.model, state.optimizer, batches, np.array([1e-3]), UpdateRules(max_grad_norm=1.0)))


def test_a_gradient_that_is_no_number_ends_the_run(state: TrainingState, instances: Instances) -> None:
    state.model.transformer.wte.weight.register_hook(lambda gradient: gradient * float("inf"))
    batches = [instances.read(np.array([0, 1]))]
    with pytest.raises(Diverged, match=r"update 1: the training loss is 4\.\d+ and its gradient's norm (inf|nan)"):
        list(anneal(state.model, state.optimizer, batches, np.array([1e-3]), UpdateRules(max_grad_norm=1.0)))
