"""What is wrong with overrides, in one line: Hydra's and OmegaConf's errors in our words.

Whatever fails while overrides are read and composed is their fault, and is a Refusal.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sweep.domain.errors import LONGEST, Refusal, shown, unknown
from sweep.sweeps.hydra_private import group_exists

LEXER = "LexerNoViableAltException: "
"""How Hydra begins the message that has a caret below the first character that it can't read."""
UNIONS = ("tasks", "experiment")
"""Groups of which a run may have several options."""
PAIRS = {"[": "]", "{": "}", "(": ")"}


def parsed(loader: ConfigLoader, words: Sequence[str], parser: OverridesParser | None = None) -> list[Override]:
    """The overrides; Refusal if one is not Hydra's grammar, or chooses an option that its group doesn't have.

    `parser` saves a caller of many calls the making of one each time.
    """
    parser, overrides = parser or OverridesParser.create(config_loader=loader), []
    for word in words:
        try:
            (override,) = parser.parse_overrides([word])
        except Exception as error:  # the parser's, ANTLR's and Python's own: whatever the text provokes
            raise Refusal(f"{shown(word)}: {_slip(word, error)}") from error
        if not override.key_or_group:
            raise Refusal(f"{shown(word)}: an override is written key=value, or ~key")
        if group_exists(loader, override.key_or_group) and _options(loader, override.key_or_group):
            _check_options(loader, override, word)
        overrides.append(override)
    return overrides


@contextlib.contextmanager
def composing(words: Sequence[str]) -> Iterator[None]:
    """Whatever fails within the block is a Refusal that names the overrides."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:  # Hydra's, OmegaConf's and those of resolvers: the overrides provoked it
        raise Refusal(in_words(error, words)) from error


@contextlib.contextmanager
def reading(loader: ConfigLoader, words: Sequence[str]) -> Iterator[None]:
    """Refusal if the overrides can't be parsed; then as `composing`."""
    parsed(loader, words)
    with composing(words):
        yield


def in_words(error: BaseException, words: Sequence[str] = ()) -> str:
    """What an error of Hydra or OmegaConf says, in one line, with the key or the overrides that it is about."""
    links = chain(error)
    for link in links:
        if isinstance(link, Refusal):
            return str(link)
        if isinstance(link, ConfigKeyError | ConfigAttributeError) and isinstance(link.parent_node, DictConfig):
            return f"{link.full_key}: {_not_there(link, [str(key) for key in link.parent_node])}"
    for link in links:
        if isinstance(link, OmegaConfBaseException) and link.full_key:
            return f"{shown(link.full_key)}: {_flat(link)}"
    message = _flat(links[-1]) or type(links[-1]).__name__
    named = " ".join(words)
    return message if not named or any(word in message for word in words) else f"{shown(named)}: {message}"


def _not_there(error: OmegaConfBaseException, allowed: Sequence[str]) -> str:
    """What is said of a key that a group of choices doesn't have."""
    if allowed or error.parent_node is None or error.parent_node._is_none():
        return unknown(str(error.key), allowed)
    return f"nothing is there yet: +{error.full_key}=… adds it"


def chain(error: BaseException) -> list[BaseException]:
    """The error, and what it came from."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _check_options(loader: ConfigLoader, override: Override, word: str) -> None:
    """Refusal if a group is given what is no option of it, or one option twice."""
    value: Any = override.value()
    if override.is_delete() or isinstance(value, dict):
        return
    options = _options(loader, override.key_or_group)
    chosen = value.list if isinstance(value, ChoiceSweep) else [value]
    if isinstance(value, Glob):
        chosen = value.filter(options)
        if not chosen:
            raise Refusal(f"{shown(word)}: none of {', '.join(options)} matches")
    for one in chosen:
        if isinstance(one, list) and override.key_or_group not in UNIONS:
            raise Refusal(f"{shown(word)}: takes one option, and no list: {', '.join(options)}")
        names = [str(getattr(name, "text", name)) for name in (one if isinstance(one, list) else [one])]
        strange = [name for name in names if name not in options]
        if strange:
            raise Refusal(f"{shown(word)}: {unknown('null' if one is None else strange[0], options)}")
        if again := [name for i, name in enumerate(names) if name in names[:i]]:
            raise Refusal(f"{shown(word)}: has {again[0]} twice: each is allowed once")


def _options(loader: ConfigLoader, group: str) -> list[str]:
    return [str(name) for name in loader.get_group_options(group, results_filter=ObjectType.CONFIG)]


def _slip(word: str, error: Exception) -> str:
    """What is wrong with an override that can't be parsed, and how it is written instead."""
    message = str(error)
    key, equal, value = word.partition("=")
    quoted = f"'{shown(key)}=\"{shown(value)}\"'" if value and not set(value) & set("'\"\\") else "'KEY=\"TEXT\"'"
    quotes = f"text with such characters needs quotes of two kinds, as in {quoted}"
    if not (key and equal) and not word.startswith("~"):
        return "an override is written key=value"
    if found := re.search(r"while evaluating '.*?': (.*)", message):
        return found[1]
    place = _unreadable(message)
    if place is not None and place <= len(key):
        return (
            f"a key has letters, digits, _ and dots, and no blank before the =; '{shown(word[place])}' is none of them"
        )
    if (opened := _left_open(value)) is not None:
        return f"{opened} is not closed"
    if place is not None and place < len(word):
        home = "; ~ is a folder only for the shell: write $HOME" if word[place] == "~" else ""
        return f"'{shown(word[place])}' can't stand here: {quotes}{home}"
    if value.rstrip().endswith(","):
        return "a value is missing after the last comma"
    return f"{_flat(error)}; {quotes}"


def _unreadable(message: str) -> int | None:
    """The place of the first character that Hydra can't read, by the caret of its message."""
    carets = [line for line in message.splitlines() if line.strip() == "^"]
    return len(carets[0]) - 1 - len(LEXER) if carets else None


def _left_open(value: str) -> str | None:
    """The first bracket or quote in `value` that is not closed."""
    quotes = re.sub(r"\\.", "", value)
    for quote in "'\"":
        if quotes.count(quote) % 2:
            return f"the quote {quote}"
    opened: list[str] = []
    for character in re.sub(r"'[^']*'|\"[^\"]*\"", "", quotes):
        if character in PAIRS:
            opened.append(character)
        elif opened and character == PAIRS[opened[-1]]:
            opened.pop()
    return f"the bracket {opened[0]}" if opened else None


def _flat(error: BaseException) -> str:
    """The message in one line, without the addresses and paths that Hydra adds."""
    message = str(error.msg) if isinstance(error, OmegaConfBaseException) and error.msg else str(error)
    lines = [line.strip() for line in message.partition("Config search path")[0].splitlines()]
    text = "; ".join(
        line for line in lines if line and not line.startswith(("See https://", "full_key", "object_type"))
    )
    text = text.replace(".; ", "; ")
    return shown(text) if len(text) <= 3 * LONGEST else f"{text[: 3 * LONGEST]}…"
