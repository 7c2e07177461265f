"""What an anneal does otherwise than the training before it: it changes what it says and the key, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sweep.checkpoints import load_model, read_config, read_position
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.planning.keys import state_keys
from sweep.run.anneal import anneal
from sweep.run.builds import this_build
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.run.memory import Memory
from sweep.run.prefix import Trained, Training, train, train_with_trunk
from sweep.run.prepare import Prepared, prepare
from sweep.system.ranks import ALONE, Ranks
from sweep.system.store import Store
from tests.conftest import COMPUTE, LENGTH
from tests.run.test_prepare import configured

CPU = torch.device("cpu")
FRESH = ("anneal.optimizer=fresh", "anneal.warmup_steps=2")


def prepared(store: Store, source: CheckpointFolder, *words: str) -> Prepared:
    return prepare(store, configured(source, *words), "run", ALONE, Memory())


def groups(found: Prepared) -> list[dict[str, Any]]:
    """Adam's settings at the anneal's start, its parameters by name."""
    return [{k: v for k, v in g.items() if k != "params"} for g in found.work.start().optimizer.param_groups]


def without_optimizer(source: CheckpointFolder) -> CheckpointFolder:
    (source.folder / "optim.safetensors").unlink()
    return source


def test_the_defaults_keep_the_name_they_had(store: Store, source: CheckpointFolder) -> None:
    training = prepared(store, source, "compute.reuse=any").work
    data = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in map(Path, source.config.data.paths)]
    decides = {"weight_decay": None, "max_grad_norm": 1.0, "seed": 0}
    key = prepared(store, source).checkpoint.key
    assert training.others[-1] == digest("anneal", key, data, "uint16", decides, "cpu fp32 1 threads"), "before builds"
    by = f"cpu fp32 1 threads by {this_build(COMPUTE, torch.device('cpu'))}"
    assert training.base == digest("anneal", key, data, "uint16", decides, by)


def test_a_weight_decay_that_no_parameter_would_get_is_refused(store: Store, source: CheckpointFolder) -> None:
    source = without_optimizer(source)
    source.config.optimizer.weight_decay = 0.0
    source.config.save(source.folder / "config.yaml")
    prepared(store, source, *FRESH, "anneal.weight_decay=0")
    with pytest.raises(Refusal, match=r"anneal\.weight_decay=0\.2: the checkpoint's optimizer decays nothing"):
        prepared(store, source, *FRESH, "anneal.weight_decay=0.2")


@pytest.mark.parametrize(
    "words",
    [
        FRESH,
        ("anneal.betas=[0.8,0.95]",),
        ("anneal.weight_decay=0.2",),
        ("anneal.weight_decay=0",),
        ("anneal.max_grad_norm=0.5",),
        ("anneal.z_loss=1e-4",),
        ("anneal.batch_size=4",),
        ("anneal.sequence_length=8", "data.position=fresh"),
    ],
    ids=lambda words: words[0],
)
def test_what_changes_the_updates_makes_other_states(
    words: tuple[str, ...], store: Store, source: CheckpointFolder
) -> None:
    plain = prepared(store, source, *(word for word in words if word.startswith("data.")))
    assert prepared(store, source, *words).work.base != plain.work.base


@pytest.mark.parametrize(
    "word",
    [
        "anneal.betas=[0.9,0.95]",
        "anneal.weight_decay=0.1",
        "anneal.max_grad_norm=1.0",
        "anneal.z_loss=0",
        "anneal.batch_size=2",
        "anneal.sequence_length=16",
        "anneal.warmup_steps=2",
    ],
)
def test_what_is_so_already_shares_the_states(word: str, store: Store, source: CheckpointFolder) -> None:
    assert prepared(store, source, word).work.base == prepared(store, source).work.base


@pytest.mark.parametrize(
    ("word", "changed"),
    [
        ("anneal.betas=[0.8,0.99]", [{"betas": (0.8, 0.99)}, {"betas": (0.8, 0.99)}]),
        ("anneal.weight_decay=0.3", [{"weight_decay": 0.3}, {}]),
        ("anneal.weight_decay=0", [{"weight_decay": 0.0}, {}]),
        ("anneal.optimizer=fresh", [{}, {}]),
    ],
)
def test_it_changes_of_the_optimizer_what_it_says(
    word: str, changed: list[dict[str, Any]], store: Store, source: CheckpointFolder
) -> None:
    own = groups(prepared(store, source))
    assert [g["weight_decay"] for g in own] == [0.1, 0.0]
    expected = [{**group, **change} for group, change in zip(own, changed, strict=True)]
    assert groups(prepared(store, source, word, *FRESH[1:])) == expected


def test_kept_moments_are_the_checkpoints_and_fresh_ones_are_none(store: Store, source: CheckpointFolder) -> None:
    kept = prepared(store, source, "anneal.betas=[0.8,0.99]").work.start().optimizer
    assert len(kept.state) == len([p for g in kept.param_groups for p in g["params"]])
    assert {float(state["step"]) for state in kept.state.values()} == {1.0}
    assert not prepared(store, source, *FRESH).work.start().optimizer.state


def by_hand(source: CheckpointFolder, rates: np.ndarray, batches: np.ndarray, decay: list[float]) -> torch.nn.Module:
    """Updates of a plain AdamW, new, on the checkpoint's weights: matrices decay, the embedding does not."""
    model = load_model(source.folder, source.config, device=CPU).train()
    matrices = [p for name, p in model.named_parameters() if "wte" not in name]
    rest = [p for name, p in model.named_parameters() if "wte" in name]
    sets = [{"params": p, "weight_decay": wd} for p, wd in zip((matrices, rest), decay, strict=True)]
    optimizer = torch.optim.AdamW(sets, betas=(0.9, 0.95), eps=1e-8)
    for lr, batch in zip(rates, torch.from_numpy(batches), strict=True):
        optimizer.zero_grad()
        logits = model(batch).logits[:, :-1].reshape(-1, 64)
        (F.cross_entropy(logits, batch[:, 1:].reshape(-1), reduction="sum") / batch.numel()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = float(lr)
        optimizer.step()
    return model


@pytest.mark.parametrize("lost", [False, True], ids=["its optimizer is there", "its optimizer is lost"])
def test_a_fresh_anneal_is_adam_from_zero(store: Store, source: CheckpointFolder, lost: bool) -> None:
    if lost:
        without_optimizer(source)
    training = prepared(store, source, *FRESH).work
    assert [float(rate) for rate in training.rates[:2]] == [5e-4, 1e-3], "from 0 to the peak"
    done = train(store, training)
    ours = load_model(done.folder, read_config(done.folder), device=CPU)
    batches = np.array(list(training.data.batches(0, 5)))
    theirs = by_hand(source, training.rates, batches, [0.1, 0.0])
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6, msg=name)
    if not lost:
        kept = train(store, prepared(store, source).work)
        assert kept.steps[0].loss == done.steps[0].loss, "the same weights on the same batch"
        assert kept.steps[-1].loss != done.steps[-1].loss


def test_a_fresh_anneal_that_was_killed_goes_on_from_its_own_moments(store: Store, source: CheckpointFolder) -> None:
    training = prepared(store, source, *FRESH, "anneal.save_interval=2").work
    whole = train(Store(store.root.parent / "whole"), training)

    def stop(record: Any) -> None:
        if record.update == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, training, on_step=stop)
    resumed = train(store, training)
    assert resumed.updates_done == 3
    assert [step.loss for step in resumed.steps] == [step.loss for step in whole.steps]


def test_without_an_optimizer_it_is_refused_before_anything_runs(store: Store, source: CheckpointFolder) -> None:
    without_optimizer(source)
    with pytest.raises(Refusal, match=r"checkpoint\.path=.* has no optimizer state.*OLMo#796.*anneal\.optimizer=fresh"):
        prepared(store, source)
    with pytest.raises(Refusal, match=r"anneal\.peak_lr=null takes the current LR, .* is 0\.0: give"):
        prepared(store, source, *FRESH, "anneal.peak_lr=null")


def test_z_loss_is_the_checkpoints_unless_chosen(store: Store, source: CheckpointFolder) -> None:
    assert prepared(store, source).work.z_loss == 0.0
    assert prepared(store, source, "anneal.z_loss=1e-4").work.z_loss == 1e-4
    config = copy.deepcopy(source.config)
    config.softmax_auxiliary_loss = True
    config.save(source.folder / "config.yaml")
    assert prepared(store, source).work.z_loss == 1e-4
    assert prepared(store, source, "anneal.z_loss=0").work.z_loss == 0.0


def test_another_batch_size_goes_on_by_instances(store: Store, source: CheckpointFolder) -> None:
    plain, twice = prepared(store, source), prepared(store, source, "anneal.batch_size=4")
    rows = np.array(list(plain.work.data.batches(0, 4)))
    np.testing.assert_array_equal(
        np.array(list(twice.work.data.batches(0, 2))), rows.reshape(2, 4, LENGTH), "the same instances in order"
    )
    before = plain.plan.position
    done = train(store, twice.work)
    assert [step.tokens for step in done.steps] == [4 * LENGTH * update for update in range(1, 6)]
    after = read_position(done.folder, read_config(done.folder))
    assert (after.step, after.instances, after.tokens) == (35, 60 + 20, before.tokens + 20 * LENGTH)
    with pytest.raises(Refusal, match=r"batch_size is 201; the data has 200 instances, so 1 to 200"):
        prepared(store, source, "anneal.batch_size=201")
    with pytest.raises(Refusal, match="a batch of 5 instances can't be shared by 2 ranks"):
        Ranks(0, 2).share(prepared(store, source, "anneal.batch_size=5").plan.batch_size)


def test_another_sequence_length_has_an_order_of_its_own(store: Store, source: CheckpointFolder) -> None:
    found = prepared(store, source, "anneal.sequence_length=8", "data.position=fresh")
    assert next(found.work.data.batches(0, 1)).shape == (2, 8)
    assert found.data["original"]["instances"] == 400
    done = train(store, found.work)
    after = read_position(done.folder, read_config(done.folder))
    assert (after.instances, after.tokens) == (60, found.plan.position.tokens + 5 * 2 * 8)
    with pytest.raises(Refusal, match=r"anneal\.sequence_length=8: data\.position=continue .* allowed: .*=fresh"):
        prepared(store, source, "anneal.sequence_length=8")
    with pytest.raises(Refusal, match=r"anneal\.sequence_length=17: the model has 16 positions, so at most 16"):
        prepared(store, source, "anneal.sequence_length=17", "data.position=fresh")


def test_a_mixture_takes_the_anneals_batch_size_and_length(
    store: Store, source: CheckpointFolder, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.npy"
    np.arange(2, 62, dtype=np.uint16).repeat(8).tofile(mine)
    mixed = ("data=mixture", f"+data.sources.mine={{paths: {mine}, weight: 0.5}}", "anneal.batch_size=3")
    found = prepared(store, source, *mixed)
    assert next(found.work.data.batches(0, 1)).shape == (3, LENGTH)
    assert sum(part["annealed_on"] for part in found.data.values()) == 15
    with pytest.raises(Refusal, match=r"allowed: data\.position=fresh"):
        prepared(store, source, *mixed, "anneal.sequence_length=8")
    only = prepared(store, source, *mixed, "~data.sources.original", "anneal.sequence_length=8")
    assert next(only.work.data.batches(0, 1)).shape == (3, 8), "a mixture that goes on in nothing is free"


def test_runs_share_their_warmup_and_hold(store: Store, source: CheckpointFolder) -> None:
    words = (*FRESH, "anneal.hold_steps=1")
    one, other = (prepared(store, source, *words, f"anneal.shape={shape}") for shape in ("linear", "sqrt"))
    assert one.plan.shared_steps == other.plan.shared_steps == 3
    keys = [state_keys(found.work.base, found.work.rates) for found in (one, other)]
    assert [a == b for a, b in zip(*keys, strict=True)] == [True] * 4 + [False] * 2


def test_an_anneal_that_runs_out_of_memory_goes_on_in_passes_of_half_the_size(
    store: Store, source: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a GPU too small for two instances would do."""

    def on_a_small_gpu(store: Store, training: Training, trunk_steps: int, **named: Any) -> Trained:
        if training.compute.micro_batch_size != 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return train_with_trunk(store, training, trunk_steps, **named)

    monkeypatch.setattr("sweep.run.anneal.train_with_trunk", on_a_small_gpu)
    found = prepared(store, source, "anneal.batch_size=4")
    annealed = anneal(store, found)
    assert "ran out of memory: going on with compute.micro_batch_size=1" in caplog.text
    asked = prepared(store, source, "anneal.batch_size=4", "compute.micro_batch_size=1").work
    assert annealed.checkpoint.key == state_keys(asked.base, asked.rates)[-1], "the state is that of an explicit choice"
    assert found.work.smaller().smaller().smaller() is None

    def without_room(*_: Any, **__: Any) -> Trained:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("sweep.run.anneal.train_with_trunk", without_room)
    with pytest.raises(torch.OutOfMemoryError):
        anneal(store, found)
