"""The points that a sweep's overrides make, in Hydra's own grammar, and their configurations."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType, RangeSweep
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sweep.config import Anneal, Checkpoint, Data, RunConfig, Tasks, load
from sweep.config.launcher import MAX_RUNS
from sweep.domain.errors import Refusal, shown
from sweep.planning.auto_compute import settled, without_autos
from sweep.planning.commands import command, key_of
from sweep.planning.designs import Axis, ranged
from sweep.planning.designs import points as points_of
from sweep.planning.names import run_folder
from sweep.planning.pretraining_schedule import check_lr_is_known
from sweep.sweeps.file_checks import check_files, patterns
from sweep.sweeps.gpus import gpus_for, trained_in
from sweep.sweeps.hydra_private import apply_overrides, group_exists, with_number
from sweep.sweeps.hydra_settings import check_key
from sweep.sweeps.override_errors import composing, parsed
from sweep.sweeps.repeating import options_of, plain, repeating
from sweep.system import files
from sweep.system.checkpoint_layouts import step_files
from sweep.system.task_files import task_files


def designed(overrides: Sequence[Override], *, design: str, runs: int | None, seed: int) -> list[list[str]]:
    """The words of every point; a later override of a key stands for an earlier one. Refusal as `designs.points`."""
    axes = {override.get_key_element(): _axis(override) for override in overrides}
    return [
        [f"{key}={value}" for key, value in zip(axes, point, strict=True)]
        for point in points_of(axes, design=design, runs=runs, seed=seed)
    ]


def _axis(override: Override) -> Axis:
    check_key(str(override.input_line))
    if not override.is_sweep_override():
        return (str(override.get_value_element_as_str()),)
    if not override.is_interval_sweep():
        return _listed(override)
    interval, key = cast(IntervalSweep, override.value()), override.get_key_element()
    low, high = cast(float, interval.start), cast(float, interval.end)
    whole = isinstance(interval.start, int) or takes_whole(key.lstrip("+"))
    return ranged(key, float(low), float(high), sorted(interval.tags), whole=whole)


def _listed(override: Override) -> tuple[str, ...]:
    """The values of a list or a range; Refusal if there are none, or too many."""
    word, value = shown(override.input_line), override.value()
    if isinstance(value, RangeSweep):
        low, high, step = (float(cast(float, number)) for number in (value.start, value.stop, value.step))
        if step == 0 or not math.isfinite(low + high + step):
            raise Refusal(f"{word}: a range needs finite numbers, and a step that is not 0")
        if (high - low) / step > MAX_RUNS:
            raise Refusal(f"{word}: has more than {MAX_RUNS} values, which is the most that a sweep takes")
    values = tuple(override.sweep_string_iterator())
    if not values:
        raise Refusal(f"{word}: has no value; a range begins below its end, or has a step below 0")
    return values


def takes_whole(key: str) -> bool:
    """Whether the choice of this dotted name is a whole number."""
    hint: Any = RunConfig
    for name in key.split("."):
        kinds = [kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)]
        hint = get_type_hints(kinds[0]).get(name) if kinds else None
    return int in (hint, *get_args(hint))


def typed(tree: DictConfig, jobs: Mapping[str, Any] | None = None) -> RunConfig:
    """The validated configuration of a composed tree; Refusal if it can't be run.

    `jobs` are the settings of the cluster's jobs, None for a run on this machine.
    """
    chosen, autos = without_autos(plain(tree))
    if "files" in chosen:
        raise Refusal("files: the files that the choices name are found, and not chosen")
    return checked(load(chosen), autos, jobs)


def checked(config: RunConfig, autos: frozenset[str], jobs: Mapping[str, Any] | None) -> RunConfig:
    """The configuration with the versions of the files that it names, and with `autos` of its compute settled.

    Refusal where this machine can't run it.
    """
    read = (config.checkpoint, config.data, config.anneal, config.tasks)
    check_files(*read)
    check_lr_is_known(config.model, config.checkpoint, config.anneal)
    if config.tracking.name == "server" and not (config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")):
        raise Refusal(
            "tracking=server needs an address: export MLFLOW_TRACKING_URI=http://… (sweep server starts a "
            "server and prints this line), or choose tracking=sqlite, a file beside the runs, or tracking=none"
        )
    versions = named_files(*read)
    config = dataclasses.replace(cast(Any, config), files=versions) if versions else config
    if (
        not autos
        or not config.anneal.steps
        or (gpus := gpus_for(config.compute.device, config.model.resources, jobs)) is None
    ):
        return config
    compute = settled(config, autos, trained_in(config.model, config.checkpoint), gpus)
    return dataclasses.replace(cast(Any, config), compute=compute)


def named_files(checkpoint: Checkpoint, data: Data, anneal: Anneal, tasks: Tasks) -> dict[str, tuple[int, int]]:
    """Size and time of change in ns of the files that these choices name on this machine, by their full path."""
    named = [checkpoint.path, *(path for _, path in patterns(data, anneal)), data.heldout, data.tokenizer]
    paths = [Path(path).absolute() for name in named if name for path in files.expanded(name)]
    found = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]
    found += [file for path in paths for file in step_files(path)]
    found += task_files(tasks.include) if tasks.include else []
    return {str(file): files.version(file) for file in found if file.parent.name != "__pycache__"}


class Composed:
    """What some options of groups compose, and the configurations of points that set leaves of it to plain values."""

    def __init__(self, tree: DictConfig) -> None:
        self.tree = tree
        self._plain: dict[str, Any] | None = None
        """None: a value can't be had yet, as a point has to give it."""
        with contextlib.suppress(OmegaConfBaseException, Refusal):
            self._plain = plain(tree)
            if "files" in self._plain:
                self._plain = None
        raw = OmegaConf.to_yaml(tree)
        self._followed = set(re.findall(r"\w+", " ".join(re.findall(r"\$\{.*", raw))))
        """Words of all interpolations: what one of them may follow is not set as a plain value."""
        self._groups: dict[str, Any] = {}
        """Group -> its choices as this tree has them, validated once."""

    @property
    def is_whole(self) -> bool:
        """Whether every value can be had without what points give."""
        return self._plain is not None

    def is_leaf(self, override: Override) -> bool:
        """Whether the override gives another plain value to a leaf, on which nothing else in the tree depends."""
        value, names = override.value(), override.key_or_group.split(".")
        if self._plain is None or override.type is not OverrideType.CHANGE or override.package is not None:
            return False
        if self._followed.intersection(names) or not _is_plain(value):
            return False
        at: Any = self._plain
        for name in names:
            if not isinstance(at, dict) or name not in at:
                return False
            at = at[name]
        return not isinstance(at, dict)

    def with_leaves(self, overrides: Sequence[Override]) -> tuple[RunConfig, frozenset[str]]:
        """The configuration with these leaves, and which of compute are `auto`; Refusal where it is not allowed."""
        assert self._plain is not None
        changed = dict(self._plain)
        for override in overrides:
            *above, leaf = override.key_or_group.split(".")
            at = changed
            for name in above:
                at[name] = at = dict(at[name])
            at[leaf] = override.value()
        changed, autos = without_autos(changed)
        untouched = self._plain.keys() - {override.key_or_group.partition(".")[0] for override in overrides}
        known = {group: self._groups[group] for group in untouched & self._groups.keys()}
        config = load({**changed, **known})
        self._groups |= {group: getattr(config, group) for group in untouched - known.keys()}
        return config, autos


def _is_plain(value: Any) -> bool:
    """Whether a value stands for itself: it is no group, no interpolation, and not missing."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, dict) and not (isinstance(value, str) and ("${" in value or value == "???"))


class Composer:
    """Configurations by the words of a point, as Hydra composes them.

    What the same options of groups compose is composed once, and a group in which two points don't differ is one
    object in both: Hydra reads every file anew for each point, which of 1,000 points takes minutes.
    """

    def __init__(self, loader: Any, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        launcher = master.hydra.launcher
        self._jobs: Mapping[str, Any] | None = launcher if "array_parallelism" in launcher else None
        """The settings of the cluster's jobs; None: runs are on this machine."""
        self._parser = OverridesParser.create(config_loader=loader)
        self._composed: dict[tuple[str, ...], Composed] = {}
        self._parsed: dict[str, tuple[Override, bool]] = {}
        self._leaves: dict[str, Override] = {}
        """An override of each key that is no group."""
        self._repeating: dict[tuple[str, ...], list[str]] = {}

    def __call__(self, words: Sequence[str]) -> RunConfig:
        """The validated configuration; Refusal, or what Hydra raises, if it can't be run."""
        with composing(words):
            chosen = tuple(word for word in words if self._is_option(word))
            composed, values = self._of(chosen), [self._override(word) for word in words if word not in chosen]
            tree: DictConfig | None = None
            if not (composed.is_whole and all(map(composed.is_leaf, values))):
                tree = copy.deepcopy(composed.tree)
                apply_overrides(values, tree)
        if tree is not None:
            return typed(tree, self._jobs)
        config, autos = composed.with_leaves(values)
        return checked(config, autos, self._jobs)

    def command(self, words: Sequence[str], conf: Path) -> str:
        """The command that repeats the run of these words; `conf` has the options that come with the package."""
        chosen = tuple(word for word in words if self._is_option(word))
        composed, values = self._of(chosen), [self._override(word) for word in words if word not in chosen]
        options = options_of(self._master.hydra) | {key_of(word): word.partition("=")[2] for word in chosen}
        if composed.is_whole and all(map(composed.is_leaf, values)):
            if chosen not in self._repeating:
                self._repeating[chosen] = repeating(composed.tree, options, conf)
            return command([*self._repeating[chosen], *(word for word in words if word not in chosen)])
        tree = copy.deepcopy(composed.tree)
        apply_overrides(values, tree)
        return command(repeating(tree, options, conf))

    def _of(self, chosen: tuple[str, ...]) -> Composed:
        if chosen not in self._composed:
            tree = self._loader.load_sweep_config(self._master, list(chosen))
            with open_dict(tree):
                del tree["hydra"]
            self._composed[chosen] = Composed(tree)
        return self._composed[chosen]

    def _override(self, word: str) -> Override:
        return self._parse(word)[0]

    def _is_option(self, word: str) -> bool:
        """Whether the word chooses a group's option, by Hydra's rule, or takes one away."""
        return self._parse(word)[1]

    def _parse(self, word: str) -> tuple[Override, bool]:
        if word in self._parsed:
            return self._parsed[word]
        key = word.partition("=")[0]
        if key in self._leaves and (alike := with_number(self._leaves[key], word)) is not None:
            self._parsed[word] = alike, False
        else:
            (override,) = parsed(self._loader, [word], self._parser)
            is_group = group_exists(self._loader, override.key_or_group)
            self._parsed[word] = override, is_group and not isinstance(override.value(), dict)
            if not is_group:
                self._leaves[key] = override
        return self._parsed[word]


def _point(*, _root_: Any) -> str:
    return run_folder(typed(_root_))


OmegaConf.register_new_resolver("point", _point, replace=True)
