"""The parts of lm-eval that it does not promise to keep. Nothing else in this project touches them.

`tests/evaluate/test_lm_eval_private.py` fails when one of them changes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lm_eval.utils
from lm_eval.tasks import _yaml_loader

_compiled = functools.cache(lm_eval.utils.env.from_string)


def task_config(path: Path) -> dict[str, Any]:
    """The configuration in one of lm-eval's task files, with what the file includes.

    lm-eval's public way, `TaskManager.load`, also fetches the data from the Hub.
    """
    return _yaml_loader.load_yaml(path)


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
