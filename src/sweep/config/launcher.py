"""How the runs of a sweep are started: which points, and on which machine. `hydra.sweeper` and `hydra.launcher`.

The options are explained in conf/hydra. Those of `Jobs` from `partition` on are sbatch's, as Submitit spells them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, Strict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from sweep.config.types import CHOICES, Flag, Message, Name, Number, Seed, Text, Whole, among
from sweep.domain.errors import Refusal, explain, unknown

LISTED, DRAWN = ("product", "zip"), ("random", "sobol", "lhs")
DESIGNS = (*LISTED, *DRAWN, "fractional")
MAX_RUNS = 100_000
"""Points of a sweep; more are a slip."""
MAX_MINUTES = 366 * 24 * 60
Settings = TypeVar("Settings")


def _as_text(value: Any) -> Any:
    """A whole number as text: accounts, partitions, jobs and comments may be numbers."""
    return str(value) if type(value) is int else value


def _option_name(name: str) -> str:
    if not all(c.isascii() and (c.isalnum() or c in "-_") for c in name) or not name[:1].isalpha():
        raise ValueError("must be the name of an option of sbatch, such as reservation")
    return name


Word = Annotated[Text, BeforeValidator(_as_text)]
Lines = tuple[Text, ...]
Processes = Annotated[Whole, Field(ge=1, le=4096)]
Gpus = Annotated[Whole, Field(ge=1, le=1024)]
Seconds = Annotated[Whole, Field(ge=0, le=24 * 3600)]
Memory = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(pattern=r"^[1-9][0-9]{0,8}[KMGTkmgt]?$"),
    Message("must be a number with its unit, such as 4G"),
]
Option = Annotated[
    Annotated[bool, Strict()] | Annotated[int, Strict()] | Number | Text | None,
    Message("must be text, a number, true, false or null"),
]


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Workers:
    """Runs side by side on this machine: `hydra/launcher=local`."""

    workers: Processes | None = None


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Jobs:
    """Runs as jobs of a Slurm cluster: `hydra/launcher=slurm`. None: it follows from the model, or Slurm decides."""

    workers: Annotated[Whole, Field(ge=1, le=MAX_RUNS)] | None = None
    detach: Flag = False
    on_interrupt: Literal["leave", "cancel"] = "leave"
    poll_s: Annotated[Number, Field(gt=0, le=3600)] = 10
    max_num_timeout: Annotated[Whole, Field(ge=0, le=10_000)] = 3
    array_parallelism: Annotated[Whole, Field(ge=1, le=MAX_RUNS)] = 256
    name: Name = "sweep"
    timeout_min: Annotated[Whole, Field(ge=1, le=MAX_MINUTES)] | None = None
    nodes: Processes | None = None
    tasks_per_node: Processes | None = None
    gpus_per_node: Annotated[Whole, Field(ge=0, le=1024)] | None = None
    mem_gb: Annotated[Number, Field(gt=0, le=10**6)] | None = None
    cpus_per_task: Processes | None = None
    signal_delay_s: Seconds = 120
    partition: Word | None = None
    qos: Word | None = None
    account: Word | None = None
    constraint: Word | None = None
    exclude: Word | None = None
    nodelist: Word | None = None
    exclusive: Annotated[
        Flag | Literal["user", "mcs", "topo"] | None, Message("must be true, false, user, mcs, topo or null")
    ] = None
    dependency: Word | None = None
    comment: Word | None = None
    wckey: Word | None = None
    gres: Word | None = None
    cpus_per_gpu: Processes | None = None
    gpus_per_task: Gpus | None = None
    mem_per_gpu: Memory | None = None
    mem_per_cpu: Memory | None = None
    mail_type: Word | None = None
    mail_user: Word | None = None
    setup: Lines | None = None
    teardown: Lines | None = None
    use_srun: Flag = True
    srun_args: Lines | None = None
    stderr_to_stdout: Flag = False
    additional_parameters: dict[Annotated[str, AfterValidator(_option_name)], Option] | None = None


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Points:
    """Which points a sweep has: `hydra/sweeper=planned`."""

    max_batch_size: Annotated[Whole, Field(ge=1, le=MAX_RUNS)] | None = None
    params: dict[Text, Any] | None = None
    design: Annotated[str, Strict(), among(DESIGNS)] = "product"
    runs: Annotated[Whole, Field(ge=1, le=MAX_RUNS)] | None = None
    seed: Seed = 0


OURS: Mapping[str, tuple[str, type[Any]]] = {
    "hydra_plugins.sweep_plugin.WorkersLauncher": ("hydra.launcher", Workers),
    "hydra_plugins.slurm_plugin.SlurmLauncher": ("hydra.launcher", Jobs),
    "hydra_plugins.sweep_plugin.PlannedSweeper": ("hydra.sweeper", Points),
}
"""`_target_` of a plugin of ours -> where its settings are, and what they are."""


def settings(kind: type[Settings], plain: Mapping[str, Any]) -> Settings:
    """The checked settings of a launcher or sweeper; Refusal that names each wrong one by its dotted key."""
    (key,) = {key for key, ours in OURS.values() if ours is kind}
    try:
        return TypeAdapter(kind).validate_python(plain)
    except ValidationError as error:
        raise Refusal("\n".join(_message(key, kind, problem) for problem in error.errors())) from None


def check_settings(launcher: Mapping[str, Any], sweeper: Mapping[str, Any]) -> None:
    """Refusal if a setting of a launcher or sweeper of ours is not allowed; others are left to their authors."""
    for plain in (launcher, sweeper):
        if (target := str(plain.get("_target_"))) in OURS:
            settings(OURS[target][1], {name: value for name, value in plain.items() if name != "_target_"})


def _message(key: str, kind: type[Any], problem: Mapping[str, Any]) -> str:
    if problem["type"] == "unexpected_keyword_argument":
        name = problem["loc"][-1]
        return f"{key}.{name}: {unknown(str(name), [*kind.__dataclass_fields__])}"
    return explain({**problem, "loc": (*key.split("."), *problem["loc"])})
