"""The private parts of Hydra that we use; `tests/sweeps/test_hydra_private.py` fails if they change.

Hydra has no public way to apply overrides to a composed configuration, or to extend its completion by one key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from hydra.plugins.completion_plugin import CompletionPlugin
from omegaconf import DictConfig


def apply_overrides(overrides: Sequence[Override], tree: DictConfig) -> None:
    """Apply overrides of values, not of groups, to a composed configuration, as Hydra does when it composes one."""
    ConfigLoaderImpl._apply_overrides_to_config(list(overrides), tree)


def extend_completion(offers: Callable[[Any, str | None, str], list[str] | None]) -> None:
    """In this process, ask `offers(config_loader, config_name, line)` first; where it gives None, Hydra completes."""
    hydras_own = CompletionPlugin._query

    def query(self: Any, config_name: str | None, line: str) -> list[str]:
        offered = offers(self.config_loader, config_name, line)
        return hydras_own(self, config_name, line) if offered is None else offered

    CompletionPlugin._query = query
