"""`python -m sweep.preview OVERRIDES`: what each point of a sweep will do and cost, before anything is loaded."""

from __future__ import annotations

import argparse
import dataclasses
import io
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from rich.console import Console
from rich.table import Table

from sweep.cli import CONF, explain, typed
from sweep.config import RunConfig
from sweep.config.published import weights_alone
from sweep.controls import expanded
from sweep.names import run_folder, run_names
from sweep.plan import Plan, make_plan, planned_peak, planned_rates, training_flops
from sweep.pretrained import expected_position, known_lr
from sweep.refusal import Refusal
from sweep.sizes import Sizes, stated_sizes

HELP = """\
OVERRIDES are those of python -m sweep; several values make several points, as with -m there:

  python -m sweep.preview anneal.steps=250,1000 anneal.shape=linear,sqrt
  python -m sweep.preview experiment=steps
  python -m sweep.preview model=olmo-7b anneal=olmo1
  python -m sweep.preview model=olmo-7b anneal=olmo1 --lrs > rates.txt

Neither the checkpoint nor torch is loaded. The learning rate in force is that of the published or embedded schedule;
where none is known (model=local, most steps of olmo-7b, datadecide) give anneal.peak_lr.
"""
UNKNOWN = "–"
CAPTION = "last LR: of the last update; of seen: of the tokens the checkpoint has seen; FLOPs: of the anneal alone"
OPTIMIZER_BYTES = 12
"""Of a parameter in an unsharded checkpoint: weight and Adam's two moments in fp32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preview:
    """What one point will do; None: only its checkpoint can say."""

    config: RunConfig
    lr: float | None
    """In force at the checkpoint."""
    learning_rates: np.ndarray
    """(steps,) float64, one an update."""
    tokens: int | None
    tokens_seen: int | None
    """By the checkpoint, in its own training."""
    flops: float | None


def main() -> None:
    """Print the table, or the learning rates alone; a refusal is printed without a traceback and exits with 1."""
    parser = argparse.ArgumentParser(
        prog="python -m sweep.preview",
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
        sys.stdout.write(lrs(configs) if chosen.lrs else draw([preview(config) for config in configs]))
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
        swept = [f"{key}={values}" for key, values in (master.hydra.sweeper.params or {}).items()]
        parsed = OverridesParser.create(config_loader=loader).parse_overrides([*swept, *master.hydra.overrides.task])
        words = [tuple(point) for batch in BasicSweeper.split_arguments(parsed, None) for point in batch]
        found = expanded(words, lambda point: typed(loader.load_sweep_config(master, list(point))), known=set())
        return list({run_folder(config): config for _, config in found}.values())


def lrs(configs: Sequence[RunConfig]) -> str:
    """One run's learning rates, one a line, so that float(line) gives back every bit; Refusal of several runs."""
    if len(configs) != 1:
        raise Refusal(f"--lrs prints one run's learning rates, and these overrides are {len(configs)} runs")
    return "".join(f"{float(rate)!r}\n" for rate in preview(configs[0]).learning_rates)


def preview(config: RunConfig) -> Preview:
    """What this point will do; Refusal where it can't, or where only its checkpoint knows the learning rate."""
    model, anneal, step, lr = config.model, config.anneal, config.checkpoint.step, known_lr(config)
    asks = anneal.peak_lr is None or (anneal.warmup_steps > 0 and anneal.optimizer == "keep")
    if (
        lr is None
        and anneal.steps
        and asks
        and not (model.published and weights_alone(model.published, config.checkpoint.source))
    ):
        where = model.name if step is None else f"{model.name} at step {step}"
        raise Refusal(
            f"the learning rate in force of {where} is known from its checkpoint alone, which a preview doesn't read: "
            "give anneal.peak_lr, without anneal.warmup_steps or with anneal.optimizer=fresh"
        )
    if step is None or model.batch_size is None or model.sequence_length is None:
        rates = planned_rates(anneal, lr or 0.0)
        return Preview(config=config, lr=lr, learning_rates=rates, tokens=None, tokens_seen=None, flops=None)
    plan = make_plan(config, dataclasses.replace(expected_position(model, step), lr=lr or 0.0))
    return Preview(
        config=config,
        lr=lr,
        learning_rates=plan.learning_rates,
        tokens=plan.tokens,
        tokens_seen=plan.position.tokens,
        flops=_flops(plan, stated_sizes(model)),
    )


def _flops(plan: Plan, sizes: Sizes | None) -> float | None:
    return (
        None
        if sizes is None
        else training_flops(
            matrix_parameters=sizes.matrix_parameters,
            num_layers=sizes.num_layers,
            d_model=sizes.d_model,
            sequence_length=plan.sequence_length,
            tokens=plan.tokens,
        )
    )


def draw(found: Sequence[Preview]) -> str:
    """The points as a table, and their models' sizes below."""
    table = Table(title=f"{len(found)} point{'s' if len(found) > 1 else ''}", title_justify="left")
    table.caption, table.caption_justify = CAPTION, "left"
    table.add_column("run")
    for name in ("updates", "LR in force", "peak LR", "last LR", "tokens", "of seen", "FLOPs"):
        table.add_column(name, justify="right")
    for name, point in zip(run_names([point.config for point in found]), found, strict=True):
        table.add_row(name, *_figures(point))
    text = io.StringIO()
    Console(file=text, width=220).print(table)
    return text.getvalue() + "".join(_needs(found))


def _figures(point: Preview) -> Iterator[str]:
    rates, tokens, seen = point.learning_rates, point.tokens, point.tokens_seen
    yield f"{len(rates):,}"
    yield UNKNOWN if point.lr is None else f"{point.lr:.4g}"
    ends = (planned_peak(point.config.anneal, point.lr or 0.0), rates[-1]) if len(rates) else ()
    yield from (f"{rate:.4g}" for rate in ends) if ends else (UNKNOWN, UNKNOWN)
    yield UNKNOWN if tokens is None else f"{tokens:.3g}"
    yield UNKNOWN if not tokens or not seen else f"{tokens / seen:.2%}"
    yield UNKNOWN if point.flops is None else f"{point.flops:.2g}"


def _needs(found: Sequence[Preview]) -> Iterator[str]:
    """A line a model: what is fetched or made for it."""
    yield from dict.fromkeys(f"{point.config.model.name}: {_origin(point.config)}\n" for point in found)


def _origin(config: RunConfig) -> str:
    model = config.model
    size = "" if model.parameters is None else f"{model.parameters:,} parameters, "
    if model.source == "embedded":
        return f"{size}pretrained here on first use"
    if model.published is None:
        return f"{size}on disk"
    if weights_alone(model.published, config.checkpoint.source):
        return f"{size}weights alone, from the Hub"
    assert model.parameters
    return f"{size}{OPTIMIZER_BYTES * model.parameters / 1e9:.1f} GB to download a checkpoint"


if __name__ == "__main__":
    main()
