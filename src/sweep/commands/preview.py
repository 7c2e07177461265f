"""`sweep preview OVERRIDES`: show what each run of a sweep will do and cost, before anything is loaded.

OVERRIDES are those of `python -m sweep`; several values make several runs, as with -m there. The current LR, the
learning rate at the checkpoint, is taken from the schedule of the published or embedded model. If none is
known (model=local, most steps of olmo-7b, datadecide), give anneal.peak_lr.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from sweep.commands.command_line import command_parser, refusals
from sweep.commands.main import CONF, explain
from sweep.config import RunConfig
from sweep.config.published import from_hub
from sweep.domain.errors import Refusal
from sweep.planning.controls import Point, expanded
from sweep.planning.gpu_memory import FP32
from sweep.planning.names import run_names
from sweep.planning.plan import planned_peak
from sweep.planning.queue import Turn, turns
from sweep.planning.run_cost import RANKS, Forecast, forecast
from sweep.planning.sweep_cost import Bill, bill
from sweep.planning.sweep_disk import STATE_BYTES, Disk, disk
from sweep.sweeps.done_runs import finished_runs
from sweep.sweeps.hydra_settings import check_hydra, words_of
from sweep.sweeps.override_errors import parsed, reading
from sweep.sweeps.points import Composer, designed
from sweep.sweeps.run_folders import folder_of
from sweep.sweeps.text_table import aligned
from sweep.system.disk import size_text

EXAMPLES = """\
sweep preview anneal.steps=250,1000 anneal.shape=linear,sqrt
sweep preview experiment=steps
sweep preview hydra.sweeper.design=sobol hydra.sweeper.runs=16 'anneal.peak_lr=interval(1e-5,1e-3)'
sweep preview model=olmo-7b anneal=olmo1
sweep preview model=olmo-7b anneal=olmo1 --lrs > rates.txt
"""
UNKNOWN = "–"
COLUMNS = ("steps", "current LR", "peak LR", "last LR", "tokens", "of seen", "FLOPs")
CAPTION = (
    "last LR: of the last step; of seen: share of the tokens that the checkpoint has seen; FLOPs: the anneal's;\n"
    "turn: the order in which workers take the runs; shares: the first run before it with the same anneal or trunk"
)


@refusals(explain)
def main() -> None:
    """Print the table, or the learning rates of one run."""
    parser = command_parser("preview", __doc__, EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDES", help="key=value, key=a,b,c or group=option")
    parser.add_argument("--lrs", action="store_true", help="print one run's learning rates, one a line, nothing else")
    parser.add_argument("-m", "--multirun", action="store_true", help="accepted, and not needed")
    chosen = parser.parse_intermixed_args()
    runs = planned(chosen.overrides)
    sys.stdout.write(lrs([run.config for run in runs]) if chosen.lrs else preview(runs))


def points(overrides: Sequence[str]) -> list[RunConfig]:
    """The configurations of what `python -m sweep -m OVERRIDES` runs, as `planned`."""
    return [run.config for run in planned(overrides)]


def planned(overrides: Sequence[str]) -> list[Point]:
    """What `python -m sweep -m OVERRIDES` runs, controls included; Refusal if one of the runs is not possible."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        with reading(loader, overrides):
            master = loader.load_configuration("config", list(overrides), run_mode=RunMode.MULTIRUN)
        check_hydra(master)
        sweeper = master.hydra.sweeper
        swept = [f"{key}={values}" for key, values in (sweeper.params or {}).items()]
        words = parsed(loader, [*swept, *words_of(master, "task")])
        if "design" not in sweeper:
            raise Refusal(
                f"hydra/sweeper={master.hydra.runtime.choices['hydra/sweeper']}: it chooses runs as it goes, or has no "
                "designs; allowed: hydra/sweeper=planned"
            )
        design = {key: sweeper[key] for key in ("design", "runs", "seed")}
        of_each_point = [tuple(point) for point in designed(words, **design)]
        runs = expanded(of_each_point, Composer(loader, master), known=set())
        return list({(point.config.name, point.key): point for point in runs}.values())


def lrs(configs: Sequence[RunConfig]) -> str:
    """One run's learning rates, one a line; float(line) gives back every bit. Refusal if there are several runs."""
    if len(configs) != 1:
        raise Refusal(f"--lrs prints one run's learning rates, and these overrides are {len(configs)} runs")
    return "".join(f"{float(lr)!r}\n" for lr in forecast(configs[0]).learning_rates)


def preview(runs: Sequence[Point]) -> str:
    """What these runs will do and cost; those that are done in this folder are marked."""
    folders = [folder_of(run.place) for run in runs]
    finished = finished_runs(dict(zip(folders, (run.key for run in runs), strict=True)), renew=False)
    done = {i for i, folder in enumerate(folders) if folder in finished}
    return draw([forecast(run.config) for run in runs], done, [run.key for run in runs])


def draw(forecasts: Sequence[Forecast], done: Collection[int] = (), keys: Sequence[str] | None = None) -> str:
    """The runs as a table, then their models' sizes, then the sums; `done` has the indices of finished runs."""
    names = run_names([run.config for run in forecasts], keys)
    queue = turns([run.config for run in forecasts], done)
    rows = [
        (name, *_figures(run), *(_turn(queue[i]) if i in queue else ("done", "")))
        for i, (name, run) in enumerate(zip(names, forecasts, strict=True))
    ]
    text = "\n".join(
        (_counted(len(forecasts), "run"), *aligned([("run", *COLUMNS, "turn", "shares"), *rows], left=1), CAPTION, "")
    )
    left = [run.config for i, run in enumerate(forecasts) if i not in done]
    return text + "".join([*_model_lines(forecasts), *_sums(bill(forecasts, done)), _disk(disk(left))])


def _turn(turn: Turn) -> tuple[str, str]:
    """When workers take the run, and with which run before it shares its work."""
    return f"{turn.number:,}", "" if turn.shares is None else f"with {turn.shares:,}"


def _figures(run: Forecast) -> Iterator[str]:
    """The run's row, a text for each of COLUMNS."""
    lrs, tokens, seen = run.learning_rates, run.tokens, run.tokens_seen
    yield f"{len(lrs):,}"
    yield _number(run.lr, ".4g")
    yield _number(planned_peak(run.config.anneal, run.lr or 0.0) if len(lrs) else None, ".4g")
    yield _number(lrs[-1] if len(lrs) else None, ".4g")
    yield _number(tokens, ".3g")
    yield _number(tokens / seen if tokens and seen else None, ".2%")
    yield _number(run.flops, ".2g")


def _sums(total: Bill) -> Iterator[str]:
    """What the runs that are not done take together, and what they share."""
    yield f"\n{_counted(total.points, 'run')}, {total.done:,} done, {total.points - total.done:,} to run\n"
    yield f"steps     {total.updates - total.shared_updates:,}"
    yield f", and {total.shared_updates:,} that start from another run's state\n" if total.shared_updates else "\n"
    yield f"scorings  {total.before:,} before (one a checkpoint and task set) and {total.after:,} after\n"
    yield f"tokens    {_number(total.tokens, '.3g')}\n"
    yield f"FLOPs     {_number(total.flops, '.2g')}, {_number(total.share, '.2%')} of the pretraining so far\n"
    hours = {"core": total.core_hours, "GPU": total.gpu_hours}
    each = [f"{_number(h, ',.2g' if h and h < 10 else ',.0f')} {kind}-hours" for kind, h in hours.items() if h != 0]
    yield f"time      {', '.join(each) or '0 hours'} by model.resources, each task scored whole\n"


def _disk(need: Disk) -> str:
    """What the runs that are not done will write into the store."""
    if need == Disk(kept=0, passing=0, checkpoints=0, scores=0):
        return "disk      nothing more\n"
    parts = {
        "kept": need.kept,
        "more for each run under way": need.passing,
        "of checkpoints if the store has none of them": need.checkpoints,
        "of scores": need.scores,
    }
    return f"disk      {', '.join(f'{_gb(size)} {what}' for what, size in parts.items() if size != 0)}\n"


def _gb(size: int | None) -> str:
    return f"{UNKNOWN} GB" if size is None else size_text(size)


def _model_lines(forecasts: Sequence[Forecast]) -> Iterator[str]:
    """A line for each model about what is downloaded or made, and one for each published model about its memory."""
    yield from dict.fromkeys(f"{run.config.model.name}: {_origin(run.config)}\n" for run in forecasts)
    trained = [run for run in forecasts if run.memory and run.config.model.published and run.tokens]
    yield from dict.fromkeys(f"{_training(run.config)}: {_memory(run.memory or ())}\n" for run in trained)


def _training(config: RunConfig) -> str:
    """The choices that decide how much memory a training step takes."""
    compute, size = config.compute, config.anneal.batch_size or config.model.batch_size
    passes = f"micro_batch_size={compute.micro_batch_size or 'null'}, batch of {size}"
    checkpointing = ", activation_checkpointing" if compute.activation_checkpointing else ""
    return f"{config.model.name} in {compute.precision}, {passes}{checkpointing}"


def _memory(of_ranks: Sequence[int | None]) -> str:
    """The memory that each rank needs, by the number of ranks."""
    texts = (f"{_number(size and size / 1e9, ',.0f')} ({_counted(ranks, 'rank')})"
             for size, ranks in zip(of_ranks, RANKS, strict=True))  # fmt: skip
    return f"GB a rank {', '.join(texts)}"


def _origin(config: RunConfig) -> str:
    """The model's size, and where its checkpoint comes from."""
    model, merge = config.model, config.anneal.merge
    size = "" if model.parameters is None else f"{model.parameters:,} parameters, "
    if model.source == "embedded":
        return f"{size}pretrained here on first use"
    if model.published is None:
        return f"{size}weights alone, from the Hub" if model.source == "hub" else f"{size}on disk"
    if from_hub(model.published, config.checkpoint.source):
        kept = model.published.hub_optimizer is not None and config.anneal.needs_optimizer
        return f"{size}weights {'and optimizer state' if kept else 'alone'}, from the Hub"
    assert model.parameters
    text = f"{size}{STATE_BYTES * model.parameters / 1e9:.1f} GB to download a checkpoint"
    if merge is None:
        return text
    return (
        f"{text}, and {FP32 * model.parameters / 1e9:.1f} GB for the weights of each of the {merge.last - 1} before it"
    )


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
