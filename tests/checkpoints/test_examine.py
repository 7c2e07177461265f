"""A checkpoint that isn't sound is refused before anything is computed, by file, tensor and `checkpoint.path`."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.checkpoints import examine, read_config
from sweep.checkpoints.tensors import read_tensors, write_tensors
from sweep.domain.errors import Refusal
from sweep.run.checkpoint import open_checkpoint
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.run.prepare import checkpoint_choice
from sweep.system.checkpoint_layouts import check_layout
from sweep.system.store import Store
from tests.conftest import COMPUTE
from tests.run.test_prepare import configured

EMBEDDING, BLOCK = "transformer.wte.weight", "transformer.blocks.0.ff_out.weight"


def opened(store: Store, folder: Path, *overrides: str) -> CheckpointFolder:
    source = CheckpointFolder(key="", folder=folder, config=None)  # type: ignore[arg-type]
    choice = checkpoint_choice(configured(source, *overrides))
    return open_checkpoint(store, choice, compute=COMPUTE, device=torch.device("cpu"))


def changed(stem: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A fault: the content of one file changed."""

    def apply(folder: Path) -> None:
        content = read_tensors(folder, stem)
        change(content)
        write_tensors(content, folder / f"{stem}.safetensors")

    return apply


def cut(name: str, size: int | None = None) -> Callable[[Path], None]:
    """A fault: a file that is cut to so many bytes, or to half."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[: size if size is not None else -99])


def set_to(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def as_pt(stem: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A fault: the file in PyTorch's own format, its bytes changed."""

    def apply(folder: Path) -> None:
        torch.save(read_tensors(folder, stem), folder / f"{stem}.pt")
        (folder / f"{stem}.safetensors").unlink()
        (folder / f"{stem}.pt").write_bytes(change((folder / f"{stem}.pt").read_bytes()))

    return apply


def said(old: str, new: str) -> Callable[[Path], object]:
    """A fault: another word in config.yaml."""

    def apply(folder: Path) -> None:
        text = (folder / "config.yaml").read_text()
        assert old in text
        (folder / "config.yaml").write_text(text.replace(old, new))

    return apply


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "model cut": (cut("model.safetensors"), r"model\.safetensors is cut, damaged"),
    "model empty": (cut("model.safetensors", 0), r"model\.safetensors is empty"),
    "model cut in its header": (cut("model.safetensors", 40), r"model\.safetensors is cut, damaged"),
    "model.pt cut": (as_pt("model", lambda data: data[:-500]), r"model\.pt is cut, damaged"),
    "model.pt empty": (as_pt("model", lambda data: b""), r"model\.pt is empty"),
    "model.pt of words": (as_pt("model", lambda data: b"words" * 99), r"model\.pt is cut, damaged"),
    "model.pt with code": (
        as_pt("model", lambda data: pickle.dumps(Malicious(), protocol=2)),
        r"model\.pt .* never executed",
    ),
    "optim cut": (cut("optim.safetensors"), r"optim\.safetensors is cut, damaged"),
    "optim empty": (cut("optim.safetensors", 0), r"optim\.safetensors is empty"),
    "optim.pt cut": (as_pt("optim", lambda data: data[:-500]), r"optim\.pt is cut, damaged"),
    "train empty": (cut("train.pt", 0), r"train\.pt is empty"),
    "train of words": (set_to("train.pt", b"words"), r"train\.pt is cut, damaged"),
    "train cut": (cut("train.pt"), r"train\.pt is cut, damaged"),
    "a tensor missing": (changed("model", lambda c: c.pop(EMBEDDING)), rf"model\.safetensors has no {EMBEDDING}"),
    "a tensor too many": (
        changed("model", lambda c: c.update({"transformer.blocks.7.x": torch.zeros(2)})),
        r"model\.safetensors has tensors .* no place for: transformer\.blocks\.7\.x",
    ),
    "a wrong shape": (
        changed("model", lambda c: c.update({EMBEDDING: torch.zeros(64, 8)})),
        rf"{EMBEDDING} has the shape \(64, 8\), and .* must be \(64, 16\)",
    ),
    "a NaN weight": (
        changed("model", lambda c: c[BLOCK][0].fill_(float("nan"))),
        rf"model\.safetensors: {BLOCK} has 32 of 512 numbers that are NaN or infinite",
    ),
    "an infinite weight": (changed("model", lambda c: c[BLOCK][0, :1].fill_(float("inf"))), rf"{BLOCK} has 1 of 512"),
    "weights of integers": (
        changed("model", lambda c: c.update({BLOCK: torch.zeros(16, 32, dtype=torch.int8)})),
        rf"{BLOCK} holds int8; allowed: float32, bfloat16",
    ),
    "a NaN moment": (
        changed("optim", lambda c: c["state"][BLOCK]["exp_avg"].fill_(float("nan"))),
        rf"optim\.safetensors: {BLOCK}\.exp_avg has 512 of 512 numbers",
    ),
    "a negative square": (
        changed("optim", lambda c: c["state"][BLOCK]["exp_avg_sq"].fill_(-1.0)),
        rf"{BLOCK}\.exp_avg_sq has negative numbers",
    ),
    "a moment missing": (changed("optim", lambda c: c["state"][BLOCK].pop("exp_avg")), rf"has no {BLOCK}\.exp_avg"),
    "a step missing": (changed("optim", lambda c: c["state"][BLOCK].pop("step")), rf"has no step of {BLOCK}"),
    "a step that is none": (
        changed("optim", lambda c: c["state"][BLOCK].update(step=torch.tensor(float("nan")))),
        rf"{BLOCK}\.step is no number",
    ),
    "a moment of another shape": (
        changed("optim", lambda c: c["state"][BLOCK].update(exp_avg=torch.zeros(3))),
        rf"{BLOCK}\.exp_avg has the shape \(3,\)",
    ),
    "no param groups": (changed("optim", lambda c: c.pop("param_groups")), r"optim\.safetensors has no param_groups"),
    "a group without betas": (changed("optim", lambda c: c["param_groups"][0].pop("betas")), r"groups\.0 has no betas"),
    "a NaN learning rate": (
        changed("optim", lambda c: c["param_groups"][0].update(lr=float("nan"))),
        r"param_groups\.0 has lr=nan",
    ),
    "heads": (said("n_heads: 2", "n_heads: 7"), r"config\.yaml: model\.n_heads=7: d_model=16 can't be divided"),
    "no layers": (said("n_layers: 2", "n_layers: -1"), r"config\.yaml: model\.n_layers=-1: must be at least 1"),
    "too many layers": (said("n_layers: 2", "n_layers: 999999999"), r"model\.n_layers=999999999: must be at most"),
    "fewer layers": (said("n_layers: 2", "n_layers: 1"), r"no place for: transformer\.blocks\.1"),
    "another width": (said("d_model: 16", "d_model: 32"), r"has the shape \(.*\), and .* must be"),
    "another vocabulary": (
        said("vocab_size: 64\n", "vocab_size: 99\n"),
        r"model\.embedding_size=64: must be at least vocab_size=99",
    ),
    "an end that is no token": (said("eos_token_id: 0", "eos_token_id: 64"), r"model\.eos_token_id=64: must be below"),
    "no batch": (said("global_train_batch_size: 2", "global_train_batch_size: 0"), r"global_train_batch_size=0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_sound_is_refused_by_its_name(
    store: Store, source: CheckpointFolder, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it, complaint = FAULTS[fault]
    break_it(source.folder)
    with pytest.raises(Refusal, match=complaint) as refused:
        opened(store, source.folder)
    message = str(refused.value)
    assert message.startswith(f"checkpoint.path={source.folder}: ")
    assert "\n" not in message
    assert "executed" not in capsys.readouterr().out.replace("never executed", "")


def test_a_broken_optimizer_is_nobodys_business_that_starts_a_new_one(store: Store, source: CheckpointFolder) -> None:
    FAULTS["a NaN moment"][0](source.folder)
    assert opened(store, source.folder, "anneal.optimizer=fresh", "anneal.warmup_steps=2").folder == source.folder


def test_each_content_is_examined_once(store: Store, source: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(store, source.folder)
    monkeypatch.delattr("sweep.run.checkpoint.examine")
    opened(store, source.folder)
    FAULTS["a NaN weight"][0](source.folder)
    with pytest.raises(NameError):
        opened(store, source.folder)


@pytest.mark.parametrize("spelling", ["safetensors", "pt"])
def test_all_tensors_are_counted(source: CheckpointFolder, spelling: str) -> None:
    if spelling == "pt":
        for stem in ("model", "optim"):
            as_pt(stem, bytes)(source.folder)
    found = examine(source.folder, read_config(source.folder), optimizer=True)
    number = len(read_tensors(source.folder, "model"))
    assert found == {f"model.{spelling}": number, f"optim.{spelling}": 2 * number}


LAYOUTS = {
    "OLMo-core": (["config.json", ".metadata.json", "model_and_optim/.metadata", "train/rank0.pt"], "OLMo-core"),
    "torch": ([".metadata", "__0_0.distcp"], r"torch\.distributed\.checkpoint"),
    "OLMo sharded": (["config.yaml", "model/rank0.pt", "optim/rank0.pt"], "an OLMo sharded checkpoint"),
    "DeepSpeed": (["latest", "zero_to_fp32.py", "global_step5/mp_rank_00_model_states.pt"], "a DeepSpeed ZeRO"),
    "Megatron": (["latest_checkpointed_iteration.txt", "iter_0000005/mp_rank_00/model_optim_rng.pt"], "a Megatron"),
    "FSDP": (["pytorch_model_fsdp.bin", "optimizer.bin"], "an FSDP checkpoint"),
    "Orbax": (["_CHECKPOINT_METADATA", "manifest.ocdbt"], "an Orbax"),
    "LoRA": (["adapter_config.json", "adapter_model.safetensors"], "a LoRA adapter"),
    "GGUF": (["model-q4.gguf"], "a GGUF file"),
    "steps": (["step5-unsharded/config.yaml", "step9-unsharded/config.yaml"], "2 checkpoints, step5-unsharded, step9"),
    "empty": ([], "it is empty"),
    "photographs": (["a.jpg"], r"it holds a\.jpg; allowed: an OLMo unsharded folder"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_is_not_read_is_named_for_what_it_is(store: Store, tmp_path: Path, layout: str) -> None:
    files, complaint = LAYOUTS[layout]
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("{}")
    with pytest.raises(Refusal, match=complaint) as refused:
        opened(store, folder)
    assert str(refused.value).startswith(f"checkpoint.path={folder}: ")


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"model_type": "olmo2", "quantization_config": {"quant_method": "gptq"}}, r"are quantised \(gptq\)"),
        (["no object"], "is not a JSON object"),
    ],
)
def test_a_hub_folder_that_can_not_be_annealed_is_named(tmp_path: Path, config: Any, complaint: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match=complaint):
        check_layout(tmp_path)


@pytest.mark.parametrize("path", ["/nowhere/at/all", __file__])
def test_what_is_no_folder_is_refused(store: Store, path: str) -> None:
    with pytest.raises(Refusal, match=rf"checkpoint\.path={path}: (there is no such folder|it is a file)"):
        opened(store, Path(path))
