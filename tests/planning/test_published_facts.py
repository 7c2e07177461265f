"""What each option of a published model states equals what its sources say, typed here a second time.

Sources were read on 2026-11-28: lists from the CSV files of allenai/OLMo (of OLMo 1: before commit 889aaaa5, which
removed them), anneals left out, and from checkpoints/weka_paths.jsonl of allenai/DataDecide (commit 68abc496), whose
seed 2, or no seed, is run=default; sizes, batches and lengths from allenai/OLMo's YAML files and DataDecide's README.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import pytest

from sweep.commands.main import CONF
from sweep.config.published import check_listed, folder_of, listed_steps
from tests.composing import composed

LOADED = {path.stem for path in (CONF / "model").glob("*.yaml") if "published:" in path.read_text()}


class Facts(NamedTuple):
    """Default step, number of checkpoints, digest of their steps and folders, batch, length, width, blocks."""

    step: int
    listed: int
    digest: str
    batch: int
    length: int
    width: int
    blocks: int


OLMO = {
    # OLMo-1B.csv, configs/official-0724/OLMo-1B.yaml
    "olmo-1b": Facts(738020, 351, "5c64e71dd31a3a7c", 2048, 2048, 2048, 16),
    # OLMo-7B.csv to 556000, and 37 early ones of configs/official-0724/OLMo-7B-0724.csv, which is misnamed (OLMo#796)
    "olmo-7b": Facts(556000, 558, "ebb1b9a01861d0bf", 2160, 2048, 4096, 32),
    "olmo-7b-0424": Facts(477000, 504, "9e413fabb07aa8ee", 1024, 4096, 4096, 32),  # OLMo-7B-0424.csv to 477000
    "olmo-7b-0724": Facts(639650, 675, "628f0d1715f702f9", 1024, 4096, 4096, 32),  # OLMo-7B-0724.csv to 639650
    "olmo2-1b": Facts(1907359, 194, "fbcd511a9424fe8b", 512, 4096, 2048, 16),  # OLMo-2-0425-1B.csv
    # OLMo-2-1124-7B.csv, and 928646, which OLMo2-7B-stage2-seed42.yaml loads
    "olmo2-7b": Facts(928646, 935, "8fdb19e96559e965", 1024, 4096, 4096, 32),
    "olmo2-13b": Facts(596057, 649, "ddec5feed95346c6", 2048, 4096, 5120, 40),  # OLMo-2-1124-13B.csv
}

# Interval, last regular step, further steps, batch, width, blocks; the first of the further steps is the default.
DATADECIDE = {
    "4m": (1250, 5000, (5725, 5735, 5745), 32, 64, 8),
    "6m": (1250, 8750, (9182,), 32, 96, 8),
    "8m": (1250, 12500, (13039,), 32, 128, 8),
    "10m": (1250, 15000, (15117,), 32, 144, 8),
    "14m": (1250, 21250, (21953,), 32, 192, 8),
    "16m": (1250, 23750, (24432,), 32, 208, 8),
    "20m": (1250, 13750, (14584, 14594), 64, 192, 16),
    "60m": (1250, 28750, (29042, 29052, 29062), 96, 384, 16),
    "90m": (1250, 28750, (29901,), 160, 528, 16),
    "150m": (1250, 37500, (38157, 38167, 38750), 192, 768, 12),
    "300m": (1250, 45000, (45787, 45797, 46250), 320, 1024, 16),
    "530m": (1250, 57500, (57776, 57786, 51411), 448, 1344, 16),
    "750m": (1250, 62500, (63589, 63599, 28257), 576, 1536, 16),
    "1b": (2500, 67500, (69369, 17339), 704, 2048, 16),
}


def test_every_published_option_is_in_a_table() -> None:
    assert {*OLMO, *(f"datadecide-{size}" for size in DATADECIDE), "olmo-1b-0724"} == LOADED


@pytest.mark.parametrize("name", OLMO)
def test_an_olmos_checkpoints_and_sizes_are_its_sources(name: str) -> None:
    model = composed(f"model={name}", "anneal=none").model
    published, steps = model.published, listed_steps(model.published)
    lines = "".join(f"{step},{folder_of(published, step)}\n" for step in steps)
    assert Facts(
        model.checkpoint_step,
        len(steps),
        hashlib.sha256(lines.encode()).hexdigest()[:16],
        model.batch_size,
        model.sequence_length,
        model.architecture["d_model"],
        model.architecture["n_layers"],
    ) == OLMO[name]  # fmt: skip


@pytest.mark.parametrize("size", DATADECIDE)
def test_a_datadecide_models_checkpoints_and_sizes_are_its_sources(size: str) -> None:
    interval, regular, further, batch, width, blocks = DATADECIDE[size]
    model = composed(f"model=datadecide-{size}", "anneal=none").model
    assert listed_steps(model.published) == sorted([*range(interval, regular + 1, interval), *further])
    assert model.checkpoint_step == further[0], "the checkpoint at the end of the cosine"
    check_listed(model.name, model.published, further[0], "auto")
    assert (model.batch_size, model.sequence_length) == (batch, 2048)
    assert (model.architecture["d_model"], model.architecture["n_layers"]) == (width, blocks)
