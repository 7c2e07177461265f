"""`sweep preview OVERRIDES`: what each point of a sweep will do and cost, before anything is loaded."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Collection, Iterator, Sequence

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from rich.console import Console
from rich.table import Table

from sweep.commands.main import CONF, explain
from sweep.config import RunConfig
from sweep.config.published import from_hub
from sweep.domain.errors import Refusal
from sweep.planning.controls import expanded
from sweep.planning.gpu_memory import FP32
from sweep.planning.names import run_folder, run_names
from sweep.planning.plan import planned_peak
from sweep.planning.run_cost import RANKS, Forecast, forecast
from sweep.planning.sweep_cost import Bill, bill
from sweep.sweeps.points import Composer, designed
from sweep.sweeps.run_folders import expected_folder, is_done

HELP = """\
OVERRIDES are those of python -m sweep; several values make several points, as with -m there:

  sweep preview anneal.steps=250,1000 anneal.shape=linear,sqrt
  sweep preview experiment=steps
  sweep preview hydra.sweeper.design=sobol hydra.sweeper.runs=16 'anneal.peak_lr=interval(1e-5,1e-3)'
  sweep preview model=olmo-7b anneal=olmo1
  sweep preview model=olmo-7b anneal=olmo1 --lrs > rates.txt

Neither the checkpoint nor torch is loaded. The learning rate in force is that of the published or embedded schedule;
where none is known (model=local, most steps of olmo-7b, datadecide) give anneal.peak_lr.
"""
UNKNOWN = "–"
CAPTION = "last LR: of the last update; of seen: of the tokens the checkpoint has seen; FLOPs: of the anneal alone"
CHECKPOINT_BYTES = 3 * FP32
"""Of a parameter in an unsharded checkpoint: weight and Adam's two moments."""


def main() -> None:
    """Print the table, or the learning rates alone; a refusal is printed without a traceback and exits with 1."""
    parser = argparse.ArgumentParser(
        prog="sweep preview",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDES", help="key=value, key=a,b,c, group=option")
    parser.add_argument("--lrs", action="store_true", help="one run's learning rates, one a line, and nothing else")
    parser.add_argument("-m", "--multirun", action="store_true", help="taken and not needed")
    chosen = parser.parse_intermixed_args()
    try:
        configs = points(chosen.overrides)
        sys.stdout.write(lrs(configs) if chosen.lrs else told(configs))
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        sys.exit(message)


def points(overrides: Sequence[str]) -> list[RunConfig]:
    """What `python -m sweep -m OVERRIDES` runs, controls included; a Refusal where one of them can't be run."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", list(overrides), run_mode=RunMode.MULTIRUN)
        sweeper = master.hydra.sweeper
        swept = [f"{key}={values}" for key, values in (sweeper.params or {}).items()]
        parsed = OverridesParser.create(config_loader=loader).parse_overrides([*swept, *master.hydra.overrides.task])
        if "design" not in sweeper:
            told = "it decides as it goes, or has no designs; allowed: hydra/sweeper=planned"
            raise Refusal(f"hydra/sweeper={master.hydra.runtime.choices['hydra/sweeper']}: {told}")
        design = {key: sweeper[key] for key in ("design", "runs", "seed")}
        words = [tuple(point) for point in designed(parsed, **design)]
        found = expanded(words, Composer(loader, master), known=set())
        return list({run_folder(config): config for _, config in found}.values())


def lrs(configs: Sequence[RunConfig]) -> str:
    """One run's learning rates, one a line, so that float(line) gives back every bit; Refusal of several runs."""
    if len(configs) != 1:
        raise Refusal(f"--lrs prints one run's learning rates, and these overrides are {len(configs)} runs")
    return "".join(f"{float(rate)!r}\n" for rate in forecast(configs[0]).learning_rates)


def told(configs: Sequence[RunConfig]) -> str:
    """What these points will do and cost, the ones done here already marked."""
    done = {place for place, config in enumerate(configs) if is_done(config, expected_folder(config))}
    return draw([forecast(config) for config in configs], done)


def draw(found: Sequence[Forecast], done: Collection[int] = ()) -> str:
    """The points as a table, their models' sizes below, and the sums; `done` are the places of what needs no run."""
    table = Table(title=f"{len(found)} point{'s' if len(found) > 1 else ''}", title_justify="left")
    table.caption, table.caption_justify = CAPTION, "left"
    table.add_column("run")
    for name in ("updates", "LR in force", "peak LR", "last LR", "tokens", "of seen", "FLOPs"):
        table.add_column(name, justify="right")
    table.add_column("")
    for place, (name, point) in enumerate(zip(run_names([point.config for point in found]), found, strict=True)):
        table.add_row(name, *_figures(point), "done" if place in done else "")
    text = io.StringIO()
    Console(file=text, width=220).print(table)
    return text.getvalue() + "".join(_needs(found)) + "".join(_sums(bill(found, done)))


def _sums(all_: Bill) -> Iterator[str]:
    """What the points not done take together, and what they share."""
    points = f"{all_.points:,} point{'s' if all_.points > 1 else ''}"
    yield f"\n{points}, {all_.done:,} done, {all_.points - all_.done:,} to run\n"
    yield f"updates   {all_.updates - all_.shared_updates:,}"
    yield f", and {all_.shared_updates:,} that start of another point's state\n" if all_.shared_updates else "\n"
    yield f"scorings  {all_.before:,} before (one a checkpoint and task set) and {all_.after:,} after\n"
    yield f"tokens    {UNKNOWN if all_.tokens is None else f'{all_.tokens:.3g}'}\n"
    share = UNKNOWN if all_.share is None else f"{all_.share:.2%}"
    yield f"FLOPs     {UNKNOWN if all_.flops is None else f'{all_.flops:.2g}'}, {share} of the pretraining so far\n"
    hours = {"core": all_.core_hours, "GPU": all_.gpu_hours}
    each = [f"{UNKNOWN if h is None else f'{h:,.2g}' if h < 10 else f'{h:,.0f}'} {on}-hours" for on, h in hours.items()
            if h is None or h > 0]  # fmt: skip
    yield f"time      {', '.join(each) or '0 hours'} by model.resources, tasks whole\n"


def _figures(point: Forecast) -> Iterator[str]:
    rates, tokens, seen = point.learning_rates, point.tokens, point.tokens_seen
    yield f"{len(rates):,}"
    yield UNKNOWN if point.lr is None else f"{point.lr:.4g}"
    ends = (planned_peak(point.config.anneal, point.lr or 0.0), rates[-1]) if len(rates) else ()
    yield from (f"{rate:.4g}" for rate in ends) if ends else (UNKNOWN, UNKNOWN)
    yield UNKNOWN if tokens is None else f"{tokens:.3g}"
    yield UNKNOWN if not tokens or not seen else f"{tokens / seen:.2%}"
    yield UNKNOWN if point.flops is None else f"{point.flops:.2g}"


def _needs(found: Sequence[Forecast]) -> Iterator[str]:
    """Of each model what is fetched or made for it, and of a published one what it needs to be trained."""
    yield from dict.fromkeys(f"{point.config.model.name}: {_origin(point.config)}\n" for point in found)
    trained = [point for point in found if point.memory and point.config.model.published and point.tokens]
    yield from dict.fromkeys(f"{_place(point.config)}: {_gigabytes(point.memory or ())}\n" for point in trained)


def _place(config: RunConfig) -> str:
    compute, size = config.compute, config.anneal.batch_size or config.model.batch_size
    passes = f"micro_batch_size={compute.micro_batch_size or 'null'}, batch of {size}"
    checkpointing = ", activation_checkpointing" if compute.activation_checkpointing else ""
    return f"{config.model.name} in {compute.precision}, {passes}{checkpointing}"


def _gigabytes(memory: Sequence[int | None]) -> str:
    """Memory on each rank, in words."""
    each = (f"{size / 1e9:,.0f}" if size else UNKNOWN for size in memory)
    on = (f"{number} ({ranks} rank{'s' if ranks > 1 else ''})" for number, ranks in zip(each, RANKS, strict=True))
    return f"GB a rank {', '.join(on)}"


def _origin(config: RunConfig) -> str:
    model = config.model
    size = "" if model.parameters is None else f"{model.parameters:,} parameters, "
    if model.source == "embedded":
        return f"{size}pretrained here on first use"
    if model.published is None:
        return f"{size}on disk"
    if from_hub(model.published, config.checkpoint.source):
        kept = model.published.hub_optimizer is not None and config.anneal.needs_optimizer
        return f"{size}weights {'and optimizer state' if kept else 'alone'}, from the Hub"
    assert model.parameters
    return f"{size}{CHECKPOINT_BYTES * model.parameters / 1e9:.1f} GB to download a checkpoint{_earlier(config)}"


def _earlier(config: RunConfig) -> str:
    """What a merge downloads beside its checkpoint."""
    if (merge := config.anneal.merge) is None:
        return ""
    each = FP32 * (config.model.parameters or 0) / 1e9
    return f", and {each:.1f} GB for the weights of each of the {merge.last - 1} before it"
