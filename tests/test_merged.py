"""Which checkpoints are averaged, of a folder's, an embedded and a published model's trajectory; whole or absent."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweep import merged as room
from sweep.checkpoints import read_position
from sweep.checkpoints.olmo import write_position
from sweep.checkpoints.tensors import read_tensors
from sweep.config import Merge, RunConfig, merged_steps
from sweep.merged import merged
from sweep.refusal import Refusal
from sweep.store import Store
from sweep.trajectory import Source
from tests.test_config import composed

CPU = torch.device("cpu")
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
def earlier(source: Source, tmp_path: Path) -> list[Path]:
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


def local(source: Source, paths: str, *overrides: str) -> RunConfig:
    return composed(
        "model=local", f"checkpoint.path={source.folder}", "anneal=merge", f"anneal.merge.paths={paths}", *overrides
    )


def test_a_local_trajectory_is_averaged_in_the_order_of_its_steps(
    store: Store, source: Source, earlier: list[Path]
) -> None:
    config = local(source, f"[{earlier[1]},{earlier[0]}]", "anneal.merge.last=3", "anneal.merge.weights=linear")
    made = merged(store, config, source, device=CPU)
    facts = json.loads((made.folder / "merge.json").read_text())
    assert facts["steps"] == [10, 20, 30]
    assert read_position(made.folder, made.config).step == 30
    own, found = read_tensors(source.folder, "model"), read_tensors(made.folder, "model")
    scale = np.dot(facts["coefficients"], [1, 2, 1])
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, float(scale) * own[name], rtol=1e-6, atol=1e-9)


def test_a_pattern_names_them_all_and_the_last_are_taken(store: Store, source: Source, earlier: list[Path]) -> None:
    config = local(source, f"{earlier[0].parent}/step*", "anneal.merge.last=2")
    made = merged(store, config, source, device=CPU)
    assert json.loads((made.folder / "merge.json").read_text())["steps"] == [20, 30]


def test_the_same_average_is_made_once_and_another_is_another(
    store: Store, source: Source, earlier: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = f"[{earlier[0]},{earlier[1]}]"
    first = merged(store, local(source, paths, "anneal.merge.last=3"), source, device=CPU)
    other = merged(store, local(source, paths, "anneal.merge.last=3", "anneal.merge.weights=sqrt"), source, device=CPU)
    assert first.key != other.key
    monkeypatch.setattr(room, "average_folders", lambda *_, **__: pytest.fail("made again"))
    moved = earlier[0].rename(earlier[0].with_name("moved"))
    again = merged(store, local(source, f"[{moved},{earlier[1]}]", "anneal.merge.last=3"), source, device=CPU)
    assert again == first, "the weights name it, not where they lie"


def test_a_merge_killed_half_way_leaves_nothing_and_the_next_is_whole(
    store: Store, source: Source, earlier: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = local(source, f"[{earlier[0]},{earlier[1]}]", "anneal.merge.last=3")
    whole = room.average_folders

    def killed(*arguments: Any, **more: Any) -> None:
        whole(*arguments, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(room, "average_folders", killed)
        with pytest.raises(KeyboardInterrupt):
            merged(store, config, source, device=CPU)
    assert not store.keys("states")
    made = merged(store, config, source, device=CPU)
    assert store.keys("states") == {made.key}
    assert {f.name for f in made.folder.iterdir()} == {
        "config.yaml", "model.safetensors", "train.pt", "merge.json", "entry.json"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("paths", "last", "complaint"),
    [
        ("[/nowhere]", 2, r"anneal\.merge\.paths=/nowhere: .*config\.yaml is missing"),
        ("/nowhere/*", 2, r"anneal\.merge\.paths=/nowhere/\* matches no folder"),
        ("EARLIER", 4, r"anneal\.merge\.last=4 needs 4 checkpoints of .* up to step 30, and 3 are there"),
    ],
)
def test_a_local_trajectory_that_isnt_there_is_refused(
    store: Store, source: Source, earlier: list[Path], paths: str, last: int, complaint: str
) -> None:
    config = local(source, paths.replace("EARLIER", f"{earlier[0].parent}/*"), f"anneal.merge.last={last}")
    with pytest.raises(Refusal, match=complaint):
        merged(store, config, source, device=CPU)


def test_two_folders_at_one_step_are_refused(store: Store, source: Source, earlier: list[Path]) -> None:
    shutil.copytree(earlier[0], earlier[0].with_name("again"))
    config = local(source, f"{earlier[0].parent}/*", "anneal.merge.last=2")
    with pytest.raises(Refusal, match=r"anneal\.merge\.paths: .* are both at step 10"):
        merged(store, config, source, device=CPU)
