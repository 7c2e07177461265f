import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep.data import TokenFormat, heldout_texts, make_heldout, read_heldout
from sweep.data.heldout import write_heldout
from sweep.data.tokenizer import EOS_ID, trained_tokenizer
from sweep.domain.text_rules import TextRules

TEXTS = ["The first, naïve one.", "Second", "And a third: longer than both."]


def test_documents_come_back_whole_without_eos(tmp_path):
    tokenizer = trained_tokenizer(TEXTS, vocab_size=300)
    count = write_heldout(tmp_path, TEXTS, tokenizer)
    tokens, offsets, num_bytes, characters = read_heldout(tmp_path)
    assert (tokens.dtype, offsets.dtype, num_bytes.dtype, characters.dtype) == (np.uint16, *[np.int64] * 3)
    assert len(tokens) == offsets[-1] == count
    assert [tokenizer.decode(tokens[start:end].tolist()) for start, end in pairwise(offsets)] == TEXTS
    assert num_bytes.tolist() == [len(text.encode()) for text in TEXTS]
    assert characters.tolist() == [len(text) for text in TEXTS] != num_bytes.tolist()
    assert EOS_ID not in tokens


def test_files_that_contradict_each_other_are_refused(tmp_path):
    write_heldout(tmp_path, TEXTS, trained_tokenizer(TEXTS, vocab_size=300))
    np.save(tmp_path / "heldout_bytes.npy", np.array([1, 2], dtype=np.int64))
    with pytest.raises(ValueError, match=rf"{tmp_path.name}.*4 offsets .* do not fit 2 documents"):
        read_heldout(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("heldout.npy", b"abc", r"heldout\.npy has 3 bytes"),
        ("heldout_offsets.npy", b"", r"heldout_offsets\.npy is cut"),
        ("heldout_bytes.npy", b"words", r"heldout_bytes\.npy is cut"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, complaint):
    write_heldout(tmp_path, TEXTS, trained_tokenizer(TEXTS, vocab_size=300))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        read_heldout(tmp_path)


@pytest.mark.parametrize("offsets", [[1, 2, 3], [0, 9, 5], [0, 0, 5]])
def test_offsets_out_of_order_are_refused(tmp_path, offsets):
    write_heldout(tmp_path, TEXTS, trained_tokenizer(TEXTS, vocab_size=300))
    count = (tmp_path / "heldout.npy").stat().st_size // 2
    np.save(tmp_path / "heldout_offsets.npy", np.array([*offsets, count]))
    with pytest.raises(ValueError, match=r"heldout_offsets\.npy: the offsets must begin at 0"):
        read_heldout(tmp_path)


TOKENIZER = trained_tokenizer(TEXTS, vocab_size=300)


def form(dtype: str = "uint16", **rules: int) -> TokenFormat:
    return TokenFormat(tokenizer=TOKENIZER, rules=TextRules(**{"eos_token_id": EOS_ID} | rules), dtype=dtype)


def saved(folder, kind: str):
    """The texts in one file of a kind: text, or tokens of a data type with eos after each."""
    file = folder / f"held.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS, ""]))
    elif kind == "parquet":
        pq.write_table(pa.table({"id": [1, 2, 3], "text": TEXTS}), file)
    else:
        tokens = [token for text in TEXTS for token in (*TOKENIZER.encode(text).ids, EOS_ID)]
        np.array(tokens, dtype=kind).tofile(file)
    return file


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "uint16", "uint32", "int64"])
def test_a_held_out_set_is_made_of_text_and_of_tokens_of_any_data_type(tmp_path, kind):
    file, out = saved(tmp_path, kind), tmp_path / "out"
    out.mkdir()
    made = make_heldout(out, [file], form(kind if "int" in kind else "uint16"), tokenizer=TOKENIZER)
    assert heldout_texts(out, TOKENIZER) == TEXTS and made.documents == 3
    assert read_heldout(out).bytes.tolist() == [len(text.encode()) for text in TEXTS]


def test_tokens_of_another_tokenizer_become_the_models(tmp_path):
    other = trained_tokenizer(["something else"], vocab_size=290)
    out = tmp_path / "out"
    out.mkdir()
    make_heldout(out, [saved(tmp_path, "uint16")], form(), tokenizer=other)
    assert heldout_texts(out, other) == TEXTS
    (out / "heldout.json").write_text('{"dtype": "float16"}')
    with pytest.raises(ValueError, match=r"heldout\.json: dtype=float16; allowed: uint16, uint32"):
        read_heldout(out)


def test_what_trains_is_left_out(tmp_path):
    words, whole = " ".join(f"word{n}" for n in range(13)), "a whole one of nine words in all, no more"
    files = {
        "held": [f"so: {words}", "another document", whole],
        "train": [f"before, {words.upper()}! after", f"It is {whole}."],
        "known": [whole],
    }
    for name, texts in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    out = tmp_path / "out"
    out.mkdir()
    held, train, known = (tmp_path / f"{name}.jsonl" for name in files)
    made = make_heldout(out, [held], form(), tokenizer=TOKENIZER, against=[train])
    assert (made.documents, made.dropped) == (1, 2) and heldout_texts(out, TOKENIZER) == ["another document"]
    with pytest.raises(ValueError, match=r"no text in .*known\.jsonl; 1 documents are in the training text"):
        make_heldout(out, [known], form(), tokenizer=TOKENIZER, against=[train])


def test_a_document_ends_where_the_file_ends_it(tmp_path):
    file, out = saved(tmp_path, "uint16"), tmp_path / "out"
    out.mkdir()
    with pytest.raises(ValueError, match=r"held\.uint16 has no token 299 to end its documents"):
        make_heldout(out, [file], form(eos_token_id=299), tokenizer=TOKENIZER)
    assert make_heldout(out, [file], form(eos_token_id=299), tokenizer=TOKENIZER, ends=(EOS_ID,)).documents == 3
    with pytest.raises(ValueError, match=r"holds token id \d+ read as uint32, and the tokenizer has \d+"):
        make_heldout(out, [file.rename(file.with_suffix(".u32"))], form("uint32"), tokenizer=TOKENIZER)
