"""Every layout that checkpoints come in: fetched by the real client, annealed by the command a user types, exported.

Each server fails once on the way: folders are cut off in the middle of the weights, the Hub sends other bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from olmo.config import TrainConfig
from transformers import AutoModelForCausalLM

from sweep.checkpoints import export_folder, fresh_state, load_model, read_config, save_state
from sweep.checkpoints.tensors import read_tensors
from sweep.config.published import folder_of
from sweep.data.tokenizer import trained_tokenizer
from sweep.domain.errors import Refusal
from sweep.planning.pretraining_schedule import pretraining_lr
from sweep.run.memory import Memory
from sweep.run.prepare import prepare
from sweep.system.ranks import ALONE
from sweep.system.store import Store
from sweep.tracking import read
from tests.checkpoints.hub_server import Hub, serving_hub
from tests.checkpoints.server import serving
from tests.checkpoints.test_huggingface import LADDER, OLMO1, OLMO2, ROWS, RULES, TRAINING
from tests.composing import composed
from tests.processes import SWEEP, Script

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
LENGTH = 256
SIZES = (f"model.sequence_length={LENGTH}", "model.batch_size=2", "model.architecture=null")
FRESH = ("anneal.optimizer=fresh", "anneal.warmup_steps=2", "anneal.peak_lr=1e-3")
CHOSEN = {
    "folder, safetensors": ("model=olmo-1b", "checkpoint.step=20000"),
    "folder, pt": ("model=olmo2-1b", "checkpoint.step=20000"),
    "folder, old train.pt": ("model=olmo-1b", "checkpoint.step=20000"),
    "hub, olmo": ("model=olmo-1b", "checkpoint.step=20000", "checkpoint.source=hub", *FRESH),
    "hub, olmo2": ("model=olmo2-1b", "checkpoint.step=20000", "checkpoint.source=hub", *FRESH),
    "hub, hf_olmo and optimizer": ("model=datadecide-4m", "checkpoint.step=1250"),
}
UNSAID_LR = 1e-3
"""In force at the checkpoint where its model's option states no schedule."""
SHAPED = {"olmo2": OLMO2, "olmo": OLMO1, "datadecide": LADDER}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    file = tmp_path / "tokenizer.json"
    file.write_text(trained_tokenizer(["a text of some words"], vocab_size=300).to_str())
    return file


@contextmanager
def published(layout: str, folder: Path, root: Path, tokenizer: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that finds the checkpoint in `folder` where its model is published."""
    config = composed(*CHOSEN[layout])
    place, step = config.model.published, config.checkpoint.step
    assert place and step and place.hub and place.revision
    with ExitStack() as servers:
        if layout.startswith("folder"):
            assert place.http
            target = root / urlsplit(place.http.format(folder=folder_of(place, step), step=step)).path.lstrip("/")
            target.parent.mkdir(parents=True)
            folder.rename(target)
            server = servers.enter_context(serving(root))
            server.cut_after = dict.fromkeys(("model.safetensors", "model.pt"), 20_000)
            yield {"SWEEP_CHECKPOINTS_URL": server.url}
            assert len(server.cut_after) == 1, "that of the format which is not there"
            return
        snapshot = root / "snapshot"
        export_folder(folder, read_config(folder), snapshot, tokenizer=tokenizer, rules=RULES)
        files = {path.name: path.read_bytes() for path in snapshot.iterdir()}
        if layout == "hub, hf_olmo and optimizer":
            del files["model.safetensors"]
            weights = {f"model.{name}": tensor for name, tensor in read_tensors(folder, "model").items()}
            torch.save(weights, root / "pytorch_model.bin")
            files["pytorch_model.bin"] = (root / "pytorch_model.bin").read_bytes()
            sizes = json.dumps(
                {**LADDER, "max_sequence_length": LENGTH, "model_type": "hf_olmo", "architectures": ["OLMoForCausalLM"]}
            )
            files["config.json"] = sizes.encode()
            torch.save(read_tensors(folder, "optim"), root / "optim.pt")
            files["training/optim.pt"] = (root / "optim.pt").read_bytes()
        revision = place.revision.format(step=step).replace("*", "1")
        hub = servers.enter_context(serving_hub(Hub(place.hub, {revision: files}, wrong=1)))
        yield {"HF_ENDPOINT": hub.url, "HF_HOME": str(root / "hf"), "HF_HUB_DISABLE_XET": "1"}
        assert hub.wrong == 0


def checkpoint(layout: str, folder: Path) -> None:
    """A small checkpoint that says of itself what its model's option says."""
    config = composed(*CHOSEN[layout], *SIZES)
    step = config.checkpoint.step or 0
    model = next(sizes for kind, sizes in SHAPED.items() if config.model.name.startswith(kind))
    train_config = TrainConfig.new(
        **{**TRAINING, "global_train_batch_size": 2}, model={**model, "max_sequence_length": LENGTH}
    )
    state = fresh_state(train_config, device=CPU)
    for group in state.optimizer.param_groups:
        group["lr"] = pretraining_lr(config.model, step) or UNSAID_LR
        for parameter in group["params"]:
            zeros = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
            state.optimizer.state[parameter] = {"step": torch.tensor(float(step)), **zeros}
    state.position = dataclasses.replace(state.position, step=step, instances=2 * step, tokens=2 * LENGTH * step)
    folder.mkdir()
    save_state(folder, state)
    if layout == "folder, pt":
        for stem in ("model", "optim"):
            torch.save(read_tensors(folder, stem), folder / f"{stem}.pt")
            (folder / f"{stem}.safetensors").unlink()
    if layout == "folder, old train.pt":
        train = torch.load(folder / "train.pt", weights_only=True)
        seen = train.pop("global_train_examples_seen_this_epoch")
        torch.save({**train, "global_train_examples_seen": seen, "global_data_step": step}, folder / "train.pt")


@pytest.mark.parametrize("layout", CHOSEN)
def test_it_is_fetched_annealed_and_exported(layout: str, tokenizer: Path, tmp_path: Path) -> None:
    checkpoint(layout, tmp_path / "step-unsharded")
    with published(layout, tmp_path / "step-unsharded", tmp_path, tokenizer) as environment:
        events = anneal_and_export(tmp_path, tokenizer, *CHOSEN[layout], **environment)
    fresh = ("anneal.optimizer", "fresh") in events.attempts[0]["params"].items()
    assert fresh == (layout in ("hub, olmo", "hub, olmo2"))
    if layout == "hub, hf_olmo and optimizer":
        assert events.steps[0]["lr"] == pytest.approx(0.75 * UNSAID_LR), "from the rate that the checkpoint alone says"


def test_a_folder_on_disk_in_a_layout_of_the_hub(tokenizer: Path, tmp_path: Path) -> None:
    checkpoint("folder, safetensors", tmp_path / "step-unsharded")
    mine = tmp_path / "mine"
    export_folder(
        tmp_path / "step-unsharded", read_config(tmp_path / "step-unsharded"), mine, tokenizer=tokenizer, rules=RULES
    )
    words = ("model=local", f"checkpoint.path={mine}")
    events = anneal_and_export(tmp_path, tokenizer, *words, "checkpoint.step=1000", *FRESH)
    assert events.outcome["result"]["position"]["tokens"] == 1000 * 2 * LENGTH

    store, own = Store(tmp_path / "home" / "multirun" / "store"), ("data=local", f"data.paths=[{tmp_path}/mine.npy]")
    for last, complaint in (
        (("checkpoint.step=1000", "model.batch_size=2"), "has no optimizer state"),
        (("checkpoint.step=1000", *FRESH), r"model\.batch_size=None: "),
    ):
        with pytest.raises(Refusal, match=complaint):
            prepare(store, composed(*words, *own, *last), "run", ALONE, Memory())
    (mine / "config.json").write_text("{}")
    with pytest.raises(Refusal, match="model_type=none is no causal language model"):
        prepare(
            store, composed(*words, *own, "checkpoint.step=7", "model.batch_size=2", *FRESH), "run", ALONE, Memory()
        )


def anneal_and_export(root: Path, tokenizer: Path, *words: str, **environment: str) -> Any:
    """The run's events; its export by the class of transformers says what ai2-olmo's model says."""
    home, data = root / "home", root / "mine.npy"
    home.mkdir()
    np.random.default_rng(0).integers(2, 300, 100 * LENGTH, dtype=np.uint32).tofile(data)
    scored = ("tasks.limit=2", "tasks.heldout=false", "tracking=none", f"data.tokenizer={tokenizer}")
    read_from = ("data=local", f"data.paths=[{data}]", "data.dtype=uint32")
    run_sweep(home, *words, *SIZES, *read_from, *scored, "anneal.steps=4", **environment)
    [run] = [journal.parent for journal in (home / "multirun" / "main").glob("*/journal.jsonl")]
    events: Any = read(run)
    assert [s["update"] for s in events.steps] == [1, 2, 3, 4] and events.steps[-1]["lr"] == 0

    run_sweep(home, "export", run.name, "out", "--tokenizer", str(tokenizer))
    annealed = home / "multirun" / "store" / "states" / events.outcome["result"]["final_state"]
    ours = load_model(annealed, read_config(annealed), device=CPU).eval()
    ids = torch.arange(2, 26)[None]
    with torch.no_grad():
        logits = ours(ids).logits[..., :ROWS]
        theirs = AutoModelForCausalLM.from_pretrained(home / "out")(ids).logits
    torch.testing.assert_close(theirs, logits, atol=1e-5, rtol=0)
    return events


def run_sweep(home: Path, *words: str, **environment: str) -> None:
    """`python -m sweep WORDS`, which ends well."""
    with Script(SWEEP, *words, cwd=home, **environment) as command:
        output, errors = command.communicate()
    assert command.returncode == 0, output + errors
