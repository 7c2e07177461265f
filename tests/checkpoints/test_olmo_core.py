"""OLMo-core's step folders are read without its package, and nothing in them runs."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file

from sweep.checkpoints import olmo_core
from sweep.checkpoints.tensors import Unreadable
from tests.skips import NO_OLMO_CORE

SHARED = Path(os.environ.get("OLMO_CORE_FIXTURES", Path(__file__).parents[3] / "shared" / "olmo_core"))
FOLDERS = ("fixtures/olmo2/step200", "fixtures/olmo3/step200", "fixtures/olmo3/step200-fsdp2", "legacy/1.8.0/step100")
needs_fixtures = pytest.mark.skipif(not SHARED.is_dir(), reason=NO_OLMO_CORE)


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


@pytest.fixture
def written(tmp_path):
    state = {"model.w_out.weight": torch.arange(6.0).reshape(2, 3), "optim.param_groups.0.lr": 0.5}
    state["optim.param_groups.0.params"] = ["w_out.weight"]
    with pytest.warns(UserWarning, match="single process"):
        dcp.save(state, checkpoint_id=str(tmp_path / "model_and_optim"), no_dist=True)
    return tmp_path


def test_names_and_groups_of_old_releases_are_read_as_todays(written):
    assert torch.equal(olmo_core.read_weights(written)["lm_head.w_out.weight"], torch.arange(6.0).reshape(2, 3))
    assert olmo_core.read_groups(written) == {"lm_head.w_out.weight": {"lr": 0.5}}


def damaged(folder: Path, change) -> None:
    file = folder / "model_and_optim" / ".metadata"
    described = pickle.loads(file.read_bytes())
    change(described)
    file.write_bytes(pickle.dumps(described))


def outside(described) -> None:
    for place in described.storage_data.values():
        place.relative_path = "../elsewhere.distcp"


def test_a_file_outside_of_the_folder_is_not_read(written):
    damaged(written, outside)
    with pytest.raises(Unreadable, match="outside of its folder"):
        olmo_core.read_weights(written)


def test_a_missing_part_and_a_missing_file_are_refused(written):
    next((written / "model_and_optim").glob("*.distcp")).unlink()
    with pytest.raises(Unreadable, match="is not there"):
        olmo_core.read_weights(written)
    damaged(written, lambda described: described.storage_data.clear())
    with pytest.raises(Unreadable, match="0 of 6 numbers"):
        olmo_core.read_weights(written)


def test_a_size_larger_than_the_files_takes_no_memory(written):
    damaged(
        written,
        lambda described: setattr(
            described.state_dict_metadata["model.w_out.weight"], "size", torch.Size((10**6, 10**6))
        ),
    )
    with pytest.raises(Unreadable, match="larger than its files"):
        olmo_core.read_weights(written)


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
