"""`checkpoint.step=<TAB>` lists the chosen model's checkpoints; Hydra's own completion knows the current value alone.

Hydra takes one completion plugin a shell and brings its own for all, so its query is extended in place.
"""

from __future__ import annotations

from typing import Any

from hydra.plugins.completion_plugin import CompletionPlugin
from hydra.types import RunMode
from omegaconf import OmegaConf

KEY = "checkpoint.step="
_hydras_own = CompletionPlugin._query


def _query(self: Any, config_name: str | None, line: str) -> list[str]:
    *words, word = line.split(" ")
    if not word.startswith(KEY):
        return _hydras_own(self, config_name, line)
    from sweep.config.published import listed_steps

    overrides = [w for w in words if "=" in w and not w.startswith("-")]
    tree = self.config_loader.load_configuration(config_name, overrides=overrides, run_mode=RunMode.RUN)
    steps: list[int] = []
    if (published := OmegaConf.select(tree, "model.published")) is not None:
        steps = listed_steps(published)
    elif (pretraining := OmegaConf.select(tree, "model.pretraining")) is not None:
        steps = [*range(pretraining.checkpoint_interval, pretraining.steps + 1, pretraining.checkpoint_interval)]
    chosen, comma, begun = word.removeprefix(KEY).rpartition(",")
    return [f"{KEY}{chosen}{comma}{step}" for step in steps if str(step).startswith(begun)]


CompletionPlugin._query = _query
