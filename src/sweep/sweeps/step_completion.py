"""`checkpoint.step=<TAB>` in a shell lists the checkpoints of the chosen model; Hydra offers only the current value."""

from __future__ import annotations

from typing import Any

from hydra.types import RunMode
from omegaconf import OmegaConf

KEY = "checkpoint.step="


def offers(config_loader: Any, config_name: str | None, line: str) -> list[str] | None:
    """The completions of the line's last word; None if that is not a checkpoint's step."""
    *words, word = line.split(" ")
    if not word.startswith(KEY):
        return None
    from sweep.config.published import listed_steps

    overrides = [w for w in words if "=" in w and not w.startswith("-")]
    tree = config_loader.load_configuration(config_name, overrides=overrides, run_mode=RunMode.RUN)
    steps: list[int] = []
    if (published := OmegaConf.select(tree, "model.published")) is not None:
        steps = listed_steps(published)
    elif (pretraining := OmegaConf.select(tree, "model.pretraining")) is not None:
        steps = [*range(pretraining.checkpoint_interval, pretraining.steps + 1, pretraining.checkpoint_interval)]
    chosen, comma, prefix = word.removeprefix(KEY).rpartition(",")
    return [f"{KEY}{chosen}{comma}{step}" for step in steps if str(step).startswith(prefix)]
