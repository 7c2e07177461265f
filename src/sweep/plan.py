"""What follows from a configuration: names, keys, learning rates, counts. No clock, disk, network or GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.config import Model, RunConfig
from sweep.config.anneal import MAX_LR
from sweep.pretrained import check_trained, pretraining_lr
from sweep.records import Position
from sweep.refusal import Refusal
from sweep.schedule import learning_rates

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
    check_trained(model, position)
    if position.lr <= 0 and config.anneal.peak_lr is None:
        lr = pretraining_lr(model, position.step)
        known = "" if lr is None else f", e.g. {lr:.4g}, which the schedule of {model.name} says for this step"
        raise Refusal(
            f"anneal.peak_lr=null takes the learning rate in force, which the checkpoint says is {position.lr}: "
            f"give anneal.peak_lr{known}"
        )


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


def training_flops(*, matrix_parameters: int, num_layers: int, d_model: int, position: Position, updates: int) -> float:
    """Model FLOPs of `updates`: 6 a matrix parameter and token, plus 12 L D T a token for attention.

    The count of Chowdhery et al. (PaLM, arXiv 2204.02311, app. B).
    """
    tokens = updates * position.batch_size * position.sequence_length
    return float(tokens) * (6 * matrix_parameters + 12 * num_layers * d_model * position.sequence_length)
