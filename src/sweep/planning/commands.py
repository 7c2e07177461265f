"""Commands that are recorded or suggested: choices as overrides in Hydra's grammar, and overrides as text for a shell.

`words_of` reads what `command` wrote; `override` writes what Hydra reads as the same value.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PROGRAM = ("python", "-m", "sweep")
PLAIN = re.compile(r"(?!(null|true|false|inf|nan|infinity)$)[A-Za-z_/][\w/.+-]*", re.ASCII | re.IGNORECASE)
"""Texts that Hydra reads as themselves without quotes."""
NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
"""Names that may be a part of a dotted key."""
SIGNS = re.compile(r"[\\()\[\]{}:=, \t]")
"""Characters that Hydra takes in the key of a mapping behind a backslash."""


def command(words: Sequence[str], *, multirun: bool = False) -> str:
    """The command with these overrides, quoted for a POSIX shell; with `multirun` it is a sweep."""
    return shlex.join([*PROGRAM, *(["-m"] if multirun else []), *words])


def words_of(text: str) -> list[str]:
    """The overrides of a command that `command` made."""
    words = shlex.split(text)[len(PROGRAM) :]
    return words[1:] if words[:1] == ["-m"] else words


def key_of(word: str) -> str:
    """The dotted key, or the group, that an override is about."""
    return word.partition("=")[0].lstrip("+~")


def override(key: str, value: Any) -> str:
    """The override that gives `key` this plain value: None, a bool, number or text, or a list or dict of such."""
    return f"{key}={spelt(value)}"


def spelt(value: Any) -> str:
    """A plain value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(float(value)) if math.isfinite(value) else f"{value}"
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) else _quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_spelt_key(key)}:{spelt(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(spelt, value)) + "]"
    return str(value)


def _spelt_key(key: Any) -> str:
    if not isinstance(key, str):
        return spelt(key)
    return SIGNS.sub(lambda sign: f"\\{sign[0]}", key)


def _quoted(text: str) -> str:
    """In single quotes. A backslash is itself, except in front of a quote or of `${`, which OmegaConf would resolve."""
    text = re.sub(r"(\\*)\$\{", lambda m: f"{m[1]}{m[1]}\\${{", text)
    text = re.sub(r"(\\*)('|$(?!\n))", lambda m: f"{m[1]}{m[1]}" + ("\\'" if m[2] else ""), text)
    return f"'{text}'"


def changes(base: Mapping[Any, Any], chosen: Mapping[Any, Any], above: str = "") -> Iterator[str]:
    """The overrides that make the plain tree `chosen` of the plain tree `base`.

    Keys of mappings are letters, digits, blanks and the like: Hydra's grammar has no quotes, `$` or backslash in them.
    """
    for key in [*base, *(key for key in chosen if key not in base)]:
        path = f"{above}{key}"
        if key not in chosen:
            if base[key] is not None:  # Hydra takes null for absent, and so do we
                yield f"~{path}"
        elif key not in base:
            yield f"+{override(path, chosen[key])}"
        elif isinstance(base[key], Mapping) and isinstance(chosen[key], Mapping):
            yield from _below(base[key], chosen[key], path)
        elif isinstance(base[key], Mapping) or (isinstance(chosen[key], Mapping) and base[key] is not None):
            yield from _anew(path, chosen[key])
        elif spelt(base[key]) != spelt(chosen[key]):
            yield override(path, chosen[key])


def _anew(path: str, value: Any) -> tuple[str, str]:
    """The overrides that replace a mapping, or put one in another value's place: Hydra would merge the two."""
    return f"~{path}", f"+{override(path, value)}"


def _below(base: Mapping[Any, Any], chosen: Mapping[Any, Any], path: str) -> Iterator[str]:
    """`changes` of a mapping; it is replaced whole where an override can't name one of the keys that differ."""
    differ = [key for key in {**base, **chosen} if spelt(base.get(key, ...)) != spelt(chosen.get(key, ...))]
    if all(isinstance(key, str) and NAME.fullmatch(key) for key in differ):
        yield from changes(base, chosen, f"{path}.")
    else:
        yield from _anew(path, chosen)


def replaced(words: Sequence[str], keys: Sequence[str], new: Sequence[str]) -> list[str]:
    """The words without those about one of the keys, or about something below one, and the new ones behind them."""
    below = tuple(f"{key}." for key in keys)
    return [*(word for word in words if not f"{key_of(word)}.".startswith(below)), *new]
