"""The overrides that repeat one run, from its configuration as it was composed: whoever has the package can use them.

Options of groups are named only if they come with the package. What an experiment, or an option of the user's own, has
set is written leaf by leaf, so that the run can be repeated when that file is changed or gone.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sweep.planning.commands import changes, key_of
from sweep.sweeps.hydra_private import apply_overrides, loader_of
from sweep.sweeps.override_errors import composing

GROUPS = ("model", "data", "anneal", "tasks", "tracking")
MOST_ROUNDS = 3
"""A leaf that follows another, as checkpoint.step does model.checkpoint_step, is set in a later round where it
doesn't."""


def plain(tree: DictConfig) -> dict[str, Any]:
    """The values of a composed configuration, without Hydra's own; Refusal where one can't be resolved."""
    values: dict[str, Any] = {}
    for key in (str(key) for key in tree if key != "hydra"):
        with composing([key]):
            values[key] = (
                OmegaConf.to_container(tree[key], resolve=True) if OmegaConf.is_config(tree[key]) else tree[key]
            )
    return values


def repeating(tree: DictConfig, options: Mapping[str, str], conf: Path) -> list[str]:
    """The overrides of the plain default in `conf` that compose `tree`; `options` are the chosen ones by group."""
    groups = tuple(word for group in GROUPS if (word := _option(conf, group, options.get(group))))
    return [*groups, *overrides_of(_composed(conf, groups), plain(tree))]


def overrides_of(base: DictConfig, chosen: Mapping[str, Any]) -> list[str]:
    """The overrides that make `chosen` of a composed configuration."""
    words: list[str] = []
    changed = copy.deepcopy(base)
    for _ in range(MOST_ROUNDS):
        new = list(changes(plain(changed), chosen))
        if not new:
            break
        words += new
        apply_overrides(OverridesParser.create().parse_overrides(new), changed)
    return words


def options_of(hydra: DictConfig) -> dict[str, str]:
    """Group -> the chosen option, in the words of an override; Hydra's own list lacks choices of several options."""
    typed = {key_of(word): word.partition("=")[2] for word in hydra.overrides.task}
    return {group: typed[group] for group in GROUPS if group in typed} | dict(hydra.runtime.choices)


def _option(conf: Path, group: str, option: str | None) -> str | None:
    """The override that chooses this option; None where it is the default, or isn't one of the package."""
    names = [name.strip() for name in (option or "").strip("[]").split(",")]
    if not all((conf / group / f"{name}.yaml").is_file() for name in names):
        return None
    return None if option == _default_options(conf)[group] else f"{group}={option}"


@functools.cache
def _default_options(conf: Path) -> Mapping[str, str]:
    return dict(_composed(conf, ()).hydra.runtime.choices)


@functools.cache
def _composed(conf: Path, words: tuple[str, ...]) -> DictConfig:
    return loader_of(conf).load_configuration("config", list(words), run_mode=RunMode.RUN)
