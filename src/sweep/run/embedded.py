"""Embedded trajectories, pretrained here as far as needed.

Pretraining is the annealer following a warmup-then-constant array from a random initialisation, so a trajectory's
checkpoints are ordinary training states: a later step goes on from the last one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from olmo.config import TrainConfig

from sweep import data
from sweep.checkpoints import (
    fresh_position,
    fresh_state,
)
from sweep.config import Compute, Model, tree
from sweep.planning.keys import corpus_key, numerics, pretraining_base
from sweep.planning.pretraining_schedule import pretraining_rates
from sweep.run.builds import builds
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.run.prefix import Training, train
from sweep.system.progress import Progress
from sweep.system.store import Store

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


def embedded_checkpoint(
    store: Store, model: Model, step: int, *, compute: Compute, device: torch.device
) -> CheckpointFolder:
    """The checkpoint of an embedded trajectory at `step`, always trained in fp32 and whole batches."""
    of_builds = (numerics(compute, device.type, build) for build in builds(store, compute.plain, device))
    base, *others = (pretraining_base(model, numbers) for numbers in of_builds)
    pretraining = model.pretraining
    assert pretraining and model.vocab_size and model.sequence_length
    corpus = prepare_corpus(store, model.vocab_size)
    train_config = embedded_config(model)
    position = fresh_position(train_config)
    instances = data.Instances([corpus / "train.npy"], sequence_length=model.sequence_length)
    order = data.Continued(num_instances=len(instances), position=position, batch_size=position.batch_size)
    training = Training(
        name=f"pretraining {model.name} to step {step}",
        base=base,
        others=tuple(others),
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
    return CheckpointFolder(key=trained.key, folder=trained.folder, config=train_config)


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
