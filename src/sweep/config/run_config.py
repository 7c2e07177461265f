"""The whole configuration of one run, validated once; every refusal names the key, the value and what is allowed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from sweep.config.anneal import CONTROLS, Anneal
from sweep.config.data import Data
from sweep.config.machine import Compute
from sweep.config.merge import merged_steps
from sweep.config.model import Checkpoint, Model, check_on_trajectory, named_step, trajectory_steps
from sweep.config.published import check_listed, check_optimizer
from sweep.config.tasks import Tasks
from sweep.config.tracking import Tracking
from sweep.config.types import CHOICES, Name, Seed, each_once
from sweep.domain.errors import Refusal, explain, one_of, shown, unknown
from sweep.domain.redaction import secret_refused

RESERVED = ("store", "mlartifacts", "mlflow.db", "mlflow-server", "mlflow-ui.log")
"""Folders under multirun/ that are not sweeps."""


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class RunConfig:
    """The choices of one run of a sweep."""

    name: Name
    """The sweep this run belongs to: its folder under multirun/ and its parent run in MLflow."""
    seed: Seed
    """0: the original data order; other seeds put the instances not yet seen in another order, to measure noise."""
    model: Model
    checkpoint: Checkpoint
    data: Data
    anneal: Anneal
    tasks: Tasks
    tracking: Tracking
    compute: Compute
    controls: tuple[str, ...] = ()
    """Those of CONTROLS that a sweep (-m) runs beside each of its points."""
    files: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Files on this machine that the choices name -> (size in bytes, time of change in ns): new content makes another
    run."""

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.=+-]*", name) or name in RESERVED:
            raise ValueError(f"is a folder under multirun/: one word of letters, digits and _.=+-, not {RESERVED}")
        return name

    @field_validator("controls", mode="before")
    @classmethod
    def _known_controls(cls, chosen: Any) -> Any:
        if chosen == "all":
            return CONTROLS
        if not isinstance(chosen, list | tuple):
            raise ValueError(f"must be all, or a list of {', '.join(CONTROLS)}; [] adds none")
        return each_once(tuple(one_of(str(arm), CONTROLS) for arm in chosen))

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        _check_checkpoint(self.model, self.checkpoint)
        if self.model.source == "embedded":
            check_on_trajectory(self.model, self.checkpoint.step)
        if (published := self.model.published) is not None:
            step, source = self.checkpoint.step, self.checkpoint.source
            check_listed(self.model.name, published, step, source)
            if self.anneal.needs_optimizer:
                check_optimizer(self.model.name, published, step or 0, source)
        if self.model.source == "hub":
            _check_hub(self)
        if self.anneal.merge is not None:
            _check_merge(self)
        return self


def _check_checkpoint(model: Model, checkpoint: Checkpoint) -> None:
    """ValueError if a choice of the checkpoint goes with models of another source."""
    if model.source == "local" and checkpoint.path is None:
        raise ValueError("model=local needs checkpoint.path, the folder of a checkpoint")
    if (model.source == "hub") != (checkpoint.repo is not None):
        raise ValueError(
            f"checkpoint.repo={checkpoint.repo} and model={model.name} don't go together: model=hub needs a repository "
            "on the Hugging Face Hub, e.g. checkpoint.repo=EleutherAI/pythia-160m, and other models know theirs"
        )
    if model.source != "hub" and checkpoint.revision is not None:
        raise ValueError(f"checkpoint.revision={checkpoint.revision} goes with model=hub, not with model={model.name}")
    if model.source != "local" and checkpoint.path is not None:
        raise ValueError(f"checkpoint.path={checkpoint.path} goes with model=local, not with model={model.name}")
    if model.published is None and checkpoint.source != "auto":
        raise ValueError(
            f"checkpoint.source={checkpoint.source} goes with published models, not with "
            f"model={model.name}: only auto is allowed"
        )


def _check_hub(config: RunConfig) -> None:
    """ValueError if the Hub doesn't have what the run needs of a checkpoint: it has weights alone."""
    revision = config.checkpoint.revision
    if not (config.checkpoint.step or named_step(revision or "")):
        raise ValueError(
            f"checkpoint.step=None: checkpoint.revision={revision} names no step from 1, as step1000 does: give the "
            "step of the checkpoint"
        )
    if config.model.batch_size is None:
        raise ValueError("model.batch_size=None: the Hub doesn't tell how many instances an update had: give it")
    if config.anneal.needs_optimizer:
        raise ValueError(
            f"anneal.optimizer=keep: {config.checkpoint.repo} has weights without optimizer state: start a new one "
            "with anneal.optimizer=fresh, anneal.warmup_steps and anneal.peak_lr"
        )
    if config.anneal.merge is not None:
        raise ValueError("anneal.merge goes not with model=hub: download the revisions, and take model=local")
    if config.anneal.steps and config.data.takes_own:
        raise ValueError(
            f"data.paths=null takes the files that a checkpoint names, and revisions of {config.checkpoint.repo} name "
            "none: give data=local data.paths=[FILES]"
        )


def _check_merge(config: RunConfig) -> None:
    """ValueError if the model lacks a checkpoint that is to be averaged."""
    merge, model = config.anneal.merge, config.model
    assert merge is not None
    if (model.source == "local") != (merge.paths is not None):
        raise ValueError(
            f"anneal.merge.paths={merge.paths} and model={model.name} don't go together: a local checkpoint "
            "needs the folders of the earlier ones, other models know theirs"
        )
    if model.source != "local":
        assert config.checkpoint.step is not None
        merged_steps(merge, model.name, config.checkpoint.step, trajectory_steps(model, merge.interval))


def load(plain: Mapping[str, Any]) -> RunConfig:
    """The typed configuration of a plain tree; Refusal listing everything that is wrong with it, or naming a secret."""
    if words := secret_refused(plain):
        raise Refusal(words)
    try:
        return TypeAdapter(RunConfig).validate_python(plain)
    except ValidationError as error:
        raise Refusal("\n".join(_message(problem) for problem in error.errors())) from None


def _message(problem: Mapping[str, Any]) -> str:
    """One of pydantic's problems in our words; of an unknown key, with the keys that its group has."""
    if problem["type"] != "unexpected_keyword_argument":
        return explain(problem)
    *above, key = map(str, problem["loc"])
    group: Any = RunConfig
    for name in above:  # the names in a dict, such as those of sources, lead to the type of its values
        group = _group_in(get_type_hints(group).get(name, group))
    allowed = [field.name for field in dataclasses.fields(group) if field.name != "files"]
    return f"{'.'.join([*above, key])}={shown(problem['input'])}: {unknown(key, allowed)}"


def _group_in(hint: Any) -> Any:
    """The dataclass in a type: itself, or within a union or a dict."""
    if dataclasses.is_dataclass(hint):
        return hint
    return next((found for inner in get_args(hint) if (found := _group_in(inner)) is not None), None)
