"""All that a run works with, from its configuration: checkpoint, plan, scoring, data and training, or a refusal."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweep.checkpoints import (
    TrainingState,
    config_text,
    hyperparameters,
    load_state,
    olmo_core_rules,
    read_position,
    z_loss,
)
from sweep.config import Anneal, Compute, Data, Model, RunConfig
from sweep.data import InstanceFilter
from sweep.domain import cache_versions
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal, shown
from sweep.evaluate.matmul import LIBRARIES
from sweep.models import architecture_of
from sweep.planning.keys import BEFORE_BUILDS, anneal_numerics, numerics
from sweep.planning.model_sizes import stated_sizes
from sweep.planning.plan import Plan, make_plan
from sweep.run.average import averaged_checkpoint
from sweep.run.builds import builds
from sweep.run.checkpoint import open_checkpoint
from sweep.run.checkpoint_folder import CheckpointChoice, CheckpointFolder, of_first_rank
from sweep.run.embedded import embedded_checkpoint
from sweep.run.heldout import check_heldout, heldout_folder, tell_shared
from sweep.run.memory import Memory
from sweep.run.prefix import Training, loading_device
from sweep.run.score import Scoring, check_tasks
from sweep.run.text_rules import ModelTokenizer, model_tokenizer
from sweep.run.training_data import TrainingData, check_data_is_named, read_data
from sweep.system.ranks import Ranks, local_rank
from sweep.system.store import Store
from sweep.training.skipping import SkipRule


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


def prepare(store: Store, config: RunConfig, name: str, ranks: Ranks, memory: Memory) -> Prepared:
    """Opens checkpoint and data; what the store lacks is made or downloaded by the first rank while the others wait.

    `name` is the run's, for progress bars. A checkpoint that `memory` has is not opened again.
    """
    compute, choice = config.compute, checkpoint_choice(config)
    device = _use_device(compute)
    check_tasks(config.tasks)
    if config.anneal.steps:
        check_data_is_named(choice, config.data)
    checkpoint = of_first_rank(ranks, functools.partial(_opened, store, choice, config, device, memory))
    _check_model(config, checkpoint)
    plan = make_plan(config, read_position(checkpoint.folder, checkpoint.config))
    tokenizer = _tokenizer(store, config.data, checkpoint)
    scoring = _scoring(store, config, tokenizer, checkpoint, scoring_numerics(store, compute, device))
    prepared = functools.partial(
        Prepared, choice=choice, checkpoint=checkpoint, plan=plan, scoring=scoring, device=device
    )
    if config.anneal.merge is not None:
        average = functools.partial(_average, store, config, checkpoint, device)
        return prepared(work=of_first_rank(ranks, average), data={})
    if not config.anneal.steps:
        return prepared(work=checkpoint, data={})
    ranks.share(plan.batch_size)
    read = functools.partial(read_data, store, config.data, checkpoint, plan, seed=config.seed, tokenizer=tokenizer)
    data = _after_first(ranks, read)
    _tell_shared(store, config, scoring, data, plan, ranks)
    setup = AnnealSetup(
        checkpoint=checkpoint,
        anneal=config.anneal,
        plan=plan,
        data=data,
        seed=config.seed,
        compute=compute,
        builds=tuple(builds(store, compute, device)),
        device=device,
        ranks=ranks,
        config_yaml=memory.config_texts.get(checkpoint.key, lambda: config_text(checkpoint.config)),
    )
    return prepared(work=setup.training(name), data=data.facts)


@dataclass(frozen=True, kw_only=True)
class AnnealSetup:
    """All that decides an anneal: where it starts, what it follows, and how it is computed."""

    checkpoint: CheckpointFolder
    anneal: Anneal
    plan: Plan
    data: TrainingData
    seed: int
    compute: Compute
    builds: tuple[str | None, ...]
    """The build that computes it, and those whose states are taken too."""
    device: torch.device
    ranks: Ranks
    config_yaml: str
    """The text of config.yaml in the states of this anneal."""

    def training(self, name: str) -> Training:
        """The plan's learning rates followed from the checkpoint; `name` is shown at the progress bar."""
        return Training(
            name=name,
            base=self.key(self.builds[0]),
            others=tuple(map(self.key, self.builds[1:])),
            rates=self.plan.learning_rates,
            start=self.load,
            position=self.plan.start,
            data=self.data.window,
            max_grad_norm=self.plan.max_grad_norm,
            z_loss=self.z_loss,
            masked=_instance_filter(self.checkpoint),
            counts_last=olmo_core_rules(self.checkpoint.config) is None,
            skip=self._skip,
            save_interval=self.anneal.save_interval,
            keep_interval=None,
            keep=self.anneal.keep,
            device=self.device,
            compute=self.compute,
            ranks=self.ranks,
            config_yaml=self.config_yaml,
            smaller=functools.partial(self._smaller, name),
        )

    def _smaller(self, name: str) -> Training | None:
        """The training with passes of half as many instances; None at one instance, or with several ranks.

        One of several ranks that is out of memory can't tell the others, which wait for it in the middle of an update.
        """
        size = min(self.plan.batch_size, self.compute.micro_batch_size or self.plan.batch_size)
        if size < 2 or self.ranks.size > 1:
            return None
        compute = dataclasses.replace(self.compute, micro_batch_size=size // 2)
        return dataclasses.replace(self, compute=compute).training(name)

    @property
    def z_loss(self) -> float:
        """Factor on log(Z)^2 in the objective."""
        return z_loss(self.checkpoint.config) if self.anneal.z_loss is None else self.anneal.z_loss

    @property
    def _skip(self) -> SkipRule | None:
        """Which updates the training's optimizer skips."""
        rules = olmo_core_rules(self.checkpoint.config)
        if rules is None or rules.skip_sigma is None:
            return None
        return SkipRule(sigma=rules.skip_sigma, window=rules.skip_window, of_norms=self.plan.max_grad_norm is not None)

    def load(self) -> TrainingState:
        """The state before the first update; with several ranks the first loads it, and it is sharded then."""
        place = loading_device(self.device, self.ranks)
        keep = self.anneal.optimizer == "keep"
        state = load_state(self.checkpoint.folder, self.checkpoint.config, device=place, moments=keep)
        for group in state.optimizer.param_groups:
            group.update(self._changes(group))
        return state

    def key(self, build: str | None) -> str:
        """Digest of all that decides the updates of this build besides the learning rates.

        A choice that equals the checkpoint's own is left out, so that naming it changes no key.
        """
        plan = self.plan
        decides: dict[str, Any] = {"weight_decay": None, "max_grad_norm": plan.max_grad_norm, "seed": self.seed}
        decides |= self._optimizer_changes()
        if self.z_loss:
            decides["z_loss"] = [self.z_loss, cache_versions.Z_LOSS]
        if self.anneal.optimizer == "fresh":
            decides["optimizer"] = "fresh"
        decides |= architecture_of(self.checkpoint.config).identity()
        for name in ("batch_size", "sequence_length"):
            if getattr(plan, name) != getattr(plan.position, name):
                decides[name] = getattr(plan, name)
        bits = anneal_numerics(self.compute, self.device.type, build, batch_size=plan.batch_size)
        return digest("anneal", self.checkpoint.key, self.data.identity, self.data.dtype, decides, bits)

    def _optimizer_changes(self) -> dict[str, Any]:
        """Overrides that differ from the saved groups; Refusal of a weight decay that no group would get."""
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


def _instance_filter(checkpoint: CheckpointFolder) -> Callable[[np.ndarray], np.ndarray] | None:
    """Marks the instances that ai2-olmo's filter keeps out of the loss; None if the training had no filter."""
    chosen = checkpoint.config.data.instance_filter
    if chosen is None:
        return None
    return InstanceFilter(
        min_period=chosen.repetition_min_period,
        max_period=chosen.repetition_max_period,
        max_count=chosen.repetition_max_count,
    ).masked


def _average(store: Store, config: RunConfig, checkpoint: CheckpointFolder, device: torch.device) -> CheckpointFolder:
    """The average that stands in for an anneal of this checkpoint."""
    merge, keep, choice = config.anneal.merge, config.anneal.keep, checkpoint_choice(config)
    assert merge is not None
    embedded = functools.partial(_embedded_folder, store, config.model, config.compute, device)
    return averaged_checkpoint(store, merge, checkpoint, choice, embedded, keep=keep)


def _after_first(ranks: Ranks, read: Callable[[], TrainingData]) -> TrainingData:
    """What each rank reads: the others find in the store what the first one has made."""
    data = read() if ranks.leads else None
    ranks.from_first(lambda: None)
    return data or read()


def _opened(
    store: Store, choice: CheckpointChoice, config: RunConfig, device: torch.device, memory: Memory
) -> CheckpointFolder:
    """The chosen checkpoint, opened once in a worker's life for the same files."""
    named = digest("opened", dataclasses.asdict(choice), device.type, dataclasses.asdict(config.compute), config.files)
    make = functools.partial(open_checkpoint, store, choice, compute=config.compute, device=device)

    def still(checkpoint: CheckpointFolder) -> bool:
        """Whether the folder is there, which nobody drops while this run goes on."""
        store.claims.claim(checkpoint.key)
        return checkpoint.folder.is_dir()

    return memory.checkpoints.get(named, make, still=still)


def _embedded_folder(store: Store, model: Model, compute: Compute, device: torch.device, step: int) -> Path:
    return embedded_checkpoint(store, model, step, compute=compute, device=device).folder


def _check_model(config: RunConfig, checkpoint: CheckpointFolder) -> None:
    """Refusal if the checkpoint's blocks aren't of the size that its model's option states, or can't be annealed."""
    chosen, model = config.model, checkpoint.config.model
    if config.anneal.steps:
        try:
            architecture_of(checkpoint.config).check_annealable()
        except Refusal as error:
            raise Refusal(f"{checkpoint_choice(config).key_and_value}: {error}") from error
    stated = stated_sizes(chosen)
    actual = architecture_of(checkpoint.config).matrix_parameters() - model.d_model * (
        model.embedding_size or model.vocab_size
    )
    if stated is not None and actual != (blocks := stated.num_layers * stated.block_parameters):
        raise Refusal(
            f"model.architecture of {chosen.name} makes blocks of {blocks:,} parameters in all, and the "
            f"checkpoint has {actual:,}: it is another model; model.architecture=null asks for none"
        )


def _tell_shared(
    store: Store, config: RunConfig, scoring: Scoring, data: TrainingData, plan: Plan, ranks: Ranks
) -> None:
    """Warn if held-out documents of a person's own train."""
    if ranks.leads and config.data.heldout and scoring.heldout and config.tasks.heldout:
        tell_shared(store, scoring.heldout, data, scoring.tokenizer, updates=len(plan.learning_rates))


def _tokenizer(store: Store, data: Data, checkpoint: CheckpointFolder) -> ModelTokenizer:
    named = data.tokenizer or checkpoint.config.tokenizer.identifier
    own = "data.tokenizer=null, and the checkpoint's own"
    key = own if data.tokenizer is None else f"data.tokenizer={shown(data.tokenizer)}"
    return model_tokenizer(store, named, checkpoint.config.model, key=key)


def _scoring(
    store: Store, config: RunConfig, tokenizer: ModelTokenizer, checkpoint: CheckpointFolder, numerics: list[str]
) -> Scoring:
    """How checkpoints are scored; Refusal if held-out documents alone are scored, and there are none."""
    tasks, heldout = config.tasks, heldout_folder(store, config.data, tokenizer, checkpoint.config)
    if heldout is not None and tasks.heldout:
        check_heldout(heldout, config.data, checkpoint.config)
    if heldout is None and tasks.heldout and not tasks.metrics:
        raise Refusal(
            f"tasks={tasks.name} scores held-out documents alone, and data.heldout=null: "
            f"there is no heldout.npy beside {tokenizer.file}"
        )
    return Scoring(
        tasks=tasks,
        tokenizer=tokenizer.file,
        rules=tokenizer.rules,
        max_length=checkpoint.config.model.max_sequence_length,
        heldout=heldout,
        numerics=numerics[0],
        others=tuple(numerics[1:]),
    )


def scoring_numerics(store: Store, compute: Compute, device: torch.device) -> list[str]:
    """Of this build, and of those whose scores are taken too; a build has one library for products of matrices."""
    found: list[str] = []
    for build in builds(store, compute.plain, device):
        numbers = numerics(compute, device.type, build)
        libraries = LIBRARIES if build is BEFORE_BUILDS else [None]
        found += [digest(cache_versions.ENGINE, numbers, *([name] if name else [])) for name in libraries]
    return found


def _use_device(compute: Compute) -> torch.device:
    """The device of this rank, made current; torch's number of threads is set."""
    torch.set_num_threads(compute.threads)
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise Refusal("compute.device=cuda, but there is no CUDA device; allowed here: auto, cpu")
    if compute.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank())
    return torch.device("cuda", local_rank())
