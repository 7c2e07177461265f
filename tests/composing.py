"""Configurations for tests, composed in this process as a sweep composes its points: what groups give, only once."""

from __future__ import annotations

import functools

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from sweep.commands.main import CONF
from sweep.config import RunConfig
from sweep.sweeps.points import Composer


@functools.cache
def _composer() -> Composer:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return Composer(loader, loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN))


def composed(*overrides: str) -> RunConfig:
    """The configuration of these overrides, with the files on this machine as they are now.

    tests/planning/test_sweep_cost.py holds that this is what Hydra composes from nothing, which takes a tenth of a
    second each time.
    """
    return _composer()(overrides)
