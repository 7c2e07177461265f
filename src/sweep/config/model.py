"""What is annealed, and where on its trajectory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator, model_validator

from sweep.config.anneal import MAX_LR
from sweep.config.frozen import frozen
from sweep.config.optimizer import Optimizer
from sweep.config.published import Published, listed_steps
from sweep.config.resources import Resources
from sweep.domain.errors import at_least, unknown

MIN_VOCAB_SIZE, MAX_VOCAB_SIZE = 256 + 2, 2**16
"""Of an embedded model: all bytes and two special tokens; ids are stored as uint16."""
SIZES = ("d_model", "n_layers", "n_heads", "n_kv_heads", "mlp_ratio", "mlp_hidden_size")
"""Of ai2-olmo's `ModelConfig`: numbers from 1."""
OTHERS: dict[str, tuple[Any, ...]] = {
    "clip_qkv": (int, float),
    "rope_theta": (int,),
    "layer_norm_type": ("default", "low_precision", "rms"),
    "layer_norm_eps": (float,),
    "layer_norm_with_affine": (bool,),
    "attention_layer_norm": (bool,),
    "attention_layer_norm_with_affine": (bool,),
    "norm_after": (bool,),
    "include_bias": (bool,),
    "bias_for_layer_norm": (bool,),
    "weight_tying": (bool,),
    "init_fn": ("mitchell", "normal", "kaiming_normal", "fan_in", "full_megatron"),
    "init_std": (float,),
    "init_cutoff_factor": (int, float),
}
"""What else of ai2-olmo's `ModelConfig` an embedded model may set: the types, or the values, that it takes."""


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

    @field_validator("steps", "warmup_steps")
    @classmethod
    def _at_least_one(cls, number: int) -> int:
        return at_least(1, number)

    @field_validator("seed")
    @classmethod
    def _not_negative(cls, seed: int) -> int:
        return at_least(0, seed)

    @field_validator("peak_lr")
    @classmethod
    def _sane_lr(cls, lr: float) -> float:
        if not 0 < lr <= MAX_LR:
            raise ValueError(f"must be above 0 and at most {MAX_LR}")
        return lr

    @field_validator("checkpoint_interval")
    @classmethod
    def _within(cls, interval: int, info: ValidationInfo) -> int:
        if not 1 <= interval <= info.data.get("steps", interval):
            raise ValueError(f"must be from 1 to model.pretraining.steps={info.data['steps']}")
        return interval


@frozen
class Model:
    """What is annealed."""

    name: str
    source: Literal["embedded", "local", "published"]
    """embedded: pretrained here on first use; local: an OLMo unsharded checkpoint folder, `checkpoint.path`; published:
    downloaded on first use."""
    checkpoint_step: int | None
    """The step taken where none is chosen."""
    parameters: int | None
    """All parameters; None: as the checkpoint has."""
    sequence_length: int | None
    batch_size: int | None
    vocab_size: int | None
    architecture: Mapping[str, Any] | None
    """ai2-olmo's `ModelConfig`, its own names; of a published model what decides its matrices, to tell costs before it
    is here. None: as the checkpoint's config.yaml says."""
    pretraining: Pretraining | None
    published: Published | None = None
    """Of a published model; None: of others."""
    resources: Resources | None = None
    """What a run asks of a cluster; None: nobody said, so hydra.launcher has to."""

    @field_validator("parameters", "batch_size")
    @classmethod
    def _at_least_one(cls, number: int | None) -> int | None:
        return None if number is None else at_least(1, number)

    @field_validator("sequence_length")
    @classmethod
    def _predicts(cls, length: int | None) -> int | None:
        return None if length is None else at_least(2, length)

    @model_validator(mode="after")
    def _whole(self) -> Model:
        if self.source == "published" and self.published is None:
            raise ValueError("model.published=None: a published model needs to say where it is; see conf/model/")
        if self.source != "embedded":
            return self
        for key in ("parameters", "sequence_length", "batch_size", "vocab_size", "architecture", "pretraining"):
            if getattr(self, key) is None:
                raise ValueError(f"model.{key}=None: an embedded model is made here and needs it; see conf/model/")
        if not MIN_VOCAB_SIZE <= (self.vocab_size or 0) <= MAX_VOCAB_SIZE:
            raise ValueError(f"model.vocab_size={self.vocab_size}: must be from {MIN_VOCAB_SIZE} to {MAX_VOCAB_SIZE}")
        _check_architecture(self.architecture or {})
        return self


def _check_architecture(chosen: Mapping[str, Any]) -> None:
    """ValueError naming the key where ai2-olmo could not build the model."""
    for key, value in chosen.items():
        place = f"model.architecture.{key}={value}"
        if key not in (*SIZES, *OTHERS):
            raise ValueError(f"{place}: {unknown(key, (*SIZES, *OTHERS))}")
        if key in SIZES and (type(value) is not int or value < 1):
            raise ValueError(f"{place}: must be a whole number, at least 1")
        if key in OTHERS and type(value) not in OTHERS[key] and value not in OTHERS[key]:
            allowed = (kind.__name__ if isinstance(kind, type) else kind for kind in OTHERS[key])
            raise ValueError(f"{place}: must be {' or '.join(allowed)}")
    if missing := [key for key in ("d_model", "n_layers", "n_heads") if key not in chosen]:
        raise ValueError(f"model.architecture.{missing[0]} is missing: d_model, n_layers and n_heads are needed")
    width, heads = chosen["d_model"], chosen["n_heads"]
    if width % (2 * heads):
        raise ValueError(
            f"model.architecture.d_model={width} must be a multiple of 2 * n_heads = {2 * heads}: "
            "rotary positions turn pairs of each head's dimensions"
        )
    if heads % chosen.get("n_kv_heads", heads):
        raise ValueError(f"model.architecture.n_kv_heads={chosen['n_kv_heads']} must divide n_heads={heads}")
    hidden = chosen.get("mlp_hidden_size", width * chosen.get("mlp_ratio", 4))
    if hidden % 2:
        raise ValueError(f"model.architecture.mlp_hidden_size={hidden} must be even: SwiGLU halves it")


@frozen
class Checkpoint:
    """Where on the trajectory."""

    step: int | None
    """Optimizer updates done; None only with `model=local`: whatever step the checkpoint is at."""
    path: str | None
    """Folder of the checkpoint, with `model=local`."""
    source: Literal["auto", "http", "hub"] = "auto"
    """Of a published model. http: its authors' folders, with optimizer state; hub: the Hugging Face Hub;
    auto: http where the model has it."""

    @field_validator("step")
    @classmethod
    def _positive(cls, step: int | None) -> int | None:
        if step is not None and step < 1:
            raise ValueError("must be at least 1: step 0 is the random initialisation")
        return step


def check_on_trajectory(model: Model, step: int | None) -> None:
    """ValueError with the nearest ones where the embedded trajectory has no checkpoint at `step`."""
    assert model.pretraining is not None
    every, last = model.pretraining.checkpoint_interval, model.pretraining.steps
    if step is None or step % every or not every <= step <= last:
        near = [] if step is None else [s for s in range(every, last + 1, every) if abs(s - step) < every]
        hint = f"; nearest: {', '.join(map(str, near))}" if near else ""
        raise ValueError(
            f"checkpoint.step={step} is not a checkpoint of {model.name}: there is one every {every} steps "
            f"from {every} to {last}{hint}"
        )


def trajectory_steps(model: Model, interval: int | None) -> Iterable[int]:
    """Steps at which an embedded or published model has checkpoints; an embedded one can be stopped at any."""
    if model.pretraining is not None:
        every = 1 if interval is not None else model.pretraining.checkpoint_interval
        return range(every, model.pretraining.steps + 1, every)
    assert model.published is not None
    return listed_steps(model.published)
