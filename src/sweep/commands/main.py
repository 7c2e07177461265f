"""Hydra's command: `python -m sweep OVERRIDES` is one run, and with -m a sweep.

The heavy packages are imported only once a run has work to do.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sweep.domain.errors import Refusal
from sweep.domain.redaction import redact
from sweep.planning.commands import command
from sweep.planning.controls import Point
from sweep.planning.names import run_identity
from sweep.run.memory import Memory
from sweep.sweeps.closing import close
from sweep.sweeps.hydra_private import extend_completion, guard_composing
from sweep.sweeps.hydra_settings import check_hydra
from sweep.sweeps.one_run import do
from sweep.sweeps.opening import announce
from sweep.sweeps.override_errors import chain, in_words, reading
from sweep.sweeps.points import typed
from sweep.sweeps.repeating import options_of, repeating
from sweep.sweeps.run_folders import expected_folder, is_finished, objective
from sweep.sweeps.step_completion import offers
from sweep.system import disk, ranks
from sweep.system.terminal import mask_secrets

log = logging.getLogger(__name__)

CONF = next(p for p in (Path(__file__).parents[3] / "conf", Path(__file__).parents[1] / "conf") if p.is_dir())
"""The source tree's, or the one packed into a wheel."""


def main() -> None:
    """Run Hydra; a refusal is printed without a traceback, and the exit code is 1."""
    extend_completion(offers)
    guard_composing(reading, check_hydra)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra prints tracebacks itself otherwise, also for refusals
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        sys.exit(redact(message))
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where this one stopped")


def task(tree: DictConfig) -> float | None:
    """One run, skipped if its journal says that it is done; its objective, for sweepers that seek."""
    mask_secrets()  # a job of a cluster begins here
    config = typed(tree)
    identity = run_identity(config)
    if config.controls:
        raise Refusal(
            f"controls={list(config.controls)} adds runs to a sweep, and this is one run: give -m, as in "
            f"python -m sweep -m controls=all anneal.steps={config.anneal.steps}; one arm alone is anneal=constant"
        )
    folder = Path(HydraConfig.get().runtime.output_dir).absolute()
    expected = expected_folder(identity)
    if folder != expected.absolute():
        raise Refusal(
            f"hydra's output folder is {folder}, and a run's belongs at {expected}: "
            "choose its place with name=… and the working folder"
        )
    alone = HydraConfig.get().mode == RunMode.RUN and ranks.rank() == 0
    if alone and not is_finished(identity.key, folder):
        announce({folder: config})
    try:
        do(
            config,
            folder=folder,
            command=again(tree),
            memory=Memory(),
        )
    finally:
        if alone:
            close([Point((), config, identity.key)])
    return objective(folder) if ranks.rank() == 0 else None


def again(tree: DictConfig) -> str:
    """The command that repeats this one run, of a sweep or an experiment too."""
    return command(repeating(tree, options_of(HydraConfig.get()), CONF))


def explain(error: BaseException) -> str | None:
    """The message for the person where the configuration was at fault; None for our own failures."""
    links = chain(error)
    ours = any(isinstance(link, Refusal) for link in links)
    if (
        ours
        or isinstance(error, OmegaConfBaseException)
        or all(isinstance(link, HydraException | OmegaConfBaseException) for link in links)
        or _of_hydra(error)
    ):
        return f"refused: {in_words(error)}"
    return disk.explained(error) if isinstance(error, OSError) else None


def _of_hydra(error: BaseException) -> bool:
    """Whether Hydra itself raised it: of flags that contradict each other, and of plugins that can't be made."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__", "")).startswith("hydra.")
