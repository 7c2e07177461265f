"""OLMo-core's step folders are read without its package, and nothing in them runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch.distributed.checkpoint import filesystem, metadata

from sweep.checkpoints import olmo_core
from sweep.checkpoints.olmo_core_config import read_config, token_dtype, windows
from sweep.checkpoints.olmo_core_import import _groups, import_step_folder
from sweep.checkpoints.tensors import Unreadable
from tests.skips import NO_OLMO_CORE

SHARED = Path(os.environ.get("OLMO_CORE_FIXTURES", Path(__file__).parents[3] / "shared" / "olmo_core"))
SMALL = Path(__file__).parents[1] / "run" / "olmo_core" / "step100"
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
        ("dataset.source_mixture_config", {"dataset": {"source_mixture_config": {"a": 1}}}),
        ("train_module.float8_config", {"model": {"float8_config": {"enabled": True}}}),
        ("train_module.optim.type=lion", {"optim": {"type": "lion"}}),
        ("dataset=numpy_vsl", {"dataset": {"type": "numpy_vsl"}}),
        ("dataset.max_target_sequence_length=100", {"dataset": {"max_target_sequence_length": 100}}),
        ("data_loader.global_batch_size=1000", {"data_loader": {"global_batch_size": 1000}}),
        (r"has \$\{ in one of its values", {"dataset": {"paths": ["${oc.env:HOME}"]}}),
        ("model.n_layers=20000", {"model": {"n_layers": 20000}}),
        ('dataset.tokenizer.vocab_size="x"', {"dataset": {"tokenizer": {"vocab_size": "x"}}}),
        ("dataset.dtype=int64", {"dataset": {"dtype": "int64"}}),
        ("model.block.name=.default", {"model": {"block": {"name": "default"}}}),
        ("model.tie_word_embeddings", {"model": {"tie_word_embeddings": True}}),
        ("attention.rope.scaling", {"model": {"block": {"attention": {"rope": {"scaling": {"factor": 8}}}}}}),
        ("attention.qk_norm=None", {"model": {"block": {"attention": {"qk_norm": None}}}}),
        ("attention.head_dim=64", {"model": {"block": {"attention": {"head_dim": 64}}}}),
        ("attention.attention_sinks", {"model": {"block": {"attention": {"attention_sinks": True}}}}),
    ],
)
def test_a_choice_that_is_not_followed_is_refused_by_its_name(tmp_path, key, part):
    config = merged(json.loads((SMALL / "config.json").read_text()), part)
    with pytest.raises(Unreadable, match=key):
        read_config(folder_with(tmp_path, "config.json", json.dumps(config).encode()))


def merged(config, part):
    """The configuration with some of its leaves changed."""
    if not isinstance(config, dict) or not isinstance(part, dict):
        return part
    return {**config, **{key: merged(config.get(key), value) for key, value in part.items()}}


def test_a_configuration_that_is_none_is_refused_in_one_line(tmp_path):
    for text in ("", "[]", "{}", '{"model": {}, "dataset": {}}', '{"model": {"block": 3}, "dataset": {}}'):
        with pytest.raises(Unreadable, match=r"config\.json") as refused:
            read_config(folder_with(tmp_path, "config.json", text.encode()))
        assert "\n" not in str(refused.value)


@pytest.fixture
def written(tmp_path):
    state = {"model.w_out.weight": torch.arange(6.0).reshape(2, 3), "optim.param_groups.0.lr": 0.5}
    state["optim.param_groups.0.params"] = ["w_out.weight"]
    return save(tmp_path, state)


def save(folder: Path, state: dict[str, object]) -> Path:
    with pytest.warns(UserWarning, match="single process"):
        dcp.save(state, checkpoint_id=str(folder / "model_and_optim"), no_dist=True)
    return folder


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


def test_parts_that_overlap_and_leave_a_hole_are_refused(tmp_path):
    save(tmp_path, {"model.w.weight": torch.zeros(4, 2)})
    folder = tmp_path / "model_and_optim"
    for first in (0, 1):  # rows 0 and 1, rows 1 and 2, and no row 3: as many numbers as the whole has
        torch.save(torch.ones(2, 2), folder / f"__{first}_0.part")

    def overlap(described) -> None:
        described.storage_data = {
            metadata.MetadataIndex("model.w.weight", torch.Size((first, 0)), first): filesystem._StorageInfo(
                f"__{first}_0.part", 0, (folder / f"__{first}_0.part").stat().st_size
            )
            for first in (0, 1)
        }

    damaged(tmp_path, overlap)
    with pytest.raises(Unreadable, match="6 of 8 numbers"):
        olmo_core.read_weights(tmp_path)


def cut(folder: Path) -> None:
    file = folder / "model_and_optim" / "__0_4.distcp"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def one_bit(folder: Path) -> None:
    file = folder / "model_and_optim" / "__0_4.distcp"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def five_heads(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(file.read_text().replace('"n_heads": 4', '"n_heads": 5'))


def one_layer_more(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(file.read_text().replace('"n_layers": 2', '"n_layers": 3'))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, r"__0_4.distcp can't be read at byte"),
        (one_bit, r"__0_4.distcp can't be read at byte .* is damaged"),
        (five_heads, "config.json: model.n_heads=5: d_model=32 can't be divided by it"),
        (one_layer_more, "the weights have no blocks.2"),
    ],
)
def test_a_damaged_step_folder_is_refused_in_one_line(tmp_path, damage, words):
    shutil.copytree(SMALL, tmp_path / "step100")
    damage(tmp_path / "step100")
    with pytest.raises(ValueError, match=words) as refused:
        import_step_folder(tmp_path / "step100", tmp_path / "out")
    assert "\n" not in str(refused.value)


def test_metadata_of_odd_types_are_refused(written):
    def odd(described) -> None:
        described.state_dict_metadata["model.w_out.weight"].size = (2, 3)

    damaged(written, odd)
    with pytest.raises(Unreadable, match="no metadata of a checkpoint"):
        olmo_core.read_weights(written)


def test_a_configuration_of_before_1_7_has_its_head_beside_the_blocks(tmp_path):
    config = json.loads((SMALL / "config.json").read_text())
    head = config["model"].pop("lm_head")
    config["model"] |= {"layer_norm": head["layer_norm"], "bias": False}
    assert read_config(folder_with(tmp_path, "config.json", json.dumps(config).encode()))["model"]["lm_head"]
    config["model"]["bias"] = True
    with pytest.raises(Unreadable, match=r"model\.lm_head\.bias=true is not followed; allowed: false"):
        read_config(folder_with(tmp_path, "config.json", json.dumps(config).encode()))


def test_parameters_with_equal_settings_form_a_group_with_its_own_rate():
    base = {"lr": 0.02, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    first, second, third = _groups(
        {"a": {**base, "lr": 0.01}, "b": base, "c": base, "d": {**base, "weight_decay": 0.0}}
    )
    assert (first.params, first.lr_ratio, first.weight_decay) == (None, 1.0, 0.1)
    assert (second.params, second.lr_ratio, second.weight_decay) == (["a"], 0.5, 0.1)
    assert (third.params, third.lr_ratio, third.weight_decay) == (["d"], 1.0, 0.0)


def test_windows_follow_olmo_cores_pattern():
    def of(**chosen):
        attention = {"sliding_window": {"pattern": [4, 4, -1], **chosen}}
        return windows({"model": {"n_layers": 5, "block": {"attention": attention}}})

    assert of() == [-1, 4, 4, -1, -1]
    assert of(force_full_attention_on_first_layer=False) == [4, 4, -1, 4, -1]
    assert of(force_full_attention_on_last_layer=False) == [-1, 4, 4, -1, 4]


def test_a_vocabulary_decides_the_type_of_its_tokens():
    assert [token_dtype(size) for size in (256, 257, 65536, 65537)] == ["uint8", "uint16", "uint16", "uint32"]


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
    assert read_config(folder)["model"]["vocab_size"] == len(weights["embeddings.weight"])


@needs_fixtures
@pytest.mark.parametrize("model", ["olmo2", "olmo3"])
def test_weights_are_those_of_olmo_cores_own_export(model):
    weights = olmo_core.read_weights(SHARED / "fixtures" / model / "step200")
    exported = load_file(SHARED / "fixtures" / model / "step200-hf" / "model.safetensors")
    rows = len(exported["lm_head.weight"])
    assert torch.equal(weights["lm_head.w_out.weight"][:rows], exported["lm_head.weight"])
    assert torch.equal(weights["blocks.1.attention.w_q.weight"], exported["model.layers.1.self_attn.q_proj.weight"])
