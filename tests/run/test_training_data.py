"""From `data.*` and a checkpoint's own word to batches, or to a refusal that names key, value and the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from sweep.checkpoints import read_position
from sweep.data import Continued, FetchedWindow, Instances
from sweep.domain.errors import Refusal
from sweep.planning.plan import make_plan
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.run.token_files import rooted
from sweep.run.training_data import TrainingData, read_data
from sweep.system.store import Store
from tests.conftest import LENGTH
from tests.run.test_prepare import configured

UPDATES = 5


def reading(store: Store, source: CheckpointFolder, *overrides: str) -> TrainingData:
    config = configured(source, *overrides)
    plan = make_plan(config, read_position(source.folder, source.config))
    return read_data(
        store, config.data, source, plan, seed=config.seed, tokenizer=Path(source.config.tokenizer.identifier)
    )


def batches(found: TrainingData) -> np.ndarray:
    return np.array(list(found.window.batches(0, UPDATES)))


def memmap(path: Path, count: int = 100, low: int = 2, high: int = 64) -> Path:
    np.random.default_rng(count).integers(low, high, count * LENGTH).astype(np.uint16).tofile(path)
    return path


def test_the_checkpoints_own_data_go_on_from_its_position(
    store: Store, source: CheckpointFolder, instances: Instances
) -> None:
    found = reading(store, source)
    position = read_position(source.folder, source.config)
    indices = Continued(num_instances=len(instances), position=position, batch_size=2).rows(UPDATES)
    np.testing.assert_array_equal(batches(found), [instances.read(row) for row in indices])
    file = Path(source.config.data.paths[0])
    assert found.identity == [[str(file), file.stat().st_size, file.stat().st_mtime_ns]]
    assert found.window.after(3, lr=0.0).instances == 66
    assert found.facts["original"]["annealed_on"] == 10


def test_a_fresh_order_begins_anew_and_has_a_name_of_its_own(store: Store, source: CheckpointFolder) -> None:
    own, fresh, other = (
        reading(store, source, *words) for words in ([], ["data.position=fresh"], ["data.position=fresh", "seed=1"])
    )
    assert len({json.dumps(found.identity) for found in (own, fresh, other)}) == 3
    assert len({batches(found).tobytes() for found in (own, fresh, other)}) == 3
    assert fresh.window.after(3, lr=0.0).instances == 60, "the place in the original order is kept"


def test_data_behind_an_address_give_the_same_batches(store: Store, source: CheckpointFolder, served: Any) -> None:
    here = batches(reading(store, source))
    file = Path(source.config.data.paths[0])
    source.config.data.paths = ["s3://closed/preprocessed/train.npy"]
    there = served.folder / "preprocessed" / "train.npy"
    there.parent.mkdir()
    there.write_bytes(file.read_bytes())
    found = reading(store, source, f"data.root={served.url}/")
    assert isinstance(found.window, FetchedWindow)
    np.testing.assert_array_equal(batches(found), here)
    assert found.identity == [[f"{served.url}/preprocessed/train.npy", file.stat().st_size, '"1"']]
    asked = len(served.ranges)
    np.testing.assert_array_equal(batches(reading(store, source, f"data.root={served.url}")), here)
    np.testing.assert_array_equal(batches(reading(store, source, f"data.root={there.parents[1]}")), here)
    assert len(served.ranges) == asked, "fetched once for all runs"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://ai2-llm/a/b.npy", "/root/a/b.npy"),
        ("http://host/a/b.npy", "/root/a/b.npy"),
        ("/weka/a/b.npy", "/root/weka/a/b.npy"),
    ],
)
def test_a_root_takes_the_place_of_scheme_and_host(path: str, expected: str) -> None:
    assert rooted(path, "/root/") == expected


def test_own_data_that_are_not_here_are_named_with_the_way_out(store: Store, source: CheckpointFolder) -> None:
    source.config.data.paths = [*source.config.data.paths, *(f"/gone/{i}.npy" for i in range(4)), "weka://b/x.npy"]
    complaint = (
        r"takes the 6 files .* 5 of them aren't here: /gone/0\.npy, /gone/1\.npy, /gone/2\.npy, \.\.\.; give data"
    )
    with pytest.raises(Refusal, match=complaint):
        reading(store, source)
    source.config.data.paths = []
    with pytest.raises(Refusal, match=r"data\.paths=null .* names none"):
        reading(store, source)


@pytest.mark.parametrize(
    ("paths", "complaint"),
    [
        ("[/nowhere/*.npy]", r"data\.paths=\['/nowhere/\*\.npy'\].*matches no file"),
        ("[s3://mine/x.npy]", r"s3://mine/x\.npy has no known public address; give data\.root"),
        ("[https://127.0.0.1:1/a.jsonl]", "text is read from local files alone: download"),
        ("[a.npy,b.jsonl]", r"a\.npy is a memmap among text"),
        ("[a.parquet]", "is neither a memmap nor one of"),
        ("[a.jsonl]", r"data\.paths=\['a\.jsonl'\].*No such file"),
    ],
)
def test_files_that_can_not_be_read_are_refused(
    store: Store, source: CheckpointFolder, paths: str, complaint: str
) -> None:
    with pytest.raises(Refusal, match=complaint):
        reading(store, source, "data=local", f"data.paths={paths}")


def test_memmaps_of_ones_own_in_a_fresh_order(store: Store, source: CheckpointFolder, tmp_path: Path) -> None:
    for number in range(3):
        memmap(tmp_path / f"mine-{number}.npy", 5 + number)
    found = reading(store, source, "data=local", f"data.paths={tmp_path}/mine-*.npy")
    other = reading(store, source, "data=local", f"data.paths={tmp_path}/mine-0.npy")
    named = found.facts["local"].pop("digest")
    assert named != other.facts["local"]["digest"], "files are told apart by the digest"
    assert found.facts["local"] == {
        "weight": 1.0,
        "instances": 18,
        "annealed_on": 10,
        "passes": 10 / 18,
        "files": [str(tmp_path / f"mine-{number}.npy") for number in range(3)],
    }
    assert found.window.after(3, lr=0.0).instances == 60


def test_token_ids_of_another_tokenizer_are_refused_before_anything_runs(
    store: Store, source: CheckpointFolder, tmp_path: Path
) -> None:
    other = memmap(tmp_path / "other.npy", high=60_000)
    with pytest.raises(Refusal, match=r"update 1 holds token id \d+, and the model has 64"):
        reading(store, source, "data=local", f"data.paths={other}")


def test_text_is_tokenised_once_and_named_by_its_files(store: Store, source: CheckpointFolder, tmp_path: Path) -> None:
    lines = tmp_path / "mine.jsonl"
    texts = [f"ABCDEFGH{number}" * 5 for number in range(30)]
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = reading(store, source, "data=local", f"data.paths={lines}")
    tokenizer = Tokenizer.from_file(source.config.tokenizer.identifier)
    ids = [i for text in texts for i in (*tokenizer.encode(text).ids, 0)]
    rows = np.array(ids[: len(ids) // LENGTH * LENGTH]).reshape(-1, LENGTH).tolist()
    assert all(row in rows for row in batches(found).reshape(-1, LENGTH).tolist())
    facts = found.facts["local"]
    assert (facts["documents"], facts["tokens"], facts["instances"]) == (30, len(ids), len(rows))
    stored = store.keys("tokens")
    assert reading(store, source, "data=local", f"data.paths={lines}").identity == found.identity
    assert store.keys("tokens") == stored and len(stored) == 1
    lines.write_text(json.dumps({"text": "ABC" * 200}) + "\n")
    assert reading(store, source, "data=local", f"data.paths={lines}").identity != found.identity


def test_a_mixture_of_ones_own_and_the_checkpoints_data(store: Store, source: CheckpointFolder, tmp_path: Path) -> None:
    small = memmap(tmp_path / "small.npy", 2)
    math = f"+data.sources.math={{paths: {small}, weight: 0.3}}"
    found = reading(store, source, "data=mixture", math)
    drawn = {name: (fact["annealed_on"], fact["passes"]) for name, fact in found.facts.items()}
    assert drawn == {"original": (7, 7 / 200), "math": (3, 1.5)}
    rows = batches(found).reshape(-1, LENGTH).tolist()
    mine = Instances([small], sequence_length=LENGTH).read(np.arange(2)).tolist()
    assert sum(row in mine for row in rows) == 3
    own = batches(reading(store, source)).reshape(-1, LENGTH).tolist()
    assert [row for row in rows if row not in mine] == own[:7], "the checkpoint's own go on from its position"
    other = reading(store, source, "data=mixture", math, "data.sources.original.weight=0.5")
    assert other.identity != found.identity


def test_a_part_of_a_mixture_is_refused_under_its_own_name(store: Store, source: CheckpointFolder) -> None:
    with pytest.raises(Refusal, match=r"data\.sources\.math\.paths=\['/nowhere'\].*No such file"):
        reading(store, source, "data=mixture", "+data.sources.math={paths: /nowhere, weight: 1}")
