"""A published checkpoint comes over HTTP through the real client: whole, checked, once, resumed where it was cut."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from sweep.checkpoints import TrainingState, download, read_config, save_state
from sweep.config import RunConfig
from sweep.data import Instances
from sweep.domain.errors import Refusal
from sweep.run.prepare import checkpoint_choice
from sweep.run.published import KIND, published_checkpoint
from sweep.system import http
from sweep.system.store import Store
from sweep.training.loop import UpdateRules, anneal
from tests.checkpoints.server import Served, serving
from tests.composing import composed
from tests.processes import Script

PLACE = "ai2-llm/peteish1/step300-unsharded"
FILES = {"config.yaml", "train.pt", "model.safetensors", "optim.safetensors"}


@pytest.fixture
def config() -> RunConfig:
    return composed("model=olmo2-1b", "checkpoint.step=300")


@pytest.fixture
def server(
    tmp_path: Path, state: TrainingState, instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    """A checkpoint where olmo2-1b's step 300 is, its weights long enough to be cut in the middle."""
    folder = tmp_path / "served" / PLACE
    folder.mkdir(parents=True)
    list(
        anneal(
            state.model,
            state.optimizer,
            [instances.read(np.arange(2))],
            np.full(1, 1e-3),
            UpdateRules(max_grad_norm=1.0),
        )
    )
    save_state(folder, state)
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file({**weights, "transformer.more": np.ones((1000, 500))}, folder / "model.safetensors")
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    with serving(tmp_path / "served") as served:
        monkeypatch.setenv(download.MIRROR, served.url)
        yield served


def same(folder: Path, server: Served) -> bool:
    return all((folder / name).read_bytes() == (server.root / PLACE / name).read_bytes() for name in FILES)


def entries(store: Store) -> set[str]:
    return store.keys(KIND)


def test_a_checkpoint_comes_whole_and_once(store: Store, config: RunConfig, server: Served) -> None:
    folder = published_checkpoint(store, checkpoint_choice(config))
    assert same(folder, server)
    read_config(folder)
    note = json.loads((folder / "download.json").read_text())
    assert note["url"].startswith("https://olmo-checkpoints.org/ai2-llm/peteish1/step300-unsharded")
    assert {f["verified"] for f in note["files"].values()} == {"size and md5"}
    gets = len(server.gets)
    assert published_checkpoint(store, checkpoint_choice(config)) == folder
    assert len(server.gets) == gets, "nothing is asked for twice"
    assert not list(folder.parent.glob(".*")), "no part is left"


def test_a_cut_connection_goes_on_from_there(store: Store, config: RunConfig, server: Served) -> None:
    server.cut_after["model.safetensors"] = 1_000_000
    assert same(published_checkpoint(store, checkpoint_choice(config)), server)
    size = (server.root / PLACE / "model.safetensors").stat().st_size
    ranges = [asked for path, asked in server.gets if path.endswith("model.safetensors")]
    assert len(ranges) == 2 and ranges[0] is None
    assert 1_000_000 - http.CHUNK <= int(str(ranges[1]).removeprefix("bytes=").rstrip("-")) <= 1_000_000
    assert server.sent["model.safetensors"] < size + http.CHUNK


def test_a_server_without_ranges_sends_the_file_again(store: Store, config: RunConfig, server: Served) -> None:
    server.ranges = False
    server.cut_after["model.safetensors"] = 1_000_000
    assert same(published_checkpoint(store, checkpoint_choice(config)), server)


def test_passing_faults_are_waited_out(store: Store, config: RunConfig, server: Served) -> None:
    server.failures = [503, 429, 500]
    assert same(published_checkpoint(store, checkpoint_choice(config)), server)


def test_a_lasting_fault_ends_after_some_tries(store: Store, config: RunConfig, server: Served) -> None:
    server.failures = [503] * 20
    with pytest.raises(Refusal, match=r"config.yaml: HTTP 503, 5 times in a row"):
        published_checkpoint(store, checkpoint_choice(config))
    assert len(server.gets) == http.TRIES
    assert not entries(store)


@pytest.mark.parametrize("name", sorted(FILES))
def test_wrong_bytes_are_refused(name: str, store: Store, config: RunConfig, server: Served) -> None:
    server.wrong = {name}
    with pytest.raises(Refusal, match=rf"{name}: the MD5 of what came is \w+, the server's is \w+, twice"):
        published_checkpoint(store, checkpoint_choice(config))
    assert not entries(store)
    server.wrong = set()
    assert same(published_checkpoint(store, checkpoint_choice(config)), server)


def test_a_page_in_a_files_place_is_refused_without_a_digest_too(
    store: Store, config: RunConfig, server: Served
) -> None:
    server.digests = False
    (server.root / PLACE / "model.safetensors").write_text("<html>please log in</html>")
    with pytest.raises(Refusal, match=r"model.safetensors: it is no .safetensors file"):
        published_checkpoint(store, checkpoint_choice(config))
    assert not entries(store)


def test_without_a_digest_the_size_is_what_was_verified(store: Store, config: RunConfig, server: Served) -> None:
    server.digests = False
    note = json.loads((published_checkpoint(store, checkpoint_choice(config)) / "download.json").read_text())
    assert {f["verified"] for f in note["files"].values()} == {"size"}


def test_older_checkpoints_are_pt_files(store: Store, config: RunConfig, server: Served, tmp_path: Path) -> None:
    import torch

    for stem in ("model", "optim"):
        (server.root / PLACE / f"{stem}.safetensors").unlink()
        torch.save({"a": torch.ones(3)}, server.root / PLACE / f"{stem}.pt")
    assert {f.name for f in published_checkpoint(store, checkpoint_choice(config)).iterdir()} >= {
        "model.pt",
        "optim.pt",
    }


def test_missing_optimizer_state_is_said(store: Store, config: RunConfig, server: Served) -> None:
    (server.root / PLACE / "optim.safetensors").unlink()
    with pytest.raises(
        Refusal, match=r"olmo2-1b step 300: .* has no optimizer state .*OLMo#796.*anneal.optimizer=fresh"
    ):
        published_checkpoint(store, checkpoint_choice(config))


def test_a_fresh_optimizer_needs_none_there(store: Store, config: RunConfig, server: Served) -> None:
    (server.root / PLACE / "optim.safetensors").unlink()
    fresh = ("anneal.optimizer=fresh", "anneal.warmup_steps=9", "anneal.peak_lr=1e-4")
    folder = published_checkpoint(store, checkpoint_choice(composed("model=olmo2-1b", "checkpoint.step=300", *fresh)))
    assert {f.name for f in folder.iterdir()} >= {"model.safetensors", "train.pt", "download.json"}
    assert not (folder / "optim.safetensors").exists()


def test_a_refused_optimizer_is_not_taken_for_absent(store: Store, config: RunConfig, server: Served) -> None:
    server.refused |= {"optim.safetensors", "optim.pt"}
    fresh = ("anneal.optimizer=fresh", "anneal.warmup_steps=9", "anneal.peak_lr=1e-4")
    choice = checkpoint_choice(composed("model=olmo2-1b", "checkpoint.step=300", *fresh))
    weights = published_checkpoint(store, choice)
    assert (weights / "model.safetensors").is_file() and not (weights / "optim.safetensors").exists()
    with pytest.raises(Refusal, match="doesn't give it: HTTP 403"):
        published_checkpoint(store, checkpoint_choice(config))
    server.refused.clear()
    assert same(published_checkpoint(store, checkpoint_choice(config)), server), "the whole is another entry"


def test_an_entry_without_the_optimizer_is_completed_when_it_is_needed(
    store: Store, config: RunConfig, server: Served
) -> None:
    kept = (server.root / PLACE / "optim.safetensors").rename(server.root / "kept")
    fresh = ("anneal.optimizer=fresh", "anneal.warmup_steps=9", "anneal.peak_lr=1e-4")
    published_checkpoint(store, checkpoint_choice(composed("model=olmo2-1b", "checkpoint.step=300", *fresh)))
    kept.rename(server.root / PLACE / "optim.safetensors")
    assert same(published_checkpoint(store, checkpoint_choice(config)), server)


def test_a_missing_checkpoint_is_said(store: Store, server: Served) -> None:
    with pytest.raises(
        Refusal, match=r"olmo2-1b step 10000: .*step10000-unsharded/config.yaml is not there \(HTTP 404\)"
    ):
        published_checkpoint(store, checkpoint_choice(composed("model=olmo2-1b", "checkpoint.step=10000")))


def test_without_a_network_it_says_what_to_do(
    store: Store, config: RunConfig, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(download.MIRROR, "http://127.0.0.1:9")
    with pytest.raises(Refusal, match=r"127.0.0.1:9 could not be reached in 5 tries.*model=local.*HF_HUB_OFFLINE=1"):
        published_checkpoint(store, checkpoint_choice(config))
    assert not entries(store)


PROCESS = """
import sys
from sweep.data import Instances
from sweep.run.prepare import checkpoint_choice
from sweep.run.published import published_checkpoint
from sweep.system.store import Store
from tests.composing import composed
choice = checkpoint_choice(composed("model=olmo2-1b", "checkpoint.step=300"))
print(published_checkpoint(Store(sys.argv[1]), choice), flush=True)
"""


def process(store: Store) -> Script:
    return Script(PROCESS, str(store.root))


def part_bytes(store: Store) -> int:
    return sum(f.stat().st_size for f in (store.root / KIND).glob(".*.download/model.safetensors"))


def test_a_killed_process_leaves_no_entry_and_the_next_goes_on(store: Store, config: RunConfig, server: Served) -> None:
    server.hold = threading.Event()
    killed = process(store)
    size = (server.root / PLACE / "model.safetensors").stat().st_size
    while part_bytes(store) < size // 2 - http.CHUNK:
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    have = part_bytes(store)
    assert not entries(store)
    store.tidy()
    server.hold = None
    assert same(published_checkpoint(store, checkpoint_choice(config)), server)
    assert (f"/{PLACE}/model.safetensors", f"bytes={have}-") in server.gets, "it went on where the killed one was"
    assert [path for path, _ in server.gets].count(f"/{PLACE}/train.pt") == 1, "what was whole is not fetched again"


def test_two_processes_download_once(store: Store, server: Served) -> None:
    both = [process(store), process(store)]
    places = {out.strip() for out, _ in (p.communicate(timeout=120) for p in both)}
    assert len(places) == 1 and places != {""}
    assert [path for path, _ in server.gets].count(f"/{PLACE}/model.safetensors") == 1
