"""The export door: what RUN may be, what is refused, and a folder that is whole or absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from olmo.config import TrainConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from sweep.checkpoints import TrainingState, save_state
from sweep.commands.export import export
from sweep.data import Instances
from sweep.data.tokenizer import trained_tokenizer
from sweep.domain.errors import Refusal
from sweep.system.store import Store
from sweep.tracking import Journal
from sweep.training.loop import UpdateRules, anneal

KEY = "0123456789abcdef0123456789abcdef"
POINT = "tiny-s-step2000_linear_250-1a2b3c4d"
IDS = torch.arange(2, 14)[None]


@pytest.fixture
def train_config(train_config: TrainConfig, tmp_path: Path) -> TrainConfig:
    path = tmp_path / "tokenizer.json"
    trained_tokenizer(["some text\n"] * 9, vocab_size=300).save(str(path))
    train_config.model.vocab_size = train_config.model.embedding_size = 320
    train_config.tokenizer.identifier = str(path)
    return train_config


@pytest.fixture
def state(state: TrainingState, instances: Instances) -> TrainingState:
    """One update in: a state before it has no moments to save."""
    list(
        anneal(
            state.model,
            state.optimizer,
            [instances.read(np.array([0, 1]))],
            np.array([1e-3]),
            UpdateRules(max_grad_norm=1.0),
        )
    )
    state.model.eval()
    return state


@pytest.fixture
def multirun(tmp_path: Path, state: TrainingState, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of one finished run, its annealed state in the store."""
    monkeypatch.delenv("SWEEP_STORE", raising=False)
    path = tmp_path / "multirun"
    with Store(path / "store").writing("states", KEY) as folder:
        save_state(folder, state)
    ended(path / "main" / POINT, "finished")
    return path


def ended(run: Path, status: str, final_state: str = KEY, arm: str = "decay") -> None:
    with Journal(run) as journal:
        journal.write("attempt", command="python -m sweep anneal.steps=250", params={"arm": arm})
        result = {"key": "k", "final_state": final_state} if status == "finished" else None
        journal.write("outcome", status=status, error=None, result=result)


@pytest.mark.parametrize("spelling", ["folder", "name", "name with a slash", "key", "beginning of a key", "checkpoint"])
def test_every_way_to_say_which_model(multirun: Path, state: TrainingState, tmp_path: Path, spelling: str) -> None:
    run = {
        "folder": str(multirun / "main" / POINT),
        "name": POINT,
        "name with a slash": f"{POINT}/",
        "key": KEY,
        "beginning of a key": KEY[:8],
        "checkpoint": str(multirun / "store" / "states" / KEY),
    }[spelling]
    export(run, tmp_path / "out", multirun=multirun)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, state.model(IDS).logits, rtol=0, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "<|endoftext|>"


def test_of_a_point_in_two_sweeps_the_finished_one_is_taken(multirun: Path, tmp_path: Path) -> None:
    ended(multirun / "another" / POINT, "failed")
    export(POINT, tmp_path / "out", multirun=multirun)
    assert (tmp_path / "out" / "config.json").is_file()


@pytest.mark.parametrize("taken", ["folder", "file"])
def test_what_is_there_already_is_left_alone(multirun: Path, tmp_path: Path, taken: str) -> None:
    out = tmp_path / "out"
    if taken == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    with pytest.raises(Refusal, match=r"OUT=.* is there already; allowed: a new or an empty folder"):
        export(POINT, out, multirun=multirun)
    assert (out if taken == "file" else out / "mine").read_text() == "mine"


def test_an_empty_folder_and_missing_parents_are_fine(multirun: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export(POINT, tmp_path / "empty", multirun=multirun)
    export(POINT, tmp_path / "a" / "b", multirun=multirun)
    assert sorted(f.name for f in (tmp_path / "empty").iterdir()) == sorted(
        f.name for f in (tmp_path / "a" / "b").iterdir()
    )


def test_a_failure_leaves_nothing_behind(multirun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        export(POINT, tmp_path / "target" / "out", multirun=multirun)
    assert list((tmp_path / "target").iterdir()) == []


def test_a_state_that_was_not_kept_says_how_to_keep_it(multirun: Path, tmp_path: Path) -> None:
    Store(multirun / "store").drop("states", KEY)
    with pytest.raises(Refusal, match=r"not kept, or it was freed.*\n  python -m sweep anneal.steps=250 .*keep=true"):
        export(POINT, tmp_path / "out", multirun=multirun)


def test_a_checkpoint_that_was_only_scored_is_not_ours_to_export(multirun: Path, tmp_path: Path) -> None:
    ended(multirun / "main" / "scored", "finished", final_state="f" * 32, arm="none")
    with pytest.raises(Refusal, match=r"nothing was annealed in scored: export its checkpoint"):
        export("scored", tmp_path / "out", multirun=multirun)


def test_a_run_without_a_result_is_refused(multirun: Path, tmp_path: Path) -> None:
    ended(multirun / "main" / "broken", "failed")
    with Journal(multirun / "main" / "running") as journal:
        journal.write("attempt", command="python -m sweep")
    for name, why in {"broken": "failed", "running": "it has not ended"}.items():
        with pytest.raises(Refusal, match=rf"{name} has no result: {why}"):
            export(name, tmp_path / "out", multirun=multirun)


def test_an_unknown_name_lists_the_runs(multirun: Path, tmp_path: Path) -> None:
    for name in ("nowhere", ""):
        with pytest.raises(Refusal, match=rf"RUN={name} is no run .*runs there: {POINT}"):
            export(name, tmp_path / "out", multirun=multirun)


def test_an_architecture_and_a_tokenizer_that_can_not_be_had_are_refused(
    multirun: Path, state: TrainingState, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match=r"--tokenizer=nowhere\.json"):
        export(POINT, tmp_path / "out", multirun=multirun, tokenizer="nowhere.json")
    folder = tmp_path / "odd"
    folder.mkdir()
    save_state(folder, state)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("scale_logits: false", "scale_logits: true"))
    with pytest.raises(Refusal, match=r"model\.scale_logits=True has no equal"):
        export(str(folder), tmp_path / "out", multirun=multirun)
    assert not (tmp_path / "out").exists()


def test_the_door(multirun: Path, tmp_path: Path) -> None:
    def door(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sweep", "export", *words]
        return subprocess.run(command, cwd=tmp_path, env=os.environ, text=True, capture_output=True, check=False)

    told = door("--help")
    assert told.returncode == 0 and "AutoModelForCausalLM" in told.stdout and "examples:" in told.stdout
    refused = door("nowhere", "out")
    assert refused.returncode == 1 and refused.stderr.startswith("refused: RUN=nowhere")
    assert "Traceback" not in refused.stderr
