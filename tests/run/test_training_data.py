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
from sweep.run.text_rules import model_tokenizer
from sweep.run.token_files import rooted
from sweep.run.training_data import TrainingData, read_data
from sweep.system.store import Store
from tests.conftest import LENGTH
from tests.run.test_prepare import configured

UPDATES = 5


def reading(store: Store, source: CheckpointFolder, *overrides: str) -> TrainingData:
    config = configured(source, *overrides)
    plan = make_plan(config, read_position(source.folder, source.config))
    named, model = source.config.tokenizer.identifier, source.config.model
    tokenizer = model_tokenizer(store, named, model, key="data.tokenizer")
    return read_data(store, config.data, source, plan, seed=config.seed, tokenizer=tokenizer)


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
    np.testing.assert_array_equal(batches(reading(store, source, f"data.root={there.parent}")), here)
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
        ("[/nowhere/*.npy]", r"data\.paths=/nowhere/\*\.npy matches no file"),
        ("[s3://mine/x.npy]", r"s3://mine/x\.npy has no known public address; give data\.root"),
        ("[https://127.0.0.1:1/a.jsonl]", "text is read from local files alone: download"),
        ("[a.npy,b.jsonl]", r"a\.npy is a memmap among text"),
        ("[a.arrow]", "is neither a memmap nor one of"),
        ("[a.parquet]", r"a\.parquet"),
        ("[c.jsonl]", r"data\.paths=c\.jsonl: there is no file c\.jsonl"),
    ],
)
def test_files_that_can_not_be_read_are_refused(
    store: Store, source: CheckpointFolder, paths: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.npy", "a.arrow", "a.parquet", "b.jsonl"):
        (tmp_path / name).touch()
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
        "unused_tokens": 0,
        "unused_files": 0,
        "files": [str(tmp_path / f"mine-{number}.npy") for number in range(3)],
    }
    assert found.window.after(3, lr=0.0).instances == 60


def test_token_ids_of_another_tokenizer_are_refused_before_anything_runs(
    store: Store, source: CheckpointFolder, tmp_path: Path
) -> None:
    other = memmap(tmp_path / "other.npy", high=60_000)
    with pytest.raises(Refusal, match=r"data\.paths: .*other\.npy holds token id \d+ at token \d+ .* has 64"):
        reading(store, source, "data=local", f"data.paths={other}")


def test_one_bad_id_late_in_the_data_is_found_before_anything_runs(
    store: Store, source: CheckpointFolder, tmp_path: Path
) -> None:
    late = memmap(tmp_path / "late.npy")
    tokens = np.fromfile(late, dtype=np.uint16)
    tokens[-3] = 64
    tokens.tofile(late)
    place = f"token {len(tokens) - 3} \\(byte {2 * (len(tokens) - 3)}\\)"
    whole = ["data=local", f"data.paths={late}", "data.position=fresh", "anneal.steps=50"]
    with pytest.raises(Refusal, match=rf"data\.paths: .*late\.npy holds token id 64 at {place}, and the model has 64"):
        reading(store, source, *whole)
    with pytest.raises(Refusal, match=r"data\.sources\.mine\.paths: .*late\.npy holds token id 64"):
        reading(store, source, "data=mixture", f"+data.sources.mine={{paths: {late}, weight: 1}}", "anneal.steps=200")


@pytest.mark.parametrize("vocabulary", [60, 60_000])
@pytest.mark.parametrize("behind_an_address", [False, True])
def test_ids_of_32_bits_read_as_16_are_noticed(
    store: Store, source: CheckpointFolder, served: Any, vocabulary: int, behind_an_address: bool
) -> None:
    wide = served.folder / "wide.npy"
    np.random.default_rng(0).integers(2, vocabulary, 100 * LENGTH).astype(np.uint32).tofile(wide)
    path = f"{served.url}/wide.npy" if behind_an_address else wide
    with pytest.raises(Refusal, match=r"data\.paths: .*wide\.npy: every second token is 0 .* give data\.dtype=uint32"):
        reading(store, source, "data=local", f"data.paths={path}")
    assert not store.keys("windows"), "a sample is enough"
    if vocabulary < 64:
        assert len(batches(reading(store, source, "data=local", f"data.paths={path}", "data.dtype=uint32"))) == UPDATES


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"x" * (100 * LENGTH * 2 - 1), r"odd\.npy has 3199 bytes, .* no whole number of uint16 tokens: it is cut"),
        (b"", r"odd\.npy is empty \(1 of 1 are\)"),
        (bytes(100 * LENGTH * 2), r"odd\.npy: 100% of its tokens are 0: it is empty space"),
        (b"\x93NUMPY" + bytes(100 * LENGTH * 2), r"odd\.npy has a NumPy header"),
    ],
)
@pytest.mark.parametrize("behind_an_address", [False, True])
def test_a_file_that_is_no_file_of_tokens_is_refused(
    store: Store, source: CheckpointFolder, served: Any, content: bytes, complaint: str, behind_an_address: bool
) -> None:
    (served.folder / "odd.npy").write_bytes(content)
    path = f"{served.url}/odd.npy" if behind_an_address else served.folder / "odd.npy"
    with pytest.raises(Refusal, match=rf"data\.paths.*{complaint}"):
        reading(store, source, "data=local", f"data.paths={path}")


def test_a_data_type_too_small_for_the_vocabulary_is_refused(store: Store, source: CheckpointFolder) -> None:
    source.config.model.vocab_size = source.config.model.embedding_size = 100_278
    with pytest.raises(Refusal, match=r"data\.dtype=uint16 holds ids up to 65535, .* 100278: give data\.dtype=uint32"):
        reading(store, source)


def test_what_short_files_lose_is_counted_and_said(
    store: Store, source: CheckpointFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        np.full(LENGTH - 1, 3, dtype=np.uint16).tofile(tmp_path / f"mine-{number:02}.npy")
    memmap(tmp_path / "mine-30.npy", 10)
    found = reading(store, source, "data=local", f"data.paths={tmp_path}/mine-*.npy")
    assert (found.facts["local"]["unused_files"], found.facts["local"]["unused_tokens"]) == (30, 30 * (LENGTH - 1))
    assert "data.paths: 30 of 31 files are shorter than an instance of 16 tokens" in caplog.text
    assert "450 of 610 tokens (74 %)" in caplog.text


def test_a_window_is_examined_once(store: Store, source: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    reading(store, source)
    monkeypatch.delattr("sweep.data.first_fault")
    reading(store, source)
    with pytest.raises(AttributeError):
        reading(store, source, "anneal.steps=6")


def test_a_bad_id_among_fetched_data_is_found_before_the_first_update(
    store: Store, source: CheckpointFolder, served: Any
) -> None:
    tokens = np.random.default_rng(0).integers(2, 64, 200 * LENGTH).astype(np.uint16)
    tokens[LENGTH + 4] = 64
    tokens.tofile(served.folder / "train.npy")
    found = reading(
        store, source, "data=local", f"data.paths={served.url}/train.npy", "data.position=fresh", "anneal.steps=100"
    )
    with pytest.raises(Refusal, match=r"train\.npy holds token id 64 at token 20 "):
        next(found.window.batches(0, 100))


@pytest.mark.slow
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
    with pytest.raises(Refusal, match=r"data\.sources\.math\.paths=/nowhere: there is no file"):
        reading(store, source, "data=mixture", "+data.sources.math={paths: /nowhere, weight: 1}")


def test_where_two_ends_of_a_text_are_stated_the_files_are_looked_at(
    store: Store, source: CheckpointFolder, caplog: pytest.LogCaptureFixture
) -> None:
    file = Path(source.config.data.paths[0])
    tokens = np.fromfile(file, dtype=np.uint16)
    tokens[tokens == 5] = 6
    tokens[::LENGTH] = 0
    tokens.tofile(file)
    reading(store, source)
    assert not caplog.records
    source.config.model.eos_token_id = 5  # the tokenizer's end is 0
    reading(store, source)
    assert "eos_token_id=5 in the checkpoint's configuration, but its tokenizer ends a text with 0" in caplog.text
    assert "in a sample of the token files 5 stands 0 times, and 0 10 times" in caplog.text
