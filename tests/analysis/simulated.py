"""Sweeps whose truth is known: effects put in, missing settings, unequal seeds; bench/analysis.py uses them too."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd

from sweep.analysis.effects import MATTERS, effects
from sweep.analysis.factors import varying_axes
from sweep.analysis.gains import Comparison, gain
from sweep.analysis.outcomes import Outcome
from sweep.analysis.over_seeds import document_variance, gains_of_settings
from sweep.analysis.training_tables import training_table
from sweep.planning.fractional_design import fraction


def sweep(
    *,
    seed: int,
    levels: tuple[int, ...],
    active: int,
    seeds: tuple[int, int] = (1, 4),
    effect: float = 1.0,
    missing: int = 0,
) -> pd.DataFrame:
    """Runs x0, x1, ..., y: the first `active` axes are straight lines of random slope, the first two interact.

    Noise has standard deviation 1. A setting has from `seeds[0]` to `seeds[1]` seeds, `missing` settings have none.
    """
    rng = np.random.default_rng(seed)
    settings = list(product(*(range(size) for size in levels)))
    gone = set(rng.permutation(len(settings))[:missing].tolist())
    slopes = effect * rng.uniform(0.5, 1.5, active)
    rows = []
    for place, setting in enumerate(settings):
        if place in gone:
            continue
        centred = [value - (size - 1) / 2 for value, size in zip(setting, levels, strict=True)]
        truth = float(sum(slope * centred[i] for i, slope in enumerate(slopes)))
        if active > 1 and not missing:
            truth += effect * centred[0] * centred[1]
        for _ in range(rng.integers(seeds[0], seeds[1] + 1)):
            rows.append({**{f"x{i}": value for i, value in enumerate(setting)}, "y": truth + rng.normal()})
    runs = pd.DataFrame(rows)
    runs.attrs["slopes"] = slopes
    return runs


def coverage(levels: tuple[int, ...], *, missing: int, sweeps: int) -> float:
    """Share of the levels' 95 % intervals that hold the truth."""
    hits = total = 0
    active = (len(levels) + 1) // 2
    for seed in range(sweeps):
        runs = sweep(seed=seed, levels=levels, active=active, missing=missing)
        _, level_effects, _ = effects(runs, varying_axes(runs, [f"x{i}" for i in range(len(levels))]), ["y"])
        for level in level_effects:
            axis = int(level.axis[1:])
            slope = runs.attrs["slopes"][axis] if axis < active else 0.0
            truth = slope * (float(str(level.level)) - (levels[axis] - 1) / 2)
            if level.low is not None and level.high is not None:
                hits += level.low <= truth <= level.high
                total += 1
    return hits / total


def false_alarms(levels: tuple[int, ...], *, missing: int, sweeps: int) -> float:
    """Share of sweeps in which any inert axis, or interaction with one, is said to matter."""
    wrong = 0
    active = (len(levels) + 1) // 2 if len(levels) > 1 else 0
    inert = {f"x{i}" for i in range(active, len(levels))}
    for seed in range(sweeps):
        runs = sweep(seed=10_000 + seed, levels=levels, active=active, missing=missing)
        terms, _, _ = effects(runs, varying_axes(runs, [f"x{i}" for i in range(len(levels))]), ["y"])
        wrong += any(e.verdict == MATTERS and inert & set(e.term.split(":")) for e in terms)
    return wrong / sweeps


def bent(*, seed: int, settings: int, effect: float) -> pd.DataFrame:
    """Two runs of each of so many settings x0, x1, x2 drawn between 0 and 1: a step in x0, x1 and x2 inert, noise 1."""
    rng = np.random.default_rng(seed)
    drawn = pd.DataFrame(rng.uniform(0, 1, (settings, 3)), columns=["x0", "x1", "x2"])
    runs = pd.concat([drawn, drawn], ignore_index=True)
    return runs.assign(y=effect * (runs.x0 > 0.3) + rng.normal(size=len(runs)))


def aliased(*, seed: int, settings: int, effect: float) -> pd.DataFrame:
    """Two runs of a fraction of 3 x 3 x 2: x0, x1 and their interaction act, x2 is inert, noise 1."""
    rows = np.array(fraction([3, 3, 2], settings, seed)) - [1, 1, 0.5]
    runs = pd.DataFrame(np.concatenate([rows, rows]), columns=["x0", "x1", "x2"])
    truth = runs.x0 + runs.x1 + runs.x0 * runs.x1
    return runs.assign(y=effect * truth + np.random.default_rng(seed).normal(size=len(runs)))


def leaks(
    simulate: Callable[..., pd.DataFrame], inert: set[str], *, settings: int, effect: float, sweeps: int
) -> float:
    """Share of sweeps in which an inert axis, or an interaction with one, is said to matter."""
    wrong = 0
    for seed in range(sweeps):
        runs = simulate(seed=seed, settings=settings, effect=effect)
        terms, _, _ = effects(runs, varying_axes(runs, ["x0", "x1", "x2"]), ["y"])
        wrong += any(e.verdict == MATTERS and inert & set(e.term.split(":")) for e in terms)
    return wrong / sweeps


def cosine_training(seed: int = 0, noise: float = 0.0) -> pd.DataFrame:
    """A training under a cosine whose loss after an anneal is a power law of the sum of its learning rates."""
    steps, rng = np.arange(100, 1001, 100), np.random.default_rng(seed)
    rates = 0.5 * (1 + np.cos(np.pi * steps / 1200))
    rows = pd.DataFrame({"step": steps, "tokens": 8.0 * steps, "lr": rates, "arm": "none"})
    rows = rows.assign(checkpoint=[f"step{step}" for step in steps])
    progress = training_table(rows.assign(**{"loss/c4": 0.0}), ["loss/c4"]).progress("training", steps)
    annealed = 2 + 3 * progress**-0.4
    rows = rows.assign(**{"loss/c4": annealed + 0.1 * rates + noise * rng.normal(size=10)})
    ends = rows.assign(arm="decay", step=steps + 50, tokens=8.0 * (steps + 50), lr=0.0)
    ends = ends.assign(**{"loss/c4": annealed + noise * rng.normal(size=10)})
    begins = rows.assign(arm="decay", **{"loss/c4": np.nan})
    return pd.concat([rows, begins, ends], ignore_index=True)


def seeded_coverage(*, seeds: int, seed_sd: float, shared_sd: float, sweeps: int, documents: int = 60) -> float:
    """Share of 95 % intervals over seeds and documents that hold the truth, which is 0: one minus the false alarms.

    Two tasks of so many documents. A seed, a document, and the two together are random, with standard deviations
    `seed_sd` / sqrt(documents), `shared_sd`, and 1.
    """
    rng, held = np.random.default_rng(7), 0
    outcome = Outcome("mean", "suite")
    for _ in range(sweeps):
        of_documents = shared_sd * rng.normal(size=(2, 1, documents))
        of_seeds = seed_sd / documents**0.5 * rng.normal(size=(1, seeds, 1))
        differences = of_documents + of_seeds + rng.normal(size=(2, seeds, documents))
        variance = sum(document_variance([*differences[task]]) for task in (0, 1)) / 4
        means = differences.mean((0, 2))
        stderrs = np.sqrt((differences.var(2, ddof=1) / documents).sum(0)) / 2
        named = {"checkpoint": "c", "checkpoint_digest": "c", "run": "r", "arm": "decay", "against": "checkpoint"}
        gains = [
            gain(Comparison(**named, key=str(seed), outcome=outcome.name), 0.0, means[seed], stderrs[seed])
            for seed in range(seeds)
        ]
        settings = {g.key: "s" for g in gains}
        (together,) = gains_of_settings(gains, settings, {("s", "checkpoint", outcome.name): variance})
        held += together.low <= 0 <= together.high
    return held / sweeps
