"""Which points a sweep's axes make: all combinations, pairs, draws over ranges, or a fraction of all (pure).

The same axes, design, runs and seed give the same points, so that the same command finds its runs done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from sweep.domain.errors import Refusal, unknown
from sweep.planning.fractional_design import fraction

Floats = NDArray[np.float64]
LISTED, DRAWN = ("product", "zip"), ("random", "sobol", "lhs")
DESIGNS = (*LISTED, *DRAWN, "fractional")
CROSSED = "seed"
"""Every point of a design is run with each of its values: it is the noise, not an axis."""
LOG_SPAN = 3.0
"""Positive numbers that span at least this factor are drawn, and looked at, in the logarithm."""
DIGITS = 4
"""Significant ones of a number drawn, so that names and overrides stay readable."""
KEY = "hydra.sweeper"


@dataclass(frozen=True, kw_only=True)
class Range:
    """An axis of all numbers between two."""

    low: float
    high: float
    """Included."""
    log: bool
    """Whether ratios are drawn evenly, not differences."""
    whole: bool
    """Whole numbers alone."""

    def at(self, shares: Floats) -> tuple[str, ...]:
        """The numbers so far along the range, each share in [0, 1), as overrides are typed."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        found = low * (high / low) ** shares if self.log else low + (high - low) * shares
        inside = np.clip(found, self.low, self.high)
        if self.whole:
            return tuple(str(round(value)) for value in inside)
        return tuple(f"{min(max(float(f'{v:.{DIGITS}g}'), self.low), self.high):.12g}" for v in inside)


Axis = tuple[str, ...] | Range
"""Values as overrides are typed, or a range of numbers."""


def points(axes: Mapping[str, Axis], *, design: str, runs: int | None, seed: int) -> list[tuple[str, ...]]:
    """The different points, a value of each axis in the order of `axes`; Refusal where the design can't be made.

    `runs` is the number of points of a design that draws or takes a fraction, before they are crossed with CROSSED.
    """
    _check(axes, design, runs)
    inner = {name: axis for name, axis in axes.items() if name != CROSSED or design == "product"}
    columns = dict(zip(inner, zip(*_inner(inner, design, runs or 0, seed), strict=True), strict=True))
    size = len(next(iter(columns.values()), ("",)))
    crossed = {name: axis for name, axis in axes.items() if name not in inner and not isinstance(axis, Range)}
    made = []
    for i in range(size):
        for values in product(*crossed.values()):
            point = {**{name: column[i] for name, column in columns.items()}, **dict(zip(crossed, values, strict=True))}
            made.append(tuple(point[name] for name in axes))
    return list(dict.fromkeys(made))


def _inner(axes: Mapping[str, Axis], design: str, runs: int, seed: int) -> list[tuple[str, ...]]:
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
    return axis.at(shares) if isinstance(axis, Range) else tuple(axis[int(share * len(axis))] for share in shares)


def _shares(design: str, axes: int, runs: int, seed: int) -> Floats:
    """(runs, axes) in [0, 1); more runs of a random or Sobol design go on from the fewer."""
    if design == "random" or not axes:
        return np.random.default_rng(seed).random((runs, axes))
    from scipy.stats import qmc  # half a second, which listed sweeps don't wait for

    if design == "lhs":
        return np.asarray(qmc.LatinHypercube(axes, rng=seed).random(runs))
    return np.asarray(qmc.Sobol(axes, rng=seed).random_base2((runs - 1).bit_length())[:runs])


def _check(axes: Mapping[str, Axis], design: str, runs: int | None) -> None:
    if design not in DESIGNS:
        raise Refusal(f"{KEY}.design={design}: {unknown(design, DESIGNS)}")
    if design in LISTED and runs is not None:
        raise Refusal(f"{KEY}.runs={runs}: {KEY}.design={design} runs every point it has; allowed: null")
    if design not in LISTED and (runs is None or runs < 1):
        raise Refusal(
            f"{KEY}.runs={'null' if runs is None else runs}: {KEY}.design={design} needs a number, at least 1"
        )
    for name, axis in axes.items():
        if isinstance(axis, Range) and (design not in DRAWN or name == CROSSED):
            raise Refusal(
                f"{name}=interval({axis.low:g},{axis.high:g}): "
                + (f"the values of {name} are listed, as in {name}=0,1" if name == CROSSED else
                   f"{KEY}.design={design} takes listed values; allowed: {KEY}.design={'|'.join(DRAWN)} {KEY}.runs=N")
            )  # fmt: skip
    sizes = {name: len(a) for name, a in axes.items() if name != CROSSED and not isinstance(a, Range) and len(a) > 1}
    if design == "zip" and len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise Refusal(f"{KEY}.design=zip: pairs need axes of as many values each, or of one; {told}")
    if design == "fractional":
        _check_fraction(sizes, runs or 0)


def _check_fraction(sizes: Mapping[str, int], runs: int) -> None:
    least, most = 1 + sum(size - 1 for size in sizes.values()), prod(sizes.values())
    if not least <= runs <= most:
        raise Refusal(
            f"{KEY}.runs={runs}: {KEY}.design=fractional of these axes needs at least {least}, to tell their levels "
            f"apart, and at most {most}, which are all"
        )


def log_by_rule(low: float, high: float) -> bool:
    """Whether a range is looked at in the logarithm where nothing else is said."""
    return low > 0 and high / low >= LOG_SPAN


def ranged(name: str, low: float, high: float, tags: Sequence[str], *, whole: bool) -> Range:
    """The axis of Hydra's `interval(low,high)`, tagged log or linear or not at all; Refusal naming it."""
    interval = f"interval({low:g},{high:g})"
    said = f"{name}={interval}" if not tags else f"{name}=tag({','.join(tags)},{interval})"
    if not low < high:
        raise Refusal(f"{said}: the first number must be below the second")
    if other := set(tags) - {"log", "linear"}:
        raise Refusal(f"{said}: {unknown(min(other), ('log', 'linear'))}")
    if len(tags) > 1 or ("log" in tags and low <= 0):
        raise Refusal(f"{said}: one of log and linear, and log of numbers above 0 alone")
    if whole and not (float(low).is_integer() and float(high).is_integer()):
        raise Refusal(f"{said}: {name} takes whole numbers")
    return Range(low=low, high=high, log="log" in tags or (not tags and log_by_rule(low, high)), whole=whole)
