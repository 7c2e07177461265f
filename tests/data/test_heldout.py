from itertools import pairwise

import numpy as np
import pytest

from sweep.data import read_heldout
from sweep.data.heldout import write_heldout
from sweep.data.tokenizer import EOS_ID, trained_tokenizer

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
