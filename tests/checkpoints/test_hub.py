"""Revisions come through huggingface_hub itself from a loopback Hub, and offline from its cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoints.hub_server import Hub, serving_hub
from tests.processes import Script

REPO, REVISION = "allenai/OLMo-2-0425-1B", "stage1-step300-tokens1B"
FILES = {
    "config.json": b"{}",
    "model.safetensors": os.urandom(200_000),
    "pytorch_model.bin": b"the same again",
    "tokenizer.json": b"{}",
    "README.md": b"about",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving_hub(Hub(REPO, {REVISION: FILES, "stage1-step10000-tokens21B": {}})) as served:
        yield served


def ask(
    home: Path, endpoint: str, revision: str = "stage1-step300-tokens*B", optimizer: str | None = None, **more: str
) -> tuple[str, str]:
    """(folder, refusal) of a snapshot taken in a process of its own, as the client reads its environment once."""
    code = (
        "import sys\nfrom sweep.checkpoints.hub import snapshot\nfrom sweep.domain.errors import Refusal\n"
        "try:\n    print(snapshot(*sys.argv[1:]))\nexcept Refusal as e:\n    print(e, file=sys.stderr)\n"
    )
    variables = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more}
    with Script(code, REPO, revision, *([optimizer] if optimizer else []), **variables) as asking:
        folder, refusal = asking.communicate()
    assert asking.returncode == 0, refusal
    return folder.strip(), refusal.strip()


def test_a_step_resolves_to_its_revision_and_one_format_comes(tmp_path: Path, hub: Hub) -> None:
    folder, refusal = ask(tmp_path / "home", hub.url)
    assert refusal == ""
    assert Path(folder).is_relative_to(tmp_path / "home")
    assert {f.name for f in Path(folder).iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (Path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_cut_connection_is_tried_again(tmp_path: Path, hub: Hub) -> None:
    hub.cut_after = 100_000
    folder, refusal = ask(tmp_path / "home", hub.url)
    assert (Path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"], refusal
    assert hub.asked.count(f"GET /{REPO}/resolve/{hub.commit(REVISION)}/model.safetensors") == 2


def test_wrong_bytes_of_the_right_size_are_fetched_again(tmp_path: Path, hub: Hub) -> None:
    hub.wrong = 1
    folder, refusal = ask(tmp_path / "home", hub.url)
    assert (Path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"], refusal


def test_wrong_bytes_twice_are_refused_and_not_kept(tmp_path: Path, hub: Hub) -> None:
    hub.wrong = 2
    folder, refusal = ask(tmp_path / "home", hub.url)
    assert folder == "" and f"{REPO}@{REVISION}: model.safetensors is not of the digest that the Hub says" in refusal
    folder, refusal = ask(tmp_path / "home", hub.url)
    assert (Path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"], refusal


def test_an_optimizer_that_a_revision_lacks_is_refused_before_its_weights_are_fetched(tmp_path: Path, hub: Hub) -> None:
    folder, refusal = ask(tmp_path / "home", hub.url, optimizer="training/optim.pt")
    assert folder == "" and f"{REPO}@{REVISION} has no training/optim.pt" in refusal
    assert "another checkpoint.step, or start a new one with anneal.optimizer=fresh" in refusal
    assert not any("/resolve/" in asked for asked in hub.asked)


def test_offline_a_warm_cache_serves(tmp_path: Path, hub: Hub) -> None:
    folder, _ = ask(tmp_path / "home", hub.url)
    asked = len(hub.asked)
    assert ask(tmp_path / "home", hub.url, HF_HUB_OFFLINE="1") == (folder, "")
    assert len(hub.asked) == asked


def test_offline_a_cold_cache_says_why_not(tmp_path: Path, hub: Hub) -> None:
    folder, refusal = ask(tmp_path / "home", hub.url, HF_HUB_OFFLINE="1")
    assert folder == "" and "is not in the cache" in refusal and "HF_HUB_OFFLINE is set" in refusal
    folder, refusal = ask(tmp_path / "home", hub.url, revision=REVISION, HF_HUB_OFFLINE="1")
    assert folder == "" and "model=local checkpoint.path=FOLDER" in refusal
    assert not hub.asked


def test_without_a_network_it_says_what_to_do(tmp_path: Path) -> None:
    folder, refusal = ask(tmp_path / "home", "http://127.0.0.1:9")
    assert folder == "" and refusal.splitlines()[-1].startswith(f"{REPO}@stage1-step300-tokens*B: no Hub could be")


def test_a_step_that_isnt_there_names_its_neighbours(tmp_path: Path, hub: Hub) -> None:
    folder, refusal = ask(tmp_path / "home", hub.url, revision="stage1-step400-tokens*B")
    assert folder == ""
    assert f"is not on the Hub; nearest: {REVISION}, stage1-step10000-tokens21B" in refusal
    folder, refusal = ask(tmp_path / "home", hub.url, revision="nowhere")
    assert "there is no such revision" in refusal
