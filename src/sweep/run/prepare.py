"""What a run works with, from its configuration: checkpoint, plan, scoring, data, training. Refusals come from here."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sweep import evaluate
from sweep.checkpoints import TrainingState, hyperparameters, load_state, matrix_parameters, read_position, z_loss
from sweep.config import Anneal, RunConfig
from sweep.data import InstanceFilter
from sweep.domain import cache_versions
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.planning.keys import anneal_numerics, numerics
from sweep.planning.model_sizes import stated_sizes
from sweep.planning.names import run_name
from sweep.planning.plan import Plan, make_plan
from sweep.run.average import merged
from sweep.run.checkpoint import checkpoint
from sweep.run.checkpoint_source import Source, resolve
from sweep.run.prefix import Training
from sweep.run.score import Scoring, check_tasks
from sweep.run.training_data import Reading, check_named, read_data
from sweep.system.ranks import Ranks, local_rank
from sweep.system.store import Store


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that a run needs before it computes anything."""

    source: Source
    plan: Plan
    scoring: Scoring
    work: Training | Source
    """What is trained, or what is scored as it is: an average of checkpoints, or the checkpoint itself."""
    data: dict[str, Any]
    """What the anneal reads, for people."""
    device: torch.device


def prepare(store: Store, config: RunConfig, ranks: Ranks) -> Prepared:
    """Checkpoint and data are made or fetched where the store lacks them, by the first rank while the others wait."""
    device = _device(config)
    check_tasks(config.tasks)
    check_named(config)
    source = ranks.from_first(lambda: checkpoint(store, config, device=device))
    _check_sizes(config, source)
    plan = make_plan(config, read_position(source.folder, source.config))
    scoring = _scoring(store, config, source, device)
    prepared = functools.partial(Prepared, source=source, plan=plan, scoring=scoring, device=device)
    if not config.anneal.steps:
        average = functools.partial(merged, store, config, source, device=device)
        return prepared(work=ranks.from_first(average) if config.anneal.merge else source, data={})
    ranks.share(plan.batch_size)

    def read() -> Reading:
        return read_data(store, config, source, plan, scoring.tokenizer)

    reading = read() if ranks.leads else None
    ranks.from_first(lambda: None)
    reading = reading or read()
    training = _training(config, source, plan, reading, device, ranks)
    return prepared(work=training, data=reading.facts)


def _check_sizes(config: RunConfig, source: Source) -> None:
    """Refusal where the checkpoint's blocks aren't of the size that its model's option states."""
    stated, model = stated_sizes(config.model), source.config.model
    found = matrix_parameters(model) - model.d_model * (model.embedding_size or model.vocab_size)
    if stated is not None and found != (blocks := stated.num_layers * stated.block_parameters):
        raise Refusal(
            f"model.architecture of {config.model.name} makes blocks of {blocks:,} parameters in all, and the "
            f"checkpoint has {found:,}: it is another model; model.architecture=null asks for none"
        )


def _training(
    config: RunConfig, source: Source, plan: Plan, reading: Reading, device: torch.device, ranks: Ranks
) -> Training:
    anneal = config.anneal
    penalty = z_loss(source.config) if anneal.z_loss is None else anneal.z_loss
    decides = _decides(config, source, plan, penalty)
    bits = anneal_numerics(config.compute, device.type, batch_size=plan.batch_size)
    base = digest("anneal", source.key, reading.identity, reading.dtype, decides, bits)

    chosen = source.config.data.instance_filter

    def start() -> TrainingState:
        place = device if ranks.size == 1 else torch.device("cpu")
        state = load_state(source.folder, source.config, device=place, moments=anneal.optimizer == "keep")
        for group in state.optimizer.param_groups:
            group.update(_changed(anneal, group))
        return state

    return Training(
        name=run_name(config),
        base=base,
        rates=plan.learning_rates,
        start=start,
        position=plan.start,
        data=reading.window,
        max_grad_norm=plan.max_grad_norm,
        z_loss=penalty,
        masked=None
        if chosen is None
        else InstanceFilter(
            min_period=chosen.repetition_min_period,
            max_period=chosen.repetition_max_period,
            max_count=chosen.repetition_max_count,
        ).masked,
        save_interval=config.anneal.save_interval,
        keep_interval=None,
        device=device,
        compute=config.compute,
        ranks=ranks,
    )


def _changed(anneal: Anneal, group: Mapping[str, Any]) -> dict[str, Any]:
    """What is chosen of a param group of Adam's and isn't so already; as in ai2-olmo one without decay keeps none."""
    chosen = {"betas": anneal.betas, "weight_decay": anneal.weight_decay if group["weight_decay"] > 0 else None}
    return {name: value for name, value in chosen.items() if value is not None and value != group[name]}


def _decides(config: RunConfig, source: Source, plan: Plan, penalty: float) -> dict[str, Any]:
    """What of the choices decides the updates; what is as the checkpoint has it anyway is left out."""
    decides: dict[str, Any] = {"weight_decay": None, "max_grad_norm": plan.max_grad_norm, "seed": config.seed}
    groups = hyperparameters(source.folder, source.config)
    if config.anneal.weight_decay and not any(group["weight_decay"] > 0 for group in groups):
        raise Refusal(
            f"anneal.weight_decay={config.anneal.weight_decay}: the checkpoint's optimizer decays nothing, and what is "
            "without decay stays without; allowed: 0, or null"
        )
    for group in groups:
        decides |= _changed(config.anneal, group)
    if penalty:
        decides["z_loss"] = [penalty, cache_versions.Z_LOSS]
    if config.anneal.optimizer == "fresh":
        decides["optimizer"] = "fresh"
    own = plan.position
    for name in ("batch_size", "sequence_length"):
        if getattr(plan, name) != getattr(own, name):
            decides[name] = getattr(plan, name)
    return decides


def _scoring(store: Store, config: RunConfig, source: Source, device: torch.device) -> Scoring:
    tokenizer = resolve(store, config.data.tokenizer or source.config.tokenizer.identifier)
    if not tokenizer.is_file():
        raise Refusal(
            f"data.tokenizer={config.data.tokenizer}: {tokenizer} is not a file, nor one of ai2-olmo's tokenizers"
        )
    heldout = Path(config.data.heldout) if config.data.heldout else tokenizer.parent
    if not (heldout / "heldout.npy").is_file():
        if config.data.heldout is not None:
            raise Refusal(f"data.heldout={config.data.heldout}: there is no heldout.npy in it")
        if config.tasks.heldout and not config.tasks.metrics:
            raise Refusal(
                f"tasks={config.tasks.name} scores held-out documents alone, and data.heldout=null: "
                f"there is no heldout.npy beside {tokenizer}"
            )
    return Scoring(
        tasks=config.tasks,
        tokenizer=tokenizer,
        eos_token_id=source.config.model.eos_token_id,
        max_length=source.config.model.max_sequence_length,
        heldout=heldout if (heldout / "heldout.npy").is_file() else None,
        numerics=digest(cache_versions.ENGINE, numerics(config.compute, device.type), evaluate.library(device.type)),
    )


def _device(config: RunConfig) -> torch.device:
    torch.set_num_threads(config.compute.threads)
    if config.compute.device == "cuda" and not torch.cuda.is_available():
        raise Refusal("compute.device=cuda, but there is no CUDA device; allowed here: auto, cpu")
    if config.compute.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank())
    return torch.device("cuda", local_rank())
