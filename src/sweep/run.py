"""The story of one run: take a checkpoint, score it, anneal it on its own data, score it again, record everything."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
import platform
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from olmo.model import OLMo

from sweep import data
from sweep.checkpoints import TrainingState, data_paths, load_state, matrix_parameters, read_position
from sweep.config import RunConfig, params, tree
from sweep.plan import Plan, make_plan, run_key, run_name, training_flops
from sweep.progress import reporting
from sweep.records import Cost, RunResult, to_json
from sweep.refusal import Refusal
from sweep.scoring import Scoring, Spent, deltas, record_files, scores
from sweep.showing import show_run
from sweep.store import Store, digest, store_at
from sweep.tracking import Journal
from sweep.training import KEPT, Trained, Training, train
from sweep.trajectory import Source, checkpoint, resolve

log = logging.getLogger(__name__)

PACKAGES = ("torch", "ai2-olmo", "lm-eval", "transformers", "numpy", "hydra-core", "mlflow")
ENGINE = 1
"""Of the scoring engine; raised when it gives other numbers."""


def run(config: RunConfig, folder: Path, *, multirun: Path, command: str) -> RunResult:
    """The outcome of one point; everything on the way is in the journal in `folder`, failures too."""
    with reporting(folder), Journal(folder) as journal:
        journal.write("attempt", **_attempt(config, command))
        show_run(config, folder, multirun=multirun)
        try:
            result = _story(config, journal, store=store_at(multirun))
        except BaseException as error:
            status = "failed" if isinstance(error, Exception) else "interrupted"
            journal.write("outcome", status=status, error=f"{type(error).__name__}: {error}", result=None)
            show_run(config, folder, multirun=multirun)
            raise
        journal.write("outcome", status="finished", error=None, result=to_json(result))
    show_run(config, folder, multirun=multirun)
    return result


def _story(config: RunConfig, journal: Journal, *, store: Store) -> RunResult:
    started = time.perf_counter()
    device = _compute(config)
    source = checkpoint(store, config, device=device)
    plan = make_plan(config, read_position(source.folder, source.config))
    scoring = _scoring(store, config, source, device)
    training = _training(store, config, source, plan, device)

    log.info("%s: scoring the checkpoint, annealing %d updates, scoring again", run_name(config), config.anneal.steps)
    spent = Spent()
    before_files = record_files(
        store, scoring, weights=source.key, model=_model(source, device), when="before", spent=spent
    )
    before = scores(before_files, config.tasks)
    journal.write("scores", when="before", scores=[to_json(s) for s in before])

    trained = train(store, training, on_step=lambda step: journal.write("step", **to_json(step)))
    annealed = Source(key=trained.key, folder=trained.folder, config=source.config)
    after_files = record_files(
        store, scoring, weights=trained.key, model=_model(annealed, device), when="after", spent=spent
    )
    after, delta = scores(after_files, config.tasks), deltas(before_files, after_files, config.tasks)
    journal.write("scores", when="after", scores=[to_json(s) for s in after])
    journal.write("scores", when="delta", scores=[to_json(s) for s in delta])
    for when, files in {"before": before_files, "after": after_files}.items():
        for name, file in files.items():
            journal.write("artifact", name=f"records/{when}/{name}.parquet", path=str(file))
    if not config.anneal.keep:
        store.drop(KEPT, trained.key)
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
        versions=_versions(),
    )


def _training(store: Store, config: RunConfig, source: Source, plan: Plan, device: torch.device) -> Training:
    position = plan.position
    paths = config.data.paths or data_paths(source.config)
    if not paths:
        raise Refusal("data.paths=null takes the paths of the checkpoint's config.yaml, which names none")
    dtype = config.data.dtype or source.config.data.memmap_dtype
    try:
        files = [resolve(store, path) for path in paths]
        instances = data.Instances(files, sequence_length=position.sequence_length, dtype=dtype)
    except (OSError, ValueError) as error:
        raise Refusal(f"data.paths={list(paths)}: {error}") from error
    settings = {"weight_decay": plan.weight_decay, "max_grad_norm": plan.max_grad_norm, "seed": config.seed}
    read = [_version_of(path, file) for path, file in zip(paths, files, strict=True)]
    base = digest("anneal", source.key, read, dtype, settings, _numerics(config, device))

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
        position=position,
        data=instances,
        shuffle_seed=config.seed,
        max_grad_norm=plan.max_grad_norm,
        z_loss=source.config.auxiliary_loss_multiplier if source.config.softmax_auxiliary_loss else 0.0,
        save_interval=config.anneal.save_interval,
        keep_interval=None,
        device=device,
    )


def _version_of(path: str, file: Path) -> list[Any]:
    """What names a data file's content: its key in the store; elsewhere its path, size and time of change."""
    if path.startswith("store://"):
        return [path]
    stat = file.stat()
    return [str(file.absolute()), stat.st_size, stat.st_mtime_ns]


def _scoring(store: Store, config: RunConfig, source: Source, device: torch.device) -> Scoring:
    tokenizer = resolve(store, config.data.tokenizer or source.config.tokenizer.identifier)
    if not tokenizer.is_file():
        raise Refusal(f"data.tokenizer={config.data.tokenizer}: {tokenizer} is not a file")
    heldout = Path(config.data.heldout) if config.data.heldout else tokenizer.parent
    return Scoring(
        tasks=config.tasks,
        tokenizer=tokenizer,
        eos_token_id=source.config.model.eos_token_id,
        max_length=source.config.model.max_sequence_length,
        heldout=heldout if (heldout / "heldout.npy").is_file() else None,
        numerics=digest(ENGINE, _numerics(config, device)),
    )


def _model(source: Source, device: torch.device) -> Callable[[], OLMo]:
    """Loads the weights when first asked."""

    @functools.cache
    def model() -> OLMo:
        return load_state(source.folder, source.config, device=device).model.eval()

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


def _numerics(config: RunConfig, device: torch.device) -> str:
    return f"{device.type} fp32 {config.compute.threads} threads"


def _attempt(config: RunConfig, command: str) -> dict[str, Any]:
    return {
        "key": run_key(config),
        "name": run_name(config),
        "sweep": config.name,
        "params": params(config),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "versions": _versions(),
        "git": _git(),
        "config_yaml": yaml.safe_dump(tree(config), sort_keys=False),
        "command": command,
    }


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def _git() -> dict[str, Any] | None:
    """Commit of the working folder and whether it has changes; None outside a repository."""

    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], text=True, stderr=subprocess.DEVNULL).strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return None
