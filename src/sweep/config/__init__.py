"""What a person chose: one frozen tree, validated once at the door; every refusal names key, value and what is allowed.

The fields' dotted names are the YAML keys, the overrides, the MLflow params and the axis labels.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError, field_validator, model_validator

from sweep.config.anneal import CONTROLS, Anneal
from sweep.config.compute import Compute
from sweep.config.data import Data, Source
from sweep.config.frozen import frozen
from sweep.config.merge import Merge, merged_steps
from sweep.config.model import Checkpoint, Model, check_on_trajectory, trajectory_steps
from sweep.config.published import check_listed, check_optimizer
from sweep.config.tasks import CORE8, METRICS, Suite, Task, Tasks
from sweep.domain.errors import Refusal, at_least, explain, one_of, unknown

__all__ = [
    "CONTROLS",
    "CORE8",
    "METRICS",
    "Anneal",
    "Checkpoint",
    "Compute",
    "Data",
    "Merge",
    "Model",
    "RunConfig",
    "Source",
    "Suite",
    "Task",
    "Tasks",
    "Tracking",
    "load",
    "merged_steps",
    "params",
    "trajectory_steps",
    "tree",
]


RESERVED = ("store", "mlartifacts")
SECRET = re.compile(r"://[^/@]*:[^/@]*@|^https?://[^/@]*@|[?&]\w*(?:token|password|passwd|pwd|secret)=", re.IGNORECASE)
"""What may be a password or a token in a URI; before the @ of an HTTP server even a name alone."""


@frozen
class Tracking:
    """Where outcomes are shown."""

    name: str
    uri: str | None
    """MLflow tracking URI; None: MLFLOW_TRACKING_URI, else a local SQLite file beside the runs."""
    experiment: str
    enabled: bool

    @model_validator(mode="after")
    def _no_secret(self) -> Tracking:
        if self.uri is not None and SECRET.search(self.uri):
            raise ValueError(
                "tracking.uri holds a password or token, which Hydra would write into multirun.yaml: give it in the "
                "environment, MLFLOW_TRACKING_URI, or MLFLOW_TRACKING_TOKEN or _USERNAME and _PASSWORD"
            )
        return self


@frozen
class RunConfig:
    """One point of a sweep."""

    name: str
    """The sweep this run belongs to: its folder under multirun/ and its parent run in MLflow."""
    seed: int
    """0: the original data order; others put the instances not yet seen in another order, to measure noise."""
    model: Model
    checkpoint: Checkpoint
    data: Data
    anneal: Anneal
    tasks: Tasks
    tracking: Tracking
    compute: Compute
    controls: tuple[str, ...] = ()
    """Arms of CONTROLS that a sweep (-m) runs beside each of its points."""
    files: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Files on this machine that the choices name -> size and time of change in ns: new content makes another run."""

    @field_validator("name")
    @classmethod
    def _plain_word(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.=+-]*", name) or name in RESERVED:
            raise ValueError(f"is a folder under multirun/: one word of letters, digits and _.=+-, not {RESERVED}")
        return name

    @field_validator("controls", mode="before")
    @classmethod
    def _known_controls(cls, chosen: Any) -> Any:
        if chosen == "all":
            return CONTROLS
        if isinstance(chosen, str):
            raise ValueError(f"must be all, or a list of {', '.join(CONTROLS)}; [] adds none")
        return [one_of(arm, CONTROLS) for arm in chosen or ()]

    @field_validator("seed")
    @classmethod
    def _not_negative(cls, seed: int) -> int:
        return at_least(0, seed)

    @model_validator(mode="after")
    def _checkpoint_fits_model(self) -> RunConfig:
        step, path = self.checkpoint.step, self.checkpoint.path
        if self.model.source == "local" and path is None:
            raise ValueError("model=local needs checkpoint.path, the folder of an OLMo unsharded checkpoint")
        if self.model.source != "local" and path is not None:
            raise ValueError(f"checkpoint.path={path} goes with model=local, not with model={self.model.name}")
        if self.model.published is None and self.checkpoint.source != "auto":
            raise ValueError(
                f"checkpoint.source={self.checkpoint.source} goes with published models, not with "
                f"model={self.model.name}: only auto is allowed"
            )
        if self.model.source == "embedded":
            check_on_trajectory(self.model, step)
        if self.model.published is not None:
            check_listed(self.model.name, self.model.published, step, self.checkpoint.source)
            if self.anneal.needs_optimizer:
                check_optimizer(self.model.name, self.model.published, step or 0, self.checkpoint.source)
        return self

    @model_validator(mode="after")
    def _merged_checkpoints_are_there(self) -> RunConfig:
        if (merge := self.anneal.merge) is None:
            return self
        if (self.model.source == "local") != (merge.paths is not None):
            raise ValueError(
                f"anneal.merge.paths={merge.paths} and model={self.model.name} don't go together: a local checkpoint "
                "needs the folders of the earlier ones, other models know theirs"
            )
        if self.model.source != "local":
            assert self.checkpoint.step is not None
            merged_steps(merge, self.model.name, self.checkpoint.step, trajectory_steps(self.model, merge.interval))
        return self


def load(plain: Mapping[str, Any]) -> RunConfig:
    """The typed configuration of a plain tree; Refusal listing everything that is wrong with it."""
    try:
        return TypeAdapter(RunConfig).validate_python(plain)
    except ValidationError as error:
        raise Refusal("\n".join(_in_words(problem) for problem in error.errors())) from None


def _in_words(problem: Mapping[str, Any]) -> str:
    if problem["type"] != "unexpected_keyword_argument":
        return explain(problem)
    *above, key = problem["loc"]
    group: Any = RunConfig
    for name in above:
        hint = get_type_hints(group)[name]
        group = next((kind for kind in get_args(hint) if dataclasses.is_dataclass(kind)), hint)
    allowed = [field.name for field in dataclasses.fields(group)]
    return f"{'.'.join(problem['loc'])}={problem['input']}: {unknown(key, allowed)}"


def tree(choices: Any) -> dict[str, Any]:
    """The plain tree that `load` made these choices of."""
    return dataclasses.asdict(choices)


def params(config: RunConfig) -> dict[str, Any]:
    """Dotted name -> value of every choice that a table or MLflow shows, `name` leaves under their group's name."""
    shown: dict[str, Any] = {"model": config.model.name, "arm": config.anneal.arm}
    shown |= {"tasks": config.tasks.name, "seed": config.seed}
    shown["model.parameters"] = config.model.parameters
    if config.model.published is not None and config.model.published.recipe is not None:
        shown |= {"model.recipe": config.model.published.recipe, "model.run": config.model.published.run}
    for group in ("checkpoint", "data", "anneal", "tasks", "compute"):
        for field, value in tree(getattr(config, group)).items():
            shown |= _leaves(group if field == "name" else f"{group}.{field}", value)
    for name in ("anneal.merge", "data.sources"):
        if shown.get(name, "") is None:
            del shown[name]
    return shown


def _leaves(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {leaf: v for key, below in value.items() for leaf, v in _leaves(f"{name}.{key}", below).items()}
