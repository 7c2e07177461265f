"""The checkpoint of a published model in the store: downloaded once for all jobs that share it, when first needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

from sweep.checkpoints import import_folder
from sweep.checkpoints.download import STEMS, fetch_folder
from sweep.checkpoints.hub import snapshot
from sweep.config import Model, RunConfig
from sweep.config.published import Published, folder_of, weights_alone
from sweep.pretrained import pretraining_lr, tokens_seen
from sweep.refusal import Refusal
from sweep.store import Store, digest

KIND = "checkpoints"
WEIGHTS = ("config", "train", "model")


def published_checkpoint(store: Store, config: RunConfig) -> Path:
    """The folder of the chosen checkpoint, in ai2-olmo's format; Refusal where it can't be had."""
    published, step = config.model.published, config.checkpoint.step
    assert published and step
    if weights_alone(published, config.checkpoint.source):
        return _from_hub(store, config.model, published, step)
    url = _url(published, step)
    title = f"{config.model.name} step {step}"
    return _fetched(store, url, digest("checkpoint", url), title, STEMS, optimizer=config.anneal.needs_optimizer)


def published_weights(store: Store, config: RunConfig, step: int) -> Path:
    """The folder of another checkpoint of the chosen model, at least its weights; the whole one where it is here."""
    published = config.model.published
    assert published
    if weights_alone(published, config.checkpoint.source):
        return _from_hub(store, config.model, published, step)
    url = _url(published, step)
    if (whole := store.get(KIND, digest("checkpoint", url))) is not None:
        return whole
    title = f"{config.model.name} step {step}: weights"
    return _fetched(store, url, digest("weights", url), title, WEIGHTS, optimizer=False)


def _url(published: Published, step: int) -> str:
    assert published.http
    return published.http.format(folder=folder_of(published, step), step=step)


def _fetched(store: Store, url: str, key: str, title: str, stems: tuple[str, ...], *, optimizer: bool) -> Path:
    parts = store.path(KIND, f".{key}.download")

    def build(into: Path) -> None:
        fetch_folder(url, into, parts, title=title, stems=stems, optimizer=optimizer)

    folder = store.make(KIND, key, build)
    shutil.rmtree(parts, ignore_errors=True)
    return folder


def _from_hub(store: Store, model: Model, published: Published, step: int) -> Path:
    """A revision's weights as an OLMo checkpoint without optimizer; how it was trained is as its option says."""
    assert published.hub and published.revision
    tokens = tokens_seen(model, step)
    if tokens is None:
        raise Refusal("model.batch_size=null: what the Hub doesn't tell of a training must be given")
    repository, revision = published.hub, published.revision.format(step=step)
    training = training_tree(model, step)

    def build(into: Path) -> None:
        found = snapshot(repository, revision)
        try:
            import_folder(found, into, training=training, step=step, tokens=tokens)
        except (FileNotFoundError, ValueError, UnpicklingError, SafetensorError) as error:
            raise Refusal(f"{repository}@{revision}: {error}") from error

    return store.make(KIND, digest("hub", repository, revision, training, tokens), build)


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
        "data": {"memmap_dtype": published.data_dtype, "instance_filter": published.instance_filter},
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
