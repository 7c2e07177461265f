"""The settings of a training that decide its updates: each is followed as in ai2-olmo 0.6.0's trainer, or refused.

They are those of `olmo/train.py`, `olmo/optim.py` and `olmo/data`. Settings of speed, memory, logging and saving change
no update and are not listed. `precision` and flash attention change rounding; a run's key has its own numerics.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

from olmo.config import SchedulerUnits, TrainConfig

from sweep.checkpoints.olmo_core_config import OlmoCoreRules, OlmoCoreTraining
from sweep.domain.errors import Refusal
from sweep.domain.records import Position

FOLLOWED: dict[str, tuple[object, ...]] = {
    "optimizer.name": ("adamw",),
    "optimizer.selective_updates": (False,),
    "max_grad_norm_ratio": (None,),
    "data.label_mask_paths": (None, []),
    "data.generate_attention_mask": (False,),
    "data.generate_doc_lengths": (False,),
    "model.attention_dropout": (0,),
    "model.residual_dropout": (0,),
    "model.embedding_dropout": (0,),
}
"""Settings that change an update -> the values under which ours is the same."""
Z_LOSS = 1e-4
"""What ai2-olmo 0.6.0's trainer multiplies the z-loss by: it reads `auxiliary_loss_multiplier` nowhere, and the OLMo 2
paper (arXiv 2501.00656, sec. 3.3.3) says 1e-4 where the training's config.yaml says 1e-5."""


def check_followed(config: TrainConfig) -> None:
    """Raises Refusal, with the allowed values, for a setting that an anneal would not follow."""
    for name, allowed in FOLLOWED.items():
        value = operator.attrgetter(name)(config)
        if value not in allowed:
            raise Refusal(
                f"the checkpoint's config.yaml has {name}={value}, which changes the training and is not followed; "
                f"allowed: {allowed[0]}"
            )


def check_clipping(config: TrainConfig, position: Position) -> None:
    """Raises Refusal if the gradient clip is still being warmed up at the checkpoint."""
    scheduler = config.scheduler
    until, factor = scheduler.grad_clip_warmup_steps, scheduler.grad_clip_warmup_factor
    done = position.tokens if scheduler.units == SchedulerUnits.tokens else position.step
    if config.max_grad_norm is not None and until is not None and factor is not None and done <= until:
        raise Refusal(
            f"the checkpoint's config.yaml has scheduler.grad_clip_warmup_steps={until:g} {scheduler.units}, and the "
            f"checkpoint stands at {done}: an anneal inside this warmup is not followed; allowed: later checkpoints"
        )


def z_loss(config: TrainConfig) -> float:
    """What the training multiplied log(Z)^2 by; flash-attn's fused loss adds it to the gradient in any case."""
    if isinstance(config, OlmoCoreTraining):
        return config.olmo_core.z_loss
    return Z_LOSS if config.softmax_auxiliary_loss or config.fused_loss else 0.0


def data_paths(config: TrainConfig) -> Sequence[str]:
    """The token memmaps the checkpoint was trained on, in the order they are read, as its configuration spells them."""
    datasets = config.data.datasets or {}
    return tuple(config.data.paths or [path for label in sorted(datasets) for path in datasets[label]])


def data_chunk(config: TrainConfig) -> int:
    """Instances that stay neighbours when the training's data are shuffled."""
    return config.olmo_core.chunk if isinstance(config, OlmoCoreTraining) else 1


def olmo_core_rules(config: TrainConfig) -> OlmoCoreRules | None:
    """How the training's updates differ from ai2-olmo's; None if it is a training of ai2-olmo."""
    return config.olmo_core if isinstance(config, OlmoCoreTraining) else None
