"""How a choice is refused: the key, the value, and what is allowed."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from typing import Any


class Refusal(ValueError):
    """A choice that can't be run; its message is for the person who made it."""


def at_least(least: int, number: int) -> int:
    """`number` where it is no less than `least`; ValueError where it is."""
    if number < least:
        raise ValueError(f"must be at least {least}" if least else "must not be negative")
    return number


def one_of(value: str, allowed: Collection[str]) -> str:
    """`value` where it is allowed; ValueError listing the allowed ones where not."""
    if value not in allowed:
        raise ValueError(unknown(value, allowed))
    return value


def unknown(value: str, allowed: Collection[str]) -> str:
    """What to say of a value that isn't among the allowed ones."""
    near = difflib.get_close_matches(value, list(allowed), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{value!r} is not one of {', '.join(allowed)}{hint}"


def explain(problem: Mapping[str, Any]) -> str:
    """One of pydantic's problems in our words: the dotted key, the value, what is allowed.

    A check of a whole group begins its message with the key inside it.
    """
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{place} is missing"
    if not place or (problem["type"] == "value_error" and not isinstance(problem["input"], str | int | float | list)):
        named = isinstance(problem["input"], Mapping) and place and re.split(r"[=.:]", message)[0] in problem["input"]
        return f"{place}.{message}" if named else message
    value = problem["input"]
    if isinstance(value, float) and not math.isfinite(value):
        message = "must be a finite number"
    return f"{place}={value}: {message}"
