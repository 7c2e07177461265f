"""From numbers and categories to pixels, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FEW, MOST = 5, 8
"""About how many ticks an axis has, and the most places that each have one."""
MARGIN = 0.06
"""Of an axis, empty at each end."""
NEAR = 0.07
"""Least distance between two labels, as a part of the axis."""


@dataclass(frozen=True)
class Scale:
    """One axis of a chart: the values at its ends, and the pixels there."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: Sequence[float]
    names: Sequence[str] = ()
    """The categories, whose values are 0, 1, 2, …; none if the axis has numbers."""

    def pixel(self, value: float | str) -> float:
        """Where a value lies."""
        number = float(self.names.index(value)) if isinstance(value, str) else value
        return self.start + self.part(number) * (self.end - self.start)

    def part(self, number: float) -> float:
        """Where a number lies, as a part of the axis."""
        if self.log:
            return math.log(number / self.low) / math.log(self.high / self.low)
        return (number - self.low) / (self.high - self.low)

    def labels(self) -> Iterator[tuple[float, str]]:
        """The pixel and the label of each tick; empty if it would be too near to the one before."""
        last = -math.inf
        for tick in self.ticks:
            part = self.part(tick)
            name = self.names[int(tick)] if self.names else short(tick)
            yield self.start + part * (self.end - self.start), name if self.names or part - last >= NEAR else ""
            last = part if part - last >= NEAR else last

    def words(self) -> str:
        """The scale for a script: low, high, kind."""
        kind = "names" if self.names else "log" if self.log else "numbers"
        return f"{self.low!r},{self.high!r},{kind}"


def category_scale(names: Sequence[str], start: float, end: float) -> Scale:
    """Categories side by side, each in the middle of its part."""
    return Scale(-0.5, len(names) - 0.5, start, end, log=False, ticks=range(len(names)), names=names)


def number_scale(
    numbers: Sequence[float], start: float, end: float, *, log: bool = False, ticks: Sequence[float] = ()
) -> Scale:
    """An axis on which all numbers lie; `ticks` are used if they are few."""
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    log = log and low > 0 and high / low >= 2
    if log:
        margin = (high / low) ** MARGIN
        ends = low / margin, high * margin
    else:
        margin = MARGIN * (high - low) or 0.5 * abs(high) or 1.0
        ends = low - margin, high + margin
    shown = sorted(set(ticks)) if 0 < len(set(ticks)) <= MOST else round_ticks(*ends, log=log)
    return Scale(*ends, start, end, log=log, ticks=shown)


def round_ticks(low: float, high: float, *, log: bool = False) -> list[float]:
    """Round numbers between two others."""
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            ticks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
            if len(ticks) <= MOST:
                return ticks
        return ticks[:: math.ceil(len(ticks) / MOST)]
    rough = (high - low) / FEW
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def short(number: float) -> str:
    """A number for a tick: `3e-4`, `0.25`, `20k`."""
    if number == 0:
        return "0"
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= size:
            return f"{number / (size if letter != 'k' else 1e3):.4g}{letter}"
    return f"{number:.4g}" if abs(number) >= 1e-3 else f"{number:.3g}".replace("e-0", "e-")
