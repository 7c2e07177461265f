"""The checkpoint of a published model in the store: downloaded once for all jobs that share it, when first needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sweep.checkpoints.download import fetch_folder
from sweep.config import Model, RunConfig
from sweep.config.published import folder_of
from sweep.pretrained import pretraining_lr
from sweep.refusal import Refusal
from sweep.store import Store, digest

KIND = "checkpoints"


def published_checkpoint(store: Store, config: RunConfig) -> Path:
    """The folder of the chosen checkpoint, in ai2-olmo's format; Refusal where it can't be had."""
    published, step = config.model.published, config.checkpoint.step
    assert published and step
    if config.checkpoint.source == "hub" or published.http is None:
        raise _not_from_hub(config)
    url = published.http.format(folder=folder_of(published, step), step=step)
    key = digest("checkpoint", url)
    parts = store.path(KIND, f".{key}.download")
    title = f"{config.model.name} step {step}"
    folder = store.make(KIND, key, lambda into: fetch_folder(url, into, parts, title=title))
    shutil.rmtree(parts, ignore_errors=True)
    return folder


def _not_from_hub(config: RunConfig) -> Refusal:
    """Why the Hub's weights can't be annealed, said before anything is downloaded."""
    published, model = config.model.published, config.model.name
    assert published and published.hub and published.revision
    where = "checkpoint.source=http, which has it" if published.http else "a folder that has it, with model=local"
    revision = published.revision.format(step=config.checkpoint.step)
    return Refusal(
        f"checkpoint.source={config.checkpoint.source}: {published.hub}@{revision} holds weights without optimizer "
        f"state (allenai/OLMo#796), and an anneal of {model} goes on with the checkpoint's own optimizer: take {where}"
    )


def training_tree(model: Model, step: int) -> dict[str, Any]:
    """What a revision on the Hub doesn't tell of its training, as ai2-olmo's `TrainConfig` without `model`."""
    published = model.published
    assert published and model.batch_size
    optimizer, scheduler, lr = published.optimizer, published.scheduler, pretraining_lr(model, step)
    tree: dict[str, Any] = {
        "run_name": model.name,
        "seed": published.data_seed,
        "optimizer": {
            "name": "adamw",
            "betas": list(optimizer.betas),
            "eps": optimizer.eps,
            "weight_decay": optimizer.weight_decay,
            "decay_norm_and_bias": optimizer.decay_norm_and_bias,
            "decay_embeddings": optimizer.decay_embeddings,
        },
        "data": {"memmap_dtype": published.data_dtype},
        "tokenizer": {"identifier": published.tokenizer},
        "global_train_batch_size": model.batch_size,
        "max_grad_norm": optimizer.max_grad_norm,
        "precision": "fp32",
    }
    if lr is not None:
        tree["optimizer"]["learning_rate"] = scheduler.peak_lr if scheduler else lr
    if scheduler is not None:
        named = ("name", "units", "t_warmup", "t_max", "alpha_f", "warmup_min_lr")
        tree["scheduler"] = {name: getattr(scheduler, name) for name in named}
    if published.z_loss is not None:
        tree |= {"softmax_auxiliary_loss": True, "auxiliary_loss_multiplier": published.z_loss}
    return tree
