"""The story of one run: take a checkpoint, score it, anneal it on its own data, score it again, record everything."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from olmo.model import OLMo

from sweep.checkpoints import load_model, matrix_parameters
from sweep.config import RunConfig, params
from sweep.domain.records import Cost, RunResult, StepRecord, to_json
from sweep.planning.keys import run_key
from sweep.planning.names import run_name
from sweep.planning.plan import Plan, training_flops
from sweep.run.checkpoint_source import Source
from sweep.run.prefix import KEPT, Trained, Training, train
from sweep.run.prepare import prepare
from sweep.run.provenance import attempt, inputs, versions
from sweep.run.score import Spent, deltas, record_files, score_along, scores
from sweep.system.hardware import watched
from sweep.system.lease import Lease, LeaseLost
from sweep.system.progress import reporting
from sweep.system.ranks import ALONE, Ranks
from sweep.system.store import Store, store_at
from sweep.tracking import Journal
from sweep.tracking.background import followed
from sweep.tracking.place import where

log = logging.getLogger(__name__)


def run(
    config: RunConfig, folder: Path, *, multirun: Path, command: str, lease: Lease, ranks: Ranks = ALONE
) -> RunResult:
    """The outcome of one point; everything on the way is in the journal in `folder`, failures too.

    `lease` is the right to write there; LeaseLost where another process took it over. Of several `ranks` the first
    one runs it, and the others `follow`.
    """
    store = store_at(multirun)
    with reporting(folder), Journal(folder) as journal:
        journal.write("attempt", **attempt(config, command))
        with followed(folder, where(config.tracking, multirun)) if config.tracking.enabled else nullcontext():
            try:
                with watched(functools.partial(_busy, journal, lease)):
                    result = _story(config, journal, lease, store=store, ranks=ranks)
            except LeaseLost:
                raise  # the journal is somebody else's now
            except BaseException as error:
                status, cause = "failed" if isinstance(error, Exception) else "interrupted", ranks.blamed(error)
                journal.write("outcome", status=status, error=f"{type(cause).__name__}: {cause}", result=None)
                raise
            journal.write("outcome", status="finished", error=None, result=to_json(result))
    made = result.cost.updates_done or config.anneal.merge
    if not config.anneal.keep and made:  # what another run made is not ours to drop
        with store.lease(KEPT, result.final_state):
            store.drop(KEPT, result.final_state)
    return result


def _busy(journal: Journal, lease: Lease, sample: dict[str, float]) -> None:
    """Write down how busy the machine is, while the journal is ours."""
    lease.check()
    journal.write("system", values=sample)


def follow(config: RunConfig, *, multirun: Path, ranks: Ranks) -> None:
    """The part of a run's ranks but the first: their share of the scoring and of the anneal's updates."""
    store = store_at(multirun)
    prepared = prepare(store, config, ranks)
    source, device = prepared.source, prepared.device
    score_along(store, model=_model(source, device), ranks=ranks)
    trained = _done(store, prepared.work, shared_steps=prepared.plan.shared_steps)
    annealed = Source(key=trained.key, folder=trained.folder, config=source.config)
    score_along(store, model=_model(annealed, device), ranks=ranks)


def _story(config: RunConfig, journal: Journal, lease: Lease, *, store: Store, ranks: Ranks) -> RunResult:
    started, folder = time.perf_counter(), journal.path.parent
    prepared = prepare(store, config, ranks)
    source, plan, scoring, device = prepared.source, prepared.plan, prepared.scoring, prepared.device
    if prepared.data:
        (folder / "data.json").write_text(json.dumps(prepared.data, indent=1) + "\n")
        journal.write("artifact", name="data.json", path="data.json")
    journal.write("inputs", **inputs(store, config, prepared))

    log.info("%s: %d updates, scored before and after", run_name(config), config.anneal.steps)
    spent = Spent()
    score = functools.partial(record_files, store, scoring, spent=spent, ranks=ranks)
    before_files = score(weights=source.key, model=_model(source, device), when="before")
    before = scores(before_files, config.tasks)
    journal.write("scores", when="before", scores=[to_json(s) for s in before])

    written = 0

    def write(step: StepRecord) -> None:
        nonlocal written
        if step.update > written:
            lease.check()
            journal.write("step", **to_json(step))
            written = step.update

    trained = _done(store, prepared.work, write, shared_steps=plan.shared_steps)
    annealed = Source(key=trained.key, folder=trained.folder, config=source.config)
    after_files = score(weights=trained.key, model=_model(annealed, device), when="after")
    lease.check()
    after = scores(after_files, config.tasks)
    delta = deltas(before_files, after_files, config.tasks) if trained.key != source.key else ()
    journal.write("scores", when="after", scores=[to_json(s) for s in after])
    journal.write("scores", when="delta", scores=[to_json(s) for s in delta])
    for when, files in {"before": before_files, "after": after_files}.items():
        for name, file in files.items():
            journal.write("artifact", name=f"records/{when}/{name}.parquet", path=_seen_from(folder, file))
    return RunResult(
        key=run_key(config),
        name=run_name(config),
        params=params(config),
        position=plan.position,
        before=before,
        after=after,
        delta=delta,
        final_state=trained.key,
        final_loss=trained.steps[-1].loss if trained.steps else None,
        cost=_cost(source, plan, trained, spent, time.perf_counter() - started),
        versions=versions(),
    )


def _seen_from(folder: Path, file: Path) -> str:
    """The file's path from a run's folder where both are in the same multirun, which may be moved; else the whole."""
    return os.path.relpath(file, folder) if file.is_relative_to(folder.parents[1]) else str(file)


def _done(
    store: Store,
    work: Training | Source,
    on_step: Callable[[StepRecord], None] = lambda record: None,
    *,
    shared_steps: int,
) -> Trained:
    """Follow the learning rates; the hold first, as a training of its own, so that runs which share it make it once.

    Where nothing is trained the state is there already.
    """
    if isinstance(work, Source):
        return Trained(work.key, work.folder, (), 0)
    if shared_steps:
        name, rates = f"{work.name}: hold", work.rates[:shared_steps]
        held = train(store, dataclasses.replace(work, name=name, rates=rates), on_step=on_step)
        whole = train(store, work, on_step=on_step)
        return dataclasses.replace(whole, updates_done=held.updates_done + whole.updates_done)
    return train(store, work, on_step=on_step)


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
            sequence_length=plan.sequence_length,
            tokens=plan.tokens,
        ),
        anneal_s=sum(step.seconds for step in trained.steps),
        updates_done=trained.updates_done,
        scoring_s=spent.scoring_s,
        preparing_s=spent.preparing_s,
        seconds=seconds,
    )
