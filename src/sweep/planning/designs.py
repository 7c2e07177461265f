"""The points that a sweep's axes make: all combinations, pairs, draws over ranges, or a fraction of all (pure).

The same axes, design, runs and seed give the same points, so that a repeated command finds its runs done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from sweep.config.launcher import DESIGNS, DRAWN, LISTED, MAX_RUNS
from sweep.domain.errors import Refusal, unknown
from sweep.planning.fractional_design import fraction

Floats = NDArray[np.float64]
CROSSED = "seed"
"""Every point of a design is run with each value of this key: it is noise, not an axis."""
LOG_SPAN = 3.0
"""A range of positive numbers is drawn and plotted in the logarithm if high / low is at least this factor."""
DIGITS = 4
"""Significant digits of a drawn number, so that names and overrides stay readable."""
KEY = "hydra.sweeper"


@dataclass(frozen=True, kw_only=True)
class Range:
    """An axis of all numbers between two."""

    low: float
    high: float
    """Included."""
    log: bool
    """Drawn evenly in the logarithm."""
    whole: bool
    """Only whole numbers."""

    def values(self, shares: Floats) -> tuple[str, ...]:
        """The numbers at these shares of the range, each in [0, 1), as they are typed in overrides."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        numbers = low * (high / low) ** shares if self.log else low + (high - low) * shares
        inside = np.clip(numbers, self.low, self.high)
        if self.whole:
            return tuple(str(round(value)) for value in inside)
        return tuple(f"{min(max(float(f'{v:.{DIGITS}g}'), self.low), self.high):.12g}" for v in inside)


Axis = tuple[str, ...] | Range
"""Values as they are typed in overrides, or a range of numbers."""


def points(axes: Mapping[str, Axis], *, design: str, runs: int | None, seed: int) -> list[tuple[str, ...]]:
    """The points, each once, with a value of each axis in the order of `axes`; Refusal if the design can't be made.

    `runs` is the number of points that a design draws, or takes as a fraction, before they are crossed with CROSSED.
    """
    _check(axes, design, runs)
    inner = {name: axis for name, axis in axes.items() if name != CROSSED or design == "product"}
    crossed = {name: axis for name, axis in axes.items() if name not in inner and not isinstance(axis, Range)}
    rows = product(_inner(inner, design, runs or 0, seed), product(*crossed.values()))
    named = (dict(zip([*inner, *crossed], [*point, *values], strict=True)) for point, values in rows)
    return list(dict.fromkeys(tuple(point[name] for name in axes) for point in named))


def _inner(axes: Mapping[str, Axis], design: str, runs: int, seed: int) -> list[tuple[str, ...]]:
    """The points of the design itself, before they are crossed."""
    if not axes:
        return [()]
    if design in DRAWN:
        columns = zip(axes.values(), _shares(design, len(axes), runs, seed).T, strict=True)
        return list(zip(*(_drawn(axis, shares) for axis, shares in columns), strict=True))
    listed = {name: axis for name, axis in axes.items() if not isinstance(axis, Range)}
    if design == "zip":
        longest = max((len(values) for values in listed.values()), default=1)
        return list(zip(*(v * longest if len(v) == 1 else v for v in listed.values()), strict=True))
    if design == "fractional":
        chosen = fraction([len(values) for values in listed.values()], runs, seed)
        return [tuple(values[i] for values, i in zip(listed.values(), row, strict=True)) for row in chosen]
    return list(product(*listed.values()))


def _drawn(axis: Axis, shares: Floats) -> tuple[str, ...]:
    return axis.values(shares) if isinstance(axis, Range) else tuple(axis[int(share * len(axis))] for share in shares)


def _shares(design: str, axes: int, runs: int, seed: int) -> Floats:
    """(runs, axes) in [0, 1); a random or Sobol design of more runs begins with that of fewer."""
    if design == "random":
        return np.random.default_rng(seed).random((runs, axes))
    from scipy.stats import qmc  # its import takes half a second, which other designs don't need

    if design == "lhs":
        return np.asarray(qmc.LatinHypercube(axes, rng=seed).random(runs))
    return np.asarray(qmc.Sobol(axes, rng=seed).random_base2((runs - 1).bit_length())[:runs])


def _check(axes: Mapping[str, Axis], design: str, runs: int | None) -> None:
    """Refusal if the design can't be made of these axes, or of so many runs."""
    _check_runs(design, runs)
    _check_number(axes, design)
    for name, axis in axes.items():
        if isinstance(axis, Range):
            _check_range(name, axis, design)
    sizes = {name: len(a) for name, a in axes.items() if name != CROSSED and not isinstance(a, Range) and len(a) > 1}
    if design == "zip" and len(set(sizes.values())) > 1:
        lengths = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise Refusal(f"{KEY}.design=zip: pairs need axes of as many values each, or of one; {lengths}")
    if design == "fractional":
        _check_fraction(sizes, runs or 0)


def _check_number(axes: Mapping[str, Axis], design: str) -> None:
    """Refusal if all combinations are more than a sweep takes."""
    number = prod(len(axis) for axis in axes.values() if not isinstance(axis, Range))
    if design == "product" and number > MAX_RUNS:
        raise Refusal(f"these overrides are {number} points: {KEY}.design=product takes at most {MAX_RUNS}")


def _check_runs(design: str, runs: int | None) -> None:
    if design not in DESIGNS:
        raise Refusal(f"{KEY}.design={design}: {unknown(design, DESIGNS)}")
    if design in LISTED and runs is not None:
        raise Refusal(f"{KEY}.runs={runs}: {KEY}.design={design} runs every point it has; allowed: null")
    if design not in LISTED and (runs is None or runs < 1):
        raise Refusal(
            f"{KEY}.runs={'null' if runs is None else runs}: {KEY}.design={design} needs a number, at least 1"
        )


def _check_range(name: str, axis: Range, design: str) -> None:
    interval = f"{name}=interval({axis.low:g},{axis.high:g})"
    if name == CROSSED:
        raise Refusal(f"{interval}: the values of {name} are listed, as in {name}=0,1")
    if design not in DRAWN:
        allowed = f"{KEY}.design={'|'.join(DRAWN)} {KEY}.runs=N"
        raise Refusal(f"{interval}: {KEY}.design={design} takes listed values; allowed: {allowed}")


def _check_fraction(sizes: Mapping[str, int], runs: int) -> None:
    least, most = 1 + sum(size - 1 for size in sizes.values()), prod(sizes.values())
    if not least <= runs <= most:
        raise Refusal(
            f"{KEY}.runs={runs}: {KEY}.design=fractional of these axes needs at least {least}, to tell their levels "
            f"apart, and at most {most}, which are all"
        )


def log_by_rule(low: float, high: float) -> bool:
    """Whether a range without a tag is drawn and plotted in the logarithm."""
    return low > 0 and high / low >= LOG_SPAN


def ranged(name: str, low: float, high: float, tags: Sequence[str], *, whole: bool) -> Range:
    """The axis of Hydra's `interval(low,high)`, which may have the tag log or linear; Refusal if it is no range."""
    interval = f"interval({low:g},{high:g})"
    override = f"{name}={interval}" if not tags else f"{name}=tag({','.join(tags)},{interval})"
    if not low < high:
        raise Refusal(f"{override}: the first number must be below the second")
    if other := set(tags) - {"log", "linear"}:
        raise Refusal(f"{override}: {unknown(min(other), ('log', 'linear'))}")
    if len(tags) > 1 or ("log" in tags and low <= 0):
        raise Refusal(f"{override}: only one of log and linear is allowed, and log of numbers above 0 alone")
    if whole and not (float(low).is_integer() and float(high).is_integer()):
        raise Refusal(f"{override}: {name} takes whole numbers")
    return Range(low=low, high=high, log="log" in tags or (not tags and log_by_rule(low, high)), whole=whole)
