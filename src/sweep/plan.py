"""What follows from a configuration: names, keys, learning rates, counts. No clock, disk, network or GPU."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.config import Compute, Model, RunConfig, tree
from sweep.config.anneal import MAX_LR
from sweep.records import Position
from sweep.refusal import Refusal
from sweep.schedule import learning_rates, warmup
from sweep.store import digest

NUMERICS = 2
"""Raised when a change of code changes the numbers that the same configuration gives: old states stay unused."""


CORPUS_S = 30.0
CORE_FLOPS = 3e10
"""Training operations a second that one core of a 2021 server reached on the smallest embedded model."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run will do."""

    position: Position
    """Where the checkpoint stands."""
    learning_rates: np.ndarray
    """(steps,) float64, one an update."""
    tokens: int
    """Tokens the anneal consumes."""
    weight_decay: float | None
    max_grad_norm: float | None


def make_plan(config: RunConfig, position: Position) -> Plan:
    """The plan of a run whose checkpoint stands at `position`; Refusal where the two contradict each other."""
    check(config, position)
    anneal = config.anneal
    peak = anneal.peak_lr if anneal.peak_lr is not None else position.lr * (anneal.peak_scale or 1.0)
    if peak > MAX_LR:
        raise Refusal(
            f"anneal.peak_scale={anneal.peak_scale} times the learning rate in force, {position.lr:g}, is {peak:g}: "
            f"at most {MAX_LR} is allowed"
        )
    return Plan(
        position=position,
        learning_rates=learning_rates(
            anneal.shape,
            steps=anneal.steps,
            peak=peak,
            final_fraction=anneal.final_fraction,
            hold_steps=anneal.hold_steps,
        ),
        tokens=anneal.steps * position.batch_size * position.sequence_length,
        weight_decay=anneal.weight_decay,
        max_grad_norm=anneal.max_grad_norm if anneal.max_grad_norm is not None else position.max_grad_norm,
    )


def check(config: RunConfig, position: Position) -> None:
    """Refusal naming both values where the checkpoint's own word contradicts the configuration."""
    model = config.model
    expected: dict[str, tuple[Any, Any]] = {
        "checkpoint.step": (config.checkpoint.step, position.step),
        "model.batch_size": (model.batch_size, position.batch_size),
        "model.sequence_length": (model.sequence_length, position.sequence_length),
    }
    for key, (chosen, found) in expected.items():
        if chosen is not None and chosen != found:
            raise Refusal(f"{key}={chosen}, but the checkpoint itself says {found}")
    if model.pretraining is not None and position.lr > 0:
        scheduled = float(pretraining_rates(model, position.step)[-1])
        if not math.isclose(position.lr, scheduled, rel_tol=1e-6):
            raise Refusal(
                f"the checkpoint itself says the learning rate in force is {position.lr:g}, "
                f"the schedule of {model.name} says {scheduled:g}"
            )
    if position.lr <= 0 and config.anneal.peak_lr is None:
        raise Refusal(
            f"anneal.peak_lr=null takes the learning rate in force, which the checkpoint says is {position.lr}: "
            "give anneal.peak_lr"
        )


def expected_position(model: Model, step: int) -> Position:
    """Where the embedded trajectory's checkpoint at `step` will stand, known before it exists.

    Its first epoch alone: a trajectory is shorter than its corpus.
    """
    pretraining = model.pretraining
    assert pretraining and model.batch_size and model.sequence_length
    return Position(
        step=step,
        epoch=0,
        instances=step * model.batch_size,
        tokens=step * model.batch_size * model.sequence_length,
        lr=float(pretraining_rates(model, step)[-1]),
        batch_size=model.batch_size,
        sequence_length=model.sequence_length,
        data_seed=pretraining.seed,
        max_grad_norm=pretraining.optimizer.max_grad_norm,
    )


def pretraining_rates(model: Model, step: int) -> np.ndarray:
    """Learning rates (step,) of the embedded trajectory up to `step`."""
    assert model.pretraining
    return warmup(step, peak=model.pretraining.peak_lr, warmup_steps=model.pretraining.warmup_steps)


def state_keys(base: str, rates: np.ndarray) -> list[str]:
    """Store keys of the training states after 0, 1, ..., N updates: digest(what they start from, rates so far)."""
    running = hashlib.sha256(f"{base}/{NUMERICS}/".encode())
    keys = [running.hexdigest()[:32]]
    for rate in np.asarray(rates, dtype="<f8"):
        running.update(rate.tobytes())
        keys.append(running.copy().hexdigest()[:32])
    return keys


def numerics(compute: Compute, *, device_type: str, batch_size: int) -> str:
    """What of the computation decides the bits of an anneal, in words that its state keys are made of.

    The number of ranks is left out: a state goes on on another number of them, equal within fp32 rounding.
    """
    words = [device_type, compute.precision, f"{compute.threads} threads"]
    if compute.micro_batch_size is not None and compute.micro_batch_size < batch_size:
        words.append(f"micro batch {compute.micro_batch_size}")
    if compute.compile:
        words.append("compiled")
    return " ".join(words)


def run_key(config: RunConfig) -> str:
    """Digest of every choice that decides the numbers; the sweep's name, tracking and bookkeeping don't."""
    choices = tree(config)
    for ignored in ("name", "tracking"):
        del choices[ignored]
    for ignored in ("name", "save_interval", "keep"):
        del choices["anneal"][ignored]
    del choices["compute"]["activation_checkpointing"]
    return digest("run", NUMERICS, choices)


def run_name(config: RunConfig) -> str:
    """The point in a few words: the model, the step, the anneal, and what differs from the plain default."""
    anneal, step = config.anneal, config.checkpoint.step
    words = [config.model.name if step is None else f"{config.model.name}@{step}", anneal.shape, str(anneal.steps)]
    if anneal.peak_lr is not None:
        words.append(f"lr={anneal.peak_lr:g}")
    if anneal.peak_scale is not None:
        words.append(f"scale={anneal.peak_scale:g}")
    if anneal.final_fraction and anneal.shape != "constant":
        words.append(f"final={anneal.final_fraction:g}")
    if anneal.hold_steps:
        words.append(f"hold={anneal.hold_steps}")
    if anneal.weight_decay is not None:
        words.append(f"wd={anneal.weight_decay:g}")
    if anneal.max_grad_norm is not None:
        words.append(f"clip={anneal.max_grad_norm:g}")
    if config.seed:
        words.append(f"seed={config.seed}")
    if config.compute.precision != "fp32":
        words.append(config.compute.precision)
    if config.tasks.name != "core8":
        words.append(config.tasks.name)
    if config.tasks.limit is not None:
        words.append(f"limit={config.tasks.limit}")
    return " ".join(words)


def run_folder(config: RunConfig) -> str:
    """Folder name of the point inside its sweep: readable, and unlike every other point's."""
    return f"{run_name(config).replace(' ', '_').replace('@', '-step')}-{run_key(config)[:8]}"


def preparation_s(model: Model, step: int) -> float:
    """Rough seconds that one core takes to make an embedded checkpoint from nothing, its corpus included."""
    assert model.parameters and model.batch_size and model.sequence_length
    flops = 6 * model.parameters * step * model.batch_size * model.sequence_length
    return CORPUS_S + flops / CORE_FLOPS


def launch_order(config: RunConfig) -> tuple[int, int]:
    """Sort key: constant runs first and short before long, as they share states; then the longest first.

    The longest first, so that no long run is left alone at the end.
    """
    steps = config.anneal.steps
    return (0, steps) if config.anneal.shape == "constant" else (1, -steps * (config.model.parameters or 1))


def label(task: str, limit: int | None) -> str:
    """A task's name in scores and tables; a limited task is another task."""
    return task if limit is None else f"{task}:{limit}"


def training_flops(*, matrix_parameters: int, num_layers: int, d_model: int, position: Position, updates: int) -> float:
    """Model FLOPs of `updates`: 6 a matrix parameter and token, plus 12 L D T a token for attention.

    The count of Chowdhery et al. (PaLM, arXiv 2204.02311, app. B).
    """
    tokens = updates * position.batch_size * position.sequence_length
    return float(tokens) * (6 * matrix_parameters + 12 * num_layers * d_model * position.sequence_length)
