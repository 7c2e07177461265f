"""The private parts of Hydra that we use; `tests/sweeps/test_hydra_private.py` fails if they change.

Hydra has no public way to apply overrides to a composed configuration, to compose one while another is in use, to
extend its completion by one key, to look at a configuration before its folders and logs are made, or to make an
override without its parser.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.types import Override, ValueType
from hydra.plugins.completion_plugin import CompletionPlugin
from omegaconf import DictConfig

NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
"""Numbers that Hydra's grammar and Python read alike."""
COMPOSE = Hydra.compose_config
"""Hydra's own."""


def apply_overrides(overrides: Sequence[Override], tree: DictConfig) -> None:
    """Apply overrides of values, not of groups, to a composed configuration, as Hydra does when it composes one."""
    ConfigLoaderImpl._apply_overrides_to_config(list(overrides), tree)


def group_exists(loader: Any, name: str) -> bool:
    """Whether there is a group of this name: quickly, where `get_group_options` copies all that Hydra has read."""
    return bool(loader.repository.group_exists(name))


def with_number(override: Override, word: str) -> Override | None:
    """What Hydra's parser makes of `word`, which sets the key of this override to a plain number; None: it is none.

    The parser takes milliseconds for each word, and a sweep may have thousands of numbers.
    """
    text = word.partition("=")[2]
    if (match := NUMBER.fullmatch(text)) is None:
        return None
    number = float(text) if match.lastindex else int(text)
    return dataclasses.replace(override, value_type=ValueType.ELEMENT, _value=number, input_line=word)


def loader_of(conf: Path) -> ConfigLoaderImpl:
    """A loader of the options in one folder alone, whatever other folders the running command has."""
    return ConfigLoaderImpl(create_config_search_path(str(conf)))


def guard_composing(
    guard: Callable[[Any, Sequence[str]], AbstractContextManager[None]], check: Callable[[DictConfig], None]
) -> None:
    """In this process, Hydra composes within `guard(config_loader, overrides)`, and then `check(configuration)`."""

    def compose_config(
        self: Any, config_name: str | None, overrides: list[str], *arguments: Any, **named: Any
    ) -> DictConfig:
        with guard(self.config_loader, overrides):
            config: DictConfig = COMPOSE(self, config_name, overrides, *arguments, **named)
        check(config)
        return config

    Hydra.compose_config = compose_config


def extend_completion(offers: Callable[[Any, str | None, str], list[str] | None]) -> None:
    """In this process, ask `offers(config_loader, config_name, line)` first; where it gives None, Hydra completes."""
    hydras_own = CompletionPlugin._query

    def query(self: Any, config_name: str | None, line: str) -> list[str]:
        offered = offers(self.config_loader, config_name, line)
        return hydras_own(self, config_name, line) if offered is None else offered

    CompletionPlugin._query = query
