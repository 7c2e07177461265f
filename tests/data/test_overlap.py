from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.data.overlap import Index, normalised


def _sharing(texts: list[str], others: list[str], run: int) -> list[bool]:
    return Index(others, [], run=run, shortest=run).lookup(texts)[0].tolist()


def _containing(texts: list[str], wholes: list[str], lengths: range) -> list[bool]:
    return Index([], wholes, run=lengths.stop, shortest=lengths.start).lookup(texts)[1].tolist()


def test_case_punctuation_and_spacing_do_not_count():
    assert normalised("  The “Quick”,\n brown-fox's 2nd JUMP! ") == "the quick brown fox s 2nd jump"


def test_a_run_is_found_anywhere_inside_and_never_across_two_texts():
    others = ["x one two", "three four y"]
    texts = ["nothing here", "so: ONE, two!", "one two three four", "three", "", "two three"]
    assert _sharing(texts, others, 2) == [False, True, True, False, False, False]
    assert _sharing(["one two three"], others, 3) == [False]


def test_texts_shorter_than_the_run_share_nothing():
    assert _sharing(["one two", ""], ["one two"], 3) == [False, False]
    assert _sharing([], ["one two"], 1) == []
    assert _sharing(["one"], [], 1) == [False]


def test_a_whole_is_contained_only_at_the_lengths_allowed():
    texts = ["a b c d", "b c", "c d e", "", "x y z"]
    wholes = ["b c", "c d e", "z", ""]
    assert _containing(texts, wholes, range(2, 4)) == [True, True, True, False, False]
    assert _containing(texts, wholes, range(3, 4)) == [False, False, True, False, False]
    assert _containing(texts, wholes, range(1, 2)) == [False, False, False, False, True]


def _runs(text: str, run: int) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + run]) for i in range(len(words) - run + 1)}


_TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=12).map(" ".join), max_size=6)


@given(_TEXTS, _TEXTS, st.integers(1, 5))
@settings(deadline=None)
def test_sharing_equals_sets_of_word_tuples(texts, others, run):
    theirs = set().union(*(_runs(other, run) for other in others))
    assert _sharing(texts, others, run) == [not theirs.isdisjoint(_runs(text, run)) for text in texts]


def test_half_a_million_different_runs_do_not_collide():
    numbers = np.arange(500_000).astype(str).tolist()
    texts = [" ".join(pair) for pair in pairwise(numbers)]
    assert not any(_sharing(texts, [f"{b} {a}" for a, b in pairwise(numbers)], 2))
