"""A number has as many digits as its error allows."""

from __future__ import annotations

import math

import pytest

from sweep.domain.digits import rounded, rounded_error, with_error


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (35.2014, 0.5549, "35.20 ± 0.55"),
        (4.65834, 0.02332, "4.658 ± 0.023"),
        (-0.41463, 0.00594, "-0.4146 ± 0.0059"),
        (0.12345, 0.00996, "0.123 ± 0.010"),
        (12345.6, 123.4, "12350 ± 120"),
        (1e-9, 0.01, "0.000 ± 0.010"),
        (-1e-9, 0.01, "0.000 ± 0.010"),
        (0.25, 0.0, "0.25 ± 0"),
        (1.23456, math.nan, "1.235 ± nan"),
    ],
)
def test_the_error_has_two_digits_and_the_value_as_many_places(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text


@pytest.mark.parametrize("error", [0.0, 0.00996, 0.055, 3.0, 1234.0])
def test_rounding_twice_is_rounding_once(error: float) -> None:
    once = rounded(math.pi * 100, error)
    assert rounded(once, rounded_error(error)) == once
    assert abs(once - math.pi * 100) <= 0.05 * error
    assert rounded_error(rounded_error(error)) == rounded_error(error)
