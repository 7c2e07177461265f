"""Which checkpoints are averaged, of a folder's, an embedded and a published model's trajectory; whole or absent."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from olmo.config import TrainConfig

from sweep.checkpoints import download, export_folder, fresh_state, read_config, read_position
from sweep.checkpoints.olmo import write_position
from sweep.checkpoints.tensors import read_tensors, write_tensors
from sweep.config import Merge, RunConfig, merged_steps
from sweep.data.tokenizer import trained_tokenizer
from sweep.domain.errors import Refusal
from sweep.run import average as room
from sweep.run import published
from sweep.run.average import averaged_checkpoint
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.run.prepare import _embedded_folder, checkpoint_choice
from sweep.run.published import published_checkpoint
from sweep.system.store import Store
from tests.checkpoints.server import serving
from tests.checkpoints.test_huggingface import OLMO1, RULES, TRAINING
from tests.composing import composed

CPU = torch.device("cpu")


def averaged(store: Store, config: RunConfig, last: CheckpointFolder) -> CheckpointFolder:
    assert config.anneal.merge is not None
    embedded = partial(_embedded_folder, store, config.model, config.compute, CPU)
    return averaged_checkpoint(store, config.anneal.merge, last, checkpoint_choice(config), embedded)


PLAIN = Merge(last=3, weights="uniform", interval=None)


def test_the_last_ones_up_to_the_chosen_step() -> None:
    assert merged_steps(PLAIN, "m", 40, [10, 20, 30, 40, 50]) == (20, 30, 40)
    spaced = dataclasses.replace(PLAIN, interval=15)
    assert merged_steps(spaced, "m", 40, range(1, 100)) == (10, 25, 40)


@pytest.mark.parametrize(
    ("interval", "listed", "complaint"),
    [
        (None, [30, 40], "anneal.merge.last=3 needs 3 checkpoints of m up to step 40, and 2 are there"),
        (10, [20, 40], "anneal.merge.last=3 and anneal.merge.interval=10 needs .* there is none at step 30"),
        (20, range(1, 41), "there is none at step 0"),
    ],
)
def test_too_few_are_refused(interval: int | None, listed: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        merged_steps(dataclasses.replace(PLAIN, interval=interval), "m", 40, listed)


@pytest.fixture
def earlier(source: CheckpointFolder, tmp_path: Path) -> list[Path]:
    """Checkpoints at steps 10 and 20, with the weights of the one at step 30, times 1 and 2."""
    folders = []
    for times, step in ((1, 10), (2, 20)):
        folder = tmp_path / "earlier" / f"step{step}-unsharded"
        shutil.copytree(source.folder, folder)
        weights = {name: times * tensor for name, tensor in read_tensors(folder, "model").items()}
        torch.save(weights, folder / "model.pt")
        (folder / "model.safetensors").unlink()
        (folder / "optim.safetensors").unlink()
        write_position(folder, step=step, epoch=0, instances=2 * step, tokens=32 * step)
        folders.append(folder)
    return folders


def local(source: CheckpointFolder, paths: str, *overrides: str) -> RunConfig:
    return composed(
        "model=local", f"checkpoint.path={source.folder}", "anneal=merge", f"anneal.merge.paths={paths}", *overrides
    )


def test_a_local_trajectory_is_averaged_in_the_order_of_its_steps(
    store: Store, source: CheckpointFolder, earlier: list[Path]
) -> None:
    config = local(source, f"[{earlier[1]},{earlier[0]}]", "anneal.merge.last=3", "anneal.merge.weights=linear")
    made = averaged(store, config, source)
    facts = json.loads((made.folder / "merge.json").read_text())
    assert facts["steps"] == [10, 20, 30]
    assert read_position(made.folder, made.config).step == 30
    own, found = read_tensors(source.folder, "model"), read_tensors(made.folder, "model")
    scale = np.dot(facts["coefficients"], [1, 2, 1])
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, float(scale) * own[name], rtol=1e-6, atol=1e-9)


def test_a_pattern_names_them_all_and_the_last_are_taken(
    store: Store, source: CheckpointFolder, earlier: list[Path]
) -> None:
    config = local(source, f"{earlier[0].parent}/step*", "anneal.merge.last=2")
    made = averaged(store, config, source)
    assert json.loads((made.folder / "merge.json").read_text())["steps"] == [20, 30]


def test_the_same_average_is_made_once_and_another_is_another(
    store: Store, source: CheckpointFolder, earlier: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = f"[{earlier[0]},{earlier[1]}]"
    first = averaged(store, local(source, paths, "anneal.merge.last=3"), source)
    other = averaged(store, local(source, paths, "anneal.merge.last=3", "anneal.merge.weights=sqrt"), source)
    assert first.key != other.key
    monkeypatch.setattr(room, "average_folders", lambda *_, **__: pytest.fail("made again"))
    moved = earlier[0].rename(earlier[0].with_name("moved"))
    again = averaged(store, local(source, f"[{moved},{earlier[1]}]", "anneal.merge.last=3"), source)
    assert again == first, "the weights name it, not where they lie"


def test_a_merge_killed_half_way_leaves_nothing_and_the_next_is_whole(
    store: Store, source: CheckpointFolder, earlier: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = local(source, f"[{earlier[0]},{earlier[1]}]", "anneal.merge.last=3")
    whole = room.average_folders

    def killed(*arguments: Any, **more: Any) -> None:
        whole(*arguments, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(room, "average_folders", killed)
        with pytest.raises(KeyboardInterrupt):
            averaged(store, config, source)
    assert not store.keys("states")
    made = averaged(store, config, source)
    assert store.keys("states") == {made.key}
    assert {f.name for f in made.folder.iterdir()} == {
        "config.yaml", "model.safetensors", "train.pt", "merge.json", "entry.json"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("paths", "last", "complaint"),
    [
        ("[/nowhere]", 2, r"anneal\.merge\.paths=/nowhere: there is no file /nowhere"),
        ("/nowhere/*", 2, r"anneal\.merge\.paths=/nowhere/\* matches no file"),
        ("EARLIER", 4, r"anneal\.merge\.last=4 needs 4 checkpoints of .* up to step 30, and 3 are there"),
    ],
)
def test_a_local_trajectory_that_isnt_there_is_refused(
    store: Store, source: CheckpointFolder, earlier: list[Path], paths: str, last: int, complaint: str
) -> None:
    with pytest.raises(Refusal, match=complaint):
        averaged(
            store,
            local(source, paths.replace("EARLIER", f"{earlier[0].parent}/*"), f"anneal.merge.last={last}"),
            source,
        )


def test_two_folders_at_one_step_are_refused(store: Store, source: CheckpointFolder, earlier: list[Path]) -> None:
    shutil.copytree(earlier[0], earlier[0].with_name("again"))
    config = local(source, f"{earlier[0].parent}/*", "anneal.merge.last=2")
    with pytest.raises(Refusal, match=r"anneal\.merge\.paths: .* are both at step 10"):
        averaged(store, config, source)


def test_of_a_published_trajectory_the_weights_alone_are_downloaded_once(
    store: Store,
    source: CheckpointFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for step in (300, 10000):
        shutil.copytree(source.folder, tmp_path / f"served/ai2-llm/peteish1/step{step}-unsharded")
    config = composed("model=olmo2-1b", "checkpoint.step=20000", "anneal=merge", "anneal.merge.last=3")
    with serving(tmp_path / "served") as server, caplog.at_level(logging.INFO):
        monkeypatch.setenv(download.MIRROR, server.url)
        whole = published_checkpoint(store, checkpoint_choice(composed("model=olmo2-1b", "checkpoint.step=300")))
        server.gets.clear()
        made = averaged(store, config, source)
        assert {path.rpartition("/")[2] for path, _ in server.gets} == {"config.yaml", "train.pt", "model.safetensors"}
        assert not [path for path, _ in server.gets if "step300-" in path], f"{whole} has them"
        server.gets.clear()
        assert averaged(store, config, source) == made
        assert not server.gets
    assert json.loads((made.folder / "merge.json").read_text())["steps"] == [300, 10000, 20000]
    assert "merging olmo2-1b with steps 300, 10000: at most 11.9 GB to download" in caplog.text
    own = read_tensors(source.folder, "model")
    for name, tensor in read_tensors(made.folder, "model").items():
        torch.testing.assert_close(tensor, own[name], rtol=1e-6, atol=0)


def test_of_a_trajectory_on_the_hub_the_revisions_are_averaged(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(trained_tokenizer(["a text of some words"], vocab_size=300).to_str())
    asked: list[str] = []

    def snapshot(repository: str, revision: str, optimizer: str | None) -> Path:
        asked.append(revision)
        state = fresh_state(TrainConfig.new(**{**TRAINING, "seed": len(asked)}, model=OLMO1), device=CPU)
        folder = tmp_path / f"native{len(asked)}"
        folder.mkdir()
        write_tensors(state.model.state_dict(), folder / "model.safetensors")
        export_folder(folder, state.config, tmp_path / revision, tokenizer=tokenizer, rules=RULES)
        return tmp_path / revision

    monkeypatch.setattr(published, "snapshot", snapshot)
    config = composed("model=datadecide-4m", "checkpoint.step=2500", "anneal=merge", "anneal.merge.last=2")
    chosen = published_checkpoint(store, checkpoint_choice(config))
    source = CheckpointFolder(key="0" * 32, folder=chosen, config=read_config(chosen, optimizer=False))
    made = averaged(store, config, source)
    assert asked == ["step2500-seed-default", "step1250-seed-default"]
    assert json.loads((made.folder / "merge.json").read_text())["steps"] == [1250, 2500]
    late, early = (read_tensors(tmp_path / f"native{i}", "model") for i in (1, 2))
    for name, tensor in read_tensors(made.folder, "model").items():
        torch.testing.assert_close(tensor, (early[name] + late[name]) / 2, rtol=1e-6, atol=1e-9)
