"""What a sweep will do and cost in all, and what its runs share: sums over forecasts (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sweep.config import tree
from sweep.domain.digests import digest
from sweep.planning.job_requests import run_minutes
from sweep.planning.plan import launch_order
from sweep.planning.run_cost import Forecast, pretraining_flops
from sweep.planning.work_keys import WorkKeys


@dataclass(frozen=True, kw_only=True)
class Bill:
    """Sums over the runs that are not done; None if a model doesn't state what it takes."""

    points: int
    """All of the sweep, the done ones too."""
    done: int
    updates: int
    shared_updates: int
    """Updates already contained in another run's state, where one run follows another."""
    before: int
    """Scorings of checkpoints as they are: one for all runs that start there."""
    after: int
    """Scorings of annealed or averaged checkpoints."""
    tokens: int | None
    """Tokens of the updates that are not shared; `flops` and the hours are of these updates too."""
    flops: float | None
    share: float | None
    """`flops` over the FLOPs of pretraining each model up to the furthest of its checkpoints here."""
    core_hours: float | None
    """Of the runs on CPUs, from `model.resources`."""
    gpu_hours: float | None
    """Of the runs on GPUs, from `model.resources`."""


@dataclass(frozen=True, kw_only=True)
class _Share:
    """The part of a run's work that no earlier run does."""

    forecast: Forecast
    updates: int
    before: bool
    """Whether it scores the checkpoint."""
    after: bool
    """Whether it scores the annealed or averaged checkpoint."""

    def of(self, total: float | None) -> float | None:
        """The part of the run's total over updates."""
        return None if total is None else total * self.updates / max(1, self.forecast.config.anneal.steps)

    @property
    def on_gpus(self) -> bool:
        """Whether the model asks for GPUs."""
        resources = self.forecast.config.model.resources
        return resources is not None and resources.gpus_per_node > 0

    @property
    def device_hours(self) -> float | None:
        """Hours times cores or GPUs."""
        config = self.forecast.config
        minutes = run_minutes(config, updates=self.updates, scorings=self.before + self.after)
        resources = config.model.resources
        if minutes is None or resources is None:
            return None
        return minutes / 60 * resources.nodes * (resources.gpus_per_node or config.compute.threads)


def bill(forecasts: Sequence[Forecast], done: Collection[int] = ()) -> Bill:
    """The bill of these runs. `done` has the indices of those that are done; their states and scores are shared too."""
    shares = _shares(forecasts, done)
    tokens = _sum(share.of(share.forecast.tokens) for share in shares)
    flops = _sum(share.of(share.forecast.flops) for share in shares)
    pretraining = _sum(_pretraining(forecasts))
    return Bill(
        points=len(forecasts),
        done=len(done),
        updates=sum(share.forecast.config.anneal.steps for share in shares),
        shared_updates=sum(share.forecast.config.anneal.steps - share.updates for share in shares),
        before=sum(share.before for share in shares),
        after=sum(share.after for share in shares),
        tokens=None if tokens is None else round(tokens),
        flops=flops,
        share=flops / pretraining if flops is not None and pretraining else None,
        core_hours=_sum(share.device_hours for share in shares if not share.on_gpus),
        gpu_hours=_sum(share.device_hours for share in shares if share.on_gpus),
    )


def _shares(forecasts: Sequence[Forecast], done: Collection[int]) -> list[_Share]:
    """The part of each run that is not done, in the order in which they run."""
    keys = WorkKeys()
    order = sorted(range(len(forecasts)), key=lambda i: (i not in done, launch_order(forecasts[i].config)))
    updates = _own_updates([forecasts[i] for i in order], keys)
    scored: set[object] = {None, *(keys.before(forecasts[i].config) for i in done)}
    shares = []
    for forecast, own in [(forecasts[i], own) for i, own in zip(order, updates, strict=True) if i not in done]:
        before, after = keys.before(forecast.config), _after_key(forecast, keys)
        shares.append(_Share(forecast=forecast, updates=own, before=before not in scored, after=after not in scored))
        scored |= {before, after}
    return shares


class _Prefixes:
    """Arrays of learning rates, asked for the longest that another one begins with."""

    def __init__(self) -> None:
        self._by_length: dict[int, dict[float, set[bytes]]] = {}
        """Length -> last rate, which is cheap to compare -> digests."""

    def add(self, rates: np.ndarray) -> None:
        """Keep this array in mind."""
        if len(rates):
            self._by_length.setdefault(len(rates), {}).setdefault(float(rates[-1]), set()).add(_digest(rates))

    def longest(self, rates: np.ndarray) -> int:
        """Length of the longest array kept that this one begins with; 0: there is none."""
        fitting = (
            n
            for n, known in self._by_length.items()
            if n <= len(rates) and (digests := known.get(float(rates[n - 1]))) and _digest(rates[:n]) in digests
        )
        return max(fitting, default=0)


def _digest(rates: np.ndarray) -> bytes:
    return hashlib.sha256(rates.tobytes()).digest()


def _own_updates(forecasts: Sequence[Forecast], keys: WorkKeys) -> list[int]:
    """For each run, in this order, its updates that are not contained in a kept state of an earlier run."""
    kept: dict[str, _Prefixes] = {}
    own = []
    for forecast in forecasts:
        rates, anneal = forecast.learning_rates, forecast.config.anneal
        states = kept.setdefault(keys.base(forecast.config), _Prefixes())
        own.append(len(rates) - states.longest(rates))
        trunk = anneal.warmup_steps + anneal.hold_steps if anneal.hold_steps else 0
        for n in (trunk, len(rates) if anneal.keep else 0):
            states.add(rates[:n])
    return own


def _after_key(forecast: Forecast, keys: WorkKeys) -> tuple[str, bytes] | None:
    """The annealed or averaged state and what it is scored on; None if nothing is done to the checkpoint."""
    merge = forecast.config.anneal.merge
    if not forecast.config.anneal.steps and merge is None:
        return None
    state = digest("merge", tree(merge)) if merge else keys.base(forecast.config)
    return f"{keys.before(forecast.config)} {state}", _digest(forecast.learning_rates)


def _pretraining(forecasts: Sequence[Forecast]) -> Iterable[float | None]:
    """FLOPs of the pretraining of each model up to the furthest checkpoint."""
    keys = WorkKeys()
    furthest: dict[str, Forecast] = {}
    for forecast in sorted(forecasts, key=lambda forecast: forecast.tokens_seen or 0):
        furthest[keys.model(forecast.config)] = forecast
    return (pretraining_flops(forecast.config.model, forecast.tokens_seen) for forecast in furthest.values())


def _sum(parts: Iterable[float | None]) -> float | None:
    """The sum; None if a part is not known."""
    known = list(parts)
    return None if None in known else sum((part for part in known if part is not None), 0.0)
