"""What one run will do: learning rates, tokens and FLOPs, from its configuration and its checkpoint's position."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.config import Anneal, Model, RunConfig
from sweep.config.anneal import MAX_LR
from sweep.domain.errors import Refusal
from sweep.domain.records import Position
from sweep.domain.schedule import Warmup, learning_rates
from sweep.planning.pretraining_schedule import check_peak, check_trained

CORPUS_S = 30.0
CORE_FLOPS = 3e10
"""Training FLOP/s that one core of a 2021 server reached on the smallest embedded model."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run will do."""

    position: Position
    """The checkpoint's position in its training."""
    learning_rates: np.ndarray
    """(steps,) float64, one for each update."""
    peak_lr: float | None
    """The learning rate that the decay starts from; None: nothing is trained."""
    tokens: int
    """Tokens that the anneal trains on."""
    batch_size: int
    """Instances per update of the anneal."""
    sequence_length: int
    """Tokens per instance of the anneal."""
    max_grad_norm: float | None
    shared_steps: int
    """Updates of warmup and hold, shared by runs that differ only in their decay; 0 if there is no hold."""

    @property
    def start(self) -> Position:
        """The same position, in units of the anneal's own batch size and sequence length."""
        return dataclasses.replace(self.position, batch_size=self.batch_size, sequence_length=self.sequence_length)


def make_plan(config: RunConfig, position: Position) -> Plan:
    """The plan of a run whose checkpoint is at `position`; Refusal if configuration and checkpoint contradict."""
    check(config, position)
    anneal = config.anneal
    batch_size, length = anneal.batch_size or position.batch_size, anneal.sequence_length or position.sequence_length
    rates = planned_rates(anneal, position.lr)
    return Plan(
        position=position,
        learning_rates=rates,
        peak_lr=planned_peak(anneal, position.lr) if anneal.steps else None,
        tokens=len(rates) * batch_size * length,
        batch_size=batch_size,
        sequence_length=length,
        max_grad_norm=anneal.max_grad_norm if anneal.max_grad_norm is not None else position.max_grad_norm,
        shared_steps=anneal.warmup_steps + anneal.hold_steps if anneal.hold_steps else 0,
    )


def planned_rates(anneal: Anneal, lr: float) -> np.ndarray:
    """Learning rates (steps,) float64, one for each update; `lr` is the current LR, that of the checkpoint."""
    if not anneal.steps:
        return np.empty(0)
    return learning_rates(
        anneal.shape,
        steps=anneal.steps,
        peak=planned_peak(anneal, lr),
        final_fraction=anneal.final_fraction,
        hold_steps=anneal.hold_steps,
        warmup=Warmup(steps=anneal.warmup_steps, start=0.0 if anneal.optimizer == "fresh" else lr),
    )


def planned_peak(anneal: Anneal, lr: float) -> float:
    """The learning rate that the decay starts from; Refusal above MAX_LR."""
    peak = anneal.peak_lr if anneal.peak_lr is not None else lr * (anneal.peak_scale or 1.0)
    if peak > MAX_LR:
        raise Refusal(
            f"anneal.peak_scale={anneal.peak_scale} times the current LR, {lr:g}, is {peak:g}: "
            f"at most {MAX_LR} is allowed"
        )
    return peak


def check(config: RunConfig, position: Position) -> None:
    """Refusal, naming both values, where the checkpoint itself contradicts the configuration."""
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
    check_length(config, position.sequence_length)
    if position.lr <= 0:
        check_peak(model, config.anneal, position.step, f"the checkpoint says is {position.lr}")


def check_length(config: RunConfig, own: int) -> None:
    """Refusal of an `anneal.sequence_length` that the model or its data order can't have; `own` is the checkpoint's."""
    length, chosen = config.anneal.sequence_length, config.data
    if length is None or length == own:
        return
    if length > own:
        raise Refusal(f"anneal.sequence_length={length}: the model has {own} positions, so at most {own}")
    goes_on = chosen.sources is None or any(source.paths is None for source in chosen.sources.values())
    if chosen.position == "continue" and goes_on:
        raise Refusal(
            f"anneal.sequence_length={length}: data.position=continue goes on in an order of instances of {own} tokens,"
            " which has no place among instances of another length; allowed: data.position=fresh"
        )


def preparation_s(model: Model, step: int) -> float:
    """Estimated seconds that one core takes to make an embedded checkpoint, its corpus included."""
    assert model.parameters and model.batch_size and model.sequence_length
    flops = 6 * model.parameters * step * model.batch_size * model.sequence_length
    return CORPUS_S + flops / CORE_FLOPS


def launch_order(config: RunConfig) -> tuple[int, int]:
    """Sort key for launching: first runs that train nothing, then constant controls, then anneals.

    Controls go from short to long, because a longer one goes on from a shorter one's state. Anneals go from long to
    short, so that no long run is left alone at the end.
    """
    steps = config.anneal.steps
    return (0, steps) if config.anneal.arm != "decay" else (1, -steps * (config.model.parameters or 1))


def training_flops(
    *, matrix_parameters: int, num_layers: int, d_model: int, sequence_length: int, tokens: int
) -> float:
    """Model FLOPs of training: 6 per matrix parameter and token, plus 12 L D T per token for attention.

    Counted as by Chowdhery et al. (PaLM, arXiv 2204.02311, app. B).
    """
    return float(tokens) * (6 * matrix_parameters + 12 * num_layers * d_model * sequence_length)
