import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.data.tokenizer import EOS, EOS_ID, PADDING, PADDING_ID, encoded, trained_tokenizer

TEXTS = [
    f"Question: what's the {i}th naïve café\u2019s price?\nAnswer: it'll be  {i * 7} euros -- or so." for i in range(50)
]
TOKENIZER = trained_tokenizer(TEXTS, vocab_size=400)


def _ids(texts: list[str]) -> list[list[int]]:
    return [ids for _, chunk in encoded(TOKENIZER, texts) for ids in chunk]


def test_special_tokens_have_their_ids():
    assert TOKENIZER.token_to_id(EOS) == EOS_ID
    assert TOKENIZER.token_to_id(PADDING) == PADDING_ID


def test_the_same_texts_give_the_same_file_and_merges_make_them_shorter():
    again = trained_tokenizer(iter(TEXTS), vocab_size=400)
    assert again.to_str() == TOKENIZER.to_str()
    assert sum(map(len, _ids(TEXTS))) < sum(len(text.encode()) for text in TEXTS) / 2


# separators, apostrophes and look-alikes of letters and digits are where two regex engines could part
_HARD = st.text(
    alphabet=st.sampled_from("ab Z09 \n\t\r\x1c\x85\u00a0\u2028'\u2019stmdlrve.,-ÀÿɏɐßЖ語२٣²\U0001f600"), max_size=60
)


@given(st.one_of(st.text(max_size=60), _HARD))
@settings(deadline=None)
def test_encoding_by_pieces_equals_the_tokenizers_own_and_loses_nothing(text):
    assert _ids([text]) == [TOKENIZER.encode(text, add_special_tokens=False).ids]
    assert TOKENIZER.decode(_ids([text])[0], skip_special_tokens=False) == text


def test_a_text_that_spells_eos_does_not_end_the_document():
    assert EOS_ID not in _ids([f"before {EOS} after"])[0]


def test_the_fraction_done_ends_at_one_over_many_chunks():
    fractions = [done for done, _ in encoded(TOKENIZER, ["a"] * 10_000)]
    assert fractions == sorted(set(fractions))
    assert len(fractions) > 1
    assert fractions[-1] == 1.0


@pytest.mark.parametrize("vocab_size", [257, 65537])
def test_a_vocabulary_that_uint16_or_bytes_cannot_have_is_refused(vocab_size):
    with pytest.raises(ValueError, match=rf"vocab_size is {vocab_size}; allowed is 258 to 65536"):
        trained_tokenizer(TEXTS, vocab_size=vocab_size)
