"""Writes a number with as many digits as its standard error allows: two digits of the error, and the value as far."""

from __future__ import annotations

import math


def rounded(value: float, error: float) -> float:
    """The value to the last digit of its error; unchanged if the error is 0 or unknown."""
    return round(value, _decimals(error)) + 0.0 if _is_known(error) and math.isfinite(value) else value


def rounded_error(error: float) -> float:
    """The error to two digits."""
    return float(f"{error:.1e}")


def with_error(value: float, error: float, *, signed: bool = False) -> str:
    """`0.352 ± 0.055`; a value whose error is 0 or unknown has four digits."""
    sign = "+" if signed else ""
    if not _is_known(error):
        return f"{value:{sign}.4g} ± {error:g}"
    places = max(0, _decimals(error))
    return f"{rounded(value, error):{sign}.{places}f} ± {rounded_error(error):.{places}f}"


def alone(value: float, error: float) -> str:
    """The value as `with_error` writes it, without the error."""
    return with_error(value, error).partition(" ")[0]


def _is_known(error: float) -> bool:
    return 0 < error < math.inf


def _decimals(error: float) -> int:
    return 1 - math.floor(math.log10(rounded_error(error)))
