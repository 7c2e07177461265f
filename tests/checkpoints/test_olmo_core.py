"""OLMo-core's step folders are read without its package, and nothing in them runs."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sweep.checkpoints import olmo_core
from sweep.checkpoints.tensors import Unreadable

SHARED = Path(os.environ.get("OLMO_CORE_FIXTURES", Path(__file__).parents[3] / "shared" / "olmo_core"))
FOLDERS = ("fixtures/olmo2/step200", "fixtures/olmo3/step200", "fixtures/olmo3/step200-fsdp2", "legacy/1.8.0/step100")
needs_fixtures = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the folders that OLMo-core wrote are not on this machine"
)


class Runs:
    def __reduce__(self):
        return os.system, ("false",)


def folder_with(tmp_path: Path, file: str, data: bytes) -> Path:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return tmp_path


HOSTILE = [
    pickle.dumps(Runs()),
    b"\x80\x04\x8c\x27torch.distributed.checkpoint.filesystem\x8c\x09os.system\x93\x8c\x05false\x85R.",
    pickle.dumps({"no": "metadata"}),
    b"",
]


@pytest.mark.parametrize("data", HOSTILE, ids=["a call", "a dotted name of an allowed module", "no metadata", "empty"])
def test_a_hostile_or_damaged_metadata_is_refused(tmp_path, data):
    with pytest.raises(Unreadable, match=r"\.metadata"):
        olmo_core.read_metadata(folder_with(tmp_path, "model_and_optim/.metadata", data))


def test_a_hostile_trainer_state_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    torch.save({"global_step": Runs()}, tmp_path / "train" / "rank0.pt")
    with pytest.raises(Unreadable, match="without running code"):
        olmo_core.read_train_state(tmp_path)


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("dataset.generate_doc_lengths", {"dataset": {"generate_doc_lengths": True}}),
        ("dataset.label_mask_paths", {"dataset": {"label_mask_paths": ["a"]}}),
        ("model.block.feed_forward_moe", {"model": {"block": {"feed_forward_moe": {"a": 1}}}}),
        ("train_module.float8_config", {"train_module": {"float8_config": {"enabled": True}}}),
        ("dataset=NumpyVSLDatasetConfig", {"dataset": {"_CLASS_": "NumpyVSLDatasetConfig"}}),
    ],
)
def test_a_choice_that_is_not_supported_is_refused_by_its_name(tmp_path, key, part):
    config = {"model": {}, "dataset": {}} | part
    with pytest.raises(Unreadable, match=key):
        olmo_core.read_config(folder_with(tmp_path, "config.json", json.dumps(config).encode()))


@needs_fixtures
@pytest.mark.parametrize("name", FOLDERS)
def test_every_layout_gives_weights_rates_and_place(name):
    folder = SHARED / name
    weights, groups, state = (
        read(folder) for read in (olmo_core.read_weights, olmo_core.read_groups, olmo_core.read_train_state)
    )
    assert weights.keys() == groups.keys()
    assert {"embeddings.weight", "lm_head.norm.weight", "lm_head.w_out.weight"} <= weights.keys()
    assert {group["weight_decay"] for name, group in groups.items() if name != "embeddings.weight"} == {0.1}
    assert groups["embeddings.weight"]["weight_decay"] == 0.0
    assert state["data_loader"]["epoch"] >= 1
    assert olmo_core.read_config(folder)["model"]["vocab_size"] == len(weights["embeddings.weight"])


@needs_fixtures
@pytest.mark.parametrize("model", ["olmo2", "olmo3"])
def test_weights_are_those_of_olmo_cores_own_export(model):
    weights = olmo_core.read_weights(SHARED / "fixtures" / model / "step200")
    exported = load_file(SHARED / "fixtures" / model / "step200-hf" / "model.safetensors")
    rows = len(exported["lm_head.weight"])
    assert torch.equal(weights["lm_head.w_out.weight"][:rows], exported["lm_head.weight"])
    assert torch.equal(weights["blocks.1.attention.w_q.weight"], exported["model.layers.1.self_attn.q_proj.weight"])
