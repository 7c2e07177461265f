"""How a choice is refused: the key, the value, and what is allowed."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from sweep.domain.redaction import redact

LONGEST = 120
"""Characters of a value that a message shows."""


class Refusal(ValueError):
    """A choice that can't be run; the message is for the person who made it, and secrets in addresses are masked."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


def one_of(value: str, allowed: Collection[str]) -> str:
    """`value` itself; ValueError listing the allowed values if it is not one of them."""
    if value not in allowed:
        raise ValueError(unknown(value, allowed))
    return value


def unknown(value: str, allowed: Collection[str]) -> str:
    """Message for a value that isn't one of the allowed ones, with the nearest of them."""
    near = difflib.get_close_matches(value[:LONGEST], list(allowed), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    if not allowed:
        return f"'{shown(value)}' is not there, and nothing else is"
    return f"'{shown(value)}' is not one of {', '.join(allowed)}{hint}"


def shown(value: Any) -> str:
    """A value as a message has it: one line, never long, every character seen, secrets masked."""
    text = redact(str(value))
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… ({len(text)} characters)"
    return text if text.isprintable() else repr(text)[1:-1]


def explain(problem: Mapping[str, Any]) -> str:
    """One of pydantic's problems in our words: the dotted key, the value, what is allowed.

    The message of a check of several choices names its keys itself: whole, or as they are inside its group.
    """
    key, value = ".".join(str(part) for part in problem["loc"]), problem["input"]
    message = _allowed(problem)
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "value_error" and isinstance(value, Mapping):
        inside = bool(key) and re.split(r"[=.:]", message)[0] in value
        return f"{key}.{message}" if inside else message
    if isinstance(value, float) and not math.isfinite(value):
        message = "must be a finite number"
    return f"{shown(key)}={shown(value)}: {message}"


TYPES = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "tuple_type": "must be a list, such as [a,b]",
    "too_short": "must not be empty",
    "dict_type": "must be {NAME: value}",
    "mapping_type": "must be {NAME: value}",
    "dataclass_type": "must be a group of choices",
    "dataclass_exact_type": "must be a group of choices",
}
"""pydantic's error type -> what is allowed."""


def _allowed(problem: Mapping[str, Any]) -> str:
    match problem["type"]:
        case "greater_than_equal":
            least = problem["ctx"]["ge"]
            return f"must be at least {least:g}" if least else "must not be negative"
        case "greater_than":
            return f"must be above {problem['ctx']['gt']:g}"
        case "less_than_equal":
            return f"must be at most {problem['ctx']['le']}"
        case "less_than":
            return f"must be below {problem['ctx']['lt']}"
        case kind:
            return TYPES.get(kind, problem["msg"].removeprefix("Value error, "))
