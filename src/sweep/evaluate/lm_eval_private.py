"""The parts of lm-eval that it does not promise to keep. Nothing else in this project touches them.

`tests/evaluate/test_lm_eval_private.py` fails when one of them changes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lm_eval.utils
from lm_eval.api.registry import get_metric, get_metric_aggregation, is_higher_better
from lm_eval.tasks import _yaml_loader

_compiled = functools.cache(lm_eval.utils.env.from_string)


def task_config(path: Path) -> dict[str, Any]:
    """The configuration in one of lm-eval's task files, with what the file includes.

    lm-eval's public way, `TaskManager.load`, also fetches the data from the Hub.
    """
    return _yaml_loader.load_yaml(path)


def give_also(definition: Any, metrics: Iterable[str]) -> None:
    """Let lm-eval's own formulas give a multiple-choice task these metrics besides those that it lists."""
    for name in metrics:
        if name not in definition._metric_fn_list:
            definition._metric_fn_list[name] = get_metric(name)
            definition._metric_fn_kwargs[name] = {}
            definition._aggregation_list[name] = get_metric_aggregation(name)
            definition._higher_is_better[name] = is_higher_better(name)


def listed_metrics(definition: Any) -> Iterable[str]:
    """The metrics that lm-eval computes for a task."""
    return tuple(definition._metric_fn_list)


def take_away(definition: Any, metric: str) -> None:
    """Let lm-eval not compute a metric that the task lists."""
    definition._metric_fn_list.pop(metric, None)


@contextmanager
def templates_compiled_once() -> Iterator[None]:
    """Within the block lm-eval compiles each Jinja template once.

    By itself it compiles them anew for every document: 27 s instead of 4 s for the eight core tasks.
    """
    lm_eval.utils.env.from_string = _compiled
    try:
        yield
    finally:
        del lm_eval.utils.env.from_string
