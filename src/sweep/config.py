"""What a person chose: one frozen tree, validated once at the door; every refusal names key, value and what is allowed.

The fields' dotted names are the YAML keys, the overrides, the MLflow params and the axis labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from sweep.refusal import Refusal, at_least, explain, one_of
from sweep.schedule import SHAPES

CORE8 = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "piqa", "sciq", "winogrande")
"""The 8 core tasks of the OLMo paper (arXiv 2402.00838, sec. 4)."""

METRICS = ("acc", "acc_norm")
MAX_LR = 0.1
"""No published language-model pretraining with Adam comes near; a larger value is a slip of the exponent."""

frozen = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))


@frozen
class Optimizer:
    """AdamW as the pretraining used it."""

    betas: tuple[float, float]
    eps: float
    weight_decay: float
    """Decoupled; on matrices only unless the two fields below say otherwise."""
    decay_norm_and_bias: bool
    decay_embeddings: bool
    max_grad_norm: float | None


@frozen
class Pretraining:
    """How the embedded trajectory is trained: linear warmup, then a constant learning rate."""

    steps: int
    """Length of the trajectory in updates."""
    checkpoint_interval: int
    """A checkpoint every so many updates."""
    peak_lr: float
    warmup_steps: int
    seed: int
    """Of the initial weights and of the data order."""
    optimizer: Optimizer


@frozen
class Model:
    """What is annealed."""

    name: str
    source: Literal["embedded", "local"]
    """embedded: pretrained here on first use; local: an OLMo unsharded checkpoint folder, `checkpoint.path`."""
    checkpoint_step: int | None
    """The step taken where none is chosen."""
    parameters: int | None
    """All parameters; None: as the checkpoint has."""
    sequence_length: int | None
    batch_size: int | None
    vocab_size: int | None
    architecture: Mapping[str, Any] | None
    """ai2-olmo's `ModelConfig`, its own names; None: as the checkpoint's config.yaml says."""
    pretraining: Pretraining | None


@frozen
class Checkpoint:
    """Where on the trajectory."""

    step: int | None
    """Optimizer updates done; None only with `model=local`: whatever step the checkpoint is at."""
    path: str | None
    """Folder of the checkpoint, with `model=local`."""

    @field_validator("step")
    @classmethod
    def _positive(cls, step: int | None) -> int | None:
        if step is not None and step < 1:
            raise ValueError("must be at least 1: step 0 is the random initialisation")
        return step


@frozen
class Data:
    """What it is annealed on."""

    name: str
    paths: tuple[str, ...] | None
    """Raw token memmaps; None: those the checkpoint was trained on."""
    dtype: Literal["uint16", "uint32"] | None
    """Of the memmaps; None: as the checkpoint's configuration says."""
    heldout: str | None
    """Folder with held-out documents; None: the embedded corpus's own, and none for other checkpoints."""
    tokenizer: str | None
    """A `tokenizer.json`; None: the checkpoint's own."""


@frozen
class Anneal:
    """How it is annealed."""

    name: str
    steps: int
    """Optimizer updates."""
    shape: str
    """Decay shape, one of `schedule.SHAPES`."""
    peak_lr: float | None
    """Learning rate the decay starts from; None: the one in force at the checkpoint, times `peak_scale`."""
    peak_scale: float | None
    """Factor on the learning rate in force; None: 1."""
    final_fraction: float
    """Last learning rate over the peak."""
    hold_steps: int
    """Of the steps, so many at the peak before the decay begins."""
    weight_decay: float | None
    """None: as in the checkpoint's optimizer."""
    max_grad_norm: float | None
    """None: as in the checkpoint's training."""
    save_interval: int
    """A state that an interrupted run can go on from, every so many updates."""
    keep: bool
    """Keep the annealed state in the store, so that later task sets and longer holds start from it."""

    @field_validator("shape")
    @classmethod
    def _known(cls, shape: str) -> str:
        return one_of(shape, SHAPES)

    @field_validator("steps", "save_interval")
    @classmethod
    def _at_least_one(cls, number: int) -> int:
        return at_least(1, number)

    @field_validator("peak_lr")
    @classmethod
    def _sane_lr(cls, lr: float | None) -> float | None:
        if lr is not None and not 0 < lr <= MAX_LR:
            raise ValueError(f"must be above 0 and at most {MAX_LR}, or null for the learning rate in force")
        return lr

    @field_validator("peak_scale")
    @classmethod
    def _sane_scale(cls, scale: float | None) -> float | None:
        if scale is not None and not 0 < scale <= 100:
            raise ValueError("must be above 0 and at most 100")
        return scale

    @field_validator("final_fraction")
    @classmethod
    def _fraction(cls, fraction: float) -> float:
        if not 0 <= fraction <= 1:
            raise ValueError("must be between 0 and 1")
        return fraction

    @field_validator("weight_decay", "max_grad_norm")
    @classmethod
    def _not_negative(cls, value: float | None) -> float | None:
        if value is not None and value < 0:
            raise ValueError("must not be negative")
        return value

    @model_validator(mode="after")
    def _together(self) -> Anneal:
        if self.peak_lr is not None and self.peak_scale is not None:
            raise ValueError(
                f"anneal.peak_lr={self.peak_lr} and anneal.peak_scale={self.peak_scale} contradict each other: give one"
            )
        if self.shape == "exponential" and self.final_fraction == 0:
            raise ValueError("anneal.shape=exponential never reaches 0: give anneal.final_fraction above 0, e.g. 0.01")
        if not 0 <= self.hold_steps < self.steps:
            raise ValueError(
                f"anneal.hold_steps={self.hold_steps} must be from 0 to anneal.steps - 1 = {self.steps - 1}"
            )
        return self


@frozen
class Tasks:
    """What it is scored on, before and after."""

    name: str
    metrics: dict[str, str]
    """Task -> the metric that enters the mean over the tasks."""
    limit: int | None
    """Score only the first so many documents of each task; None: all."""
    heldout: bool
    """Also score the held-out documents: loss and bits per byte."""

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: dict[str, str]) -> dict[str, str]:
        for task, metric in metrics.items():
            one_of(task, CORE8)
            one_of(metric, METRICS)
        return metrics

    @field_validator("limit")
    @classmethod
    def _at_least_two(cls, limit: int | None) -> int | None:
        if limit is not None and limit < 2:
            raise ValueError("must be at least 2 (a standard error needs two documents), or null for all")
        return limit


@frozen
class Tracking:
    """Where outcomes are shown."""

    name: str
    uri: str | None
    """MLflow tracking URI; None: MLFLOW_TRACKING_URI, else a local SQLite file beside the runs."""
    experiment: str
    enabled: bool


@frozen
class Compute:
    """On what it runs."""

    device: Literal["auto", "cpu", "cuda"]
    threads: int
    """A number and not the machine's cores, so that the same configuration gives the same bits."""

    @field_validator("threads")
    @classmethod
    def _at_least_one(cls, threads: int) -> int:
        return at_least(1, threads)


@frozen
class RunConfig:
    """One point of a sweep."""

    name: str
    """The sweep this run belongs to: its folder under multirun/ and its parent run in MLflow."""
    seed: int
    """0: the original data order; others put the instances not yet seen in another order, to measure noise."""
    model: Model
    checkpoint: Checkpoint
    data: Data
    anneal: Anneal
    tasks: Tasks
    tracking: Tracking
    compute: Compute

    @field_validator("seed")
    @classmethod
    def _not_negative(cls, seed: int) -> int:
        return at_least(0, seed)

    @model_validator(mode="after")
    def _checkpoint_fits_model(self) -> RunConfig:
        step, path = self.checkpoint.step, self.checkpoint.path
        if self.model.source == "local" and path is None:
            raise ValueError("model=local needs checkpoint.path, the folder of an OLMo unsharded checkpoint")
        if self.model.source == "embedded":
            if path is not None:
                raise ValueError(f"checkpoint.path={path} goes with model=local, not with model={self.model.name}")
            _on_trajectory(self.model, step)
        return self


def load(plain: Mapping[str, Any]) -> RunConfig:
    """The typed configuration of a plain tree; Refusal listing everything that is wrong with it."""
    try:
        return TypeAdapter(RunConfig).validate_python(plain)
    except ValidationError as error:
        raise Refusal("\n".join(explain(problem) for problem in error.errors())) from None


def tree(choices: Any) -> dict[str, Any]:
    """The plain tree that `load` made these choices of."""
    return dataclasses.asdict(choices)


def params(config: RunConfig) -> dict[str, Any]:
    """Dotted name -> value of every choice that a table or MLflow shows, `name` leaves under their group's name."""
    shown: dict[str, Any] = {"model": config.model.name, "seed": config.seed}
    shown["model.parameters"] = config.model.parameters
    for group in ("checkpoint", "data", "anneal", "tasks", "compute"):
        for field, value in vars(getattr(config, group)).items():
            shown[group if field == "name" else f"{group}.{field}"] = value
    return shown


def _on_trajectory(model: Model, step: int | None) -> None:
    assert model.pretraining is not None
    every, last = model.pretraining.checkpoint_interval, model.pretraining.steps
    if step is None or step % every or not every <= step <= last:
        near = [] if step is None else [s for s in range(every, last + 1, every) if abs(s - step) < every]
        hint = f"; nearest: {', '.join(map(str, near))}" if near else ""
        raise ValueError(
            f"checkpoint.step={step} is not a checkpoint of {model.name}: there is one every {every} steps "
            f"from {every} to {last}{hint}"
        )
