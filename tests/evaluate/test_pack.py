"""A pack's tokens against lm-eval's own encoding, its trees and its batches."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from sweep.config import CORE8
from sweep.domain.errors import Refusal
from sweep.evaluate import Pack, TaskRequests, make_pack, trees

from .conftest import MAX_LENGTH, RULES, Encode

BUDGET = 700


@pytest.fixture(scope="module")
def pack(core8: dict[str, TaskRequests], tokenizer: Tokenizer) -> Pack:
    return make_pack(list(core8.values()), tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=BUDGET)


def chains(pack: Pack) -> dict[int, list[tuple[tuple[int, ...], int]]]:
    """For each request, what every scored token is predicted from and what it is, read back from the trees."""
    nodes = []
    node = segment = above = 0
    for num_nodes, num_segments in zip(pack.batch_nodes, pack.batch_segments, strict=True):
        paths: dict[int, tuple[int, ...]] = {}
        here = 0
        for index in range(segment, segment + num_segments):
            up = pack.above[above : above + pack.segment_above[index]]
            path = tuple(pack.ids[node + up].tolist())
            assert not len(up) or paths[int(up[-1])] == path
            for _ in range(pack.segment_nodes[index]):
                path = (*path, int(pack.ids[node + here]))
                paths[here] = path
                here += 1
            above += len(up)
        assert here == num_nodes
        nodes.append(paths)
        node, segment = node + num_nodes, segment + num_segments
    batch_of_row = np.repeat(np.arange(len(pack.batch_rows)), pack.batch_rows)
    predicted = defaultdict(list)
    for row, target, request in zip(pack.target_row, pack.target, pack.target_request, strict=True):
        predicted[int(request)].append((nodes[batch_of_row[row]][int(pack.row[row])], int(target)))
    return {request: sorted(scored, key=lambda item: len(item[0])) for request, scored in predicted.items()}


def expected(context: list[int], rest: list[int], max_length: int) -> list[tuple[tuple[int, ...], int]]:
    whole = (context + rest)[-(max_length + 1) :]
    first = len(whole) - len(rest)
    return [(tuple(whole[:index]), whole[index]) for index in range(first, len(whole))]


@pytest.mark.parametrize("name", CORE8)
def test_trees_hold_what_lm_eval_would_encode(
    name: str, core8: dict[str, TaskRequests], tokenizer: Tokenizer, encode: Encode
) -> None:
    task = core8[name]
    longest = max(len(tokenizer.encode(text).ids) for text in task.continuations)
    for max_length in (MAX_LENGTH, longest + 5):
        pack = make_pack([task], tokenizer, rules=RULES, max_length=max_length, token_budget=BUDGET)
        read = chains(pack)
        for request, pair in enumerate(zip(task.contexts, task.continuations, strict=True)):
            context, rest = encode(*pair)
            assert read[request] == expected(context, rest, max_length)
            assert pack.tokens[request] == len(rest)


def requests(*pairs: tuple[str, str]) -> TaskRequests:
    count = len(pairs)
    return TaskRequests(
        task="made",
        contexts=tuple(context for context, _ in pairs),
        continuations=tuple(rest for _, rest in pairs),
        documents=(0,) * count,
        choices=tuple(range(count)),
        characters=(1,) * count,
        bytes=(1,) * count,
        delimiters=(0,) * count,
        gold=(True,) + (False,) * (count - 1),
    )


SPLIT = tuple((word[:cut], word[cut:]) for word in ("something", "another", "question") for cut in range(1, 7))


def test_trailing_spaces_and_empty_contexts_follow_lm_eval(tokenizer: Tokenizer, encode: Encode) -> None:
    pairs = (
        ("A man is ", "sitting"),
        ("A man  \n", " roof"),
        ("", " on a roof"),
        ("A", " man"),
        ("A man", " is it"),
        *(pair for pair in SPLIT if encode(*pair)[1]),
    )
    assert len(pairs) > 10
    made = requests(*pairs)
    read = chains(make_pack([made], tokenizer, rules=RULES, max_length=50, token_budget=BUDGET))
    for request, pair in enumerate(pairs):
        assert read[request] == expected(*encode(*pair), 50)


def beginnings(pack: Pack, *columns: str) -> dict[tuple[int, ...], set[tuple[int, ...]]]:
    """The distinct beginnings of the requests of each group."""
    distinct = defaultdict(set)
    for request, scored in chains(pack).items():
        path = scored[-1][0]
        group = tuple(int(getattr(pack, column)[request]) for column in columns)
        distinct[group].update(path[:size] for size in range(1, len(path) + 1))
    return distinct


@pytest.mark.parametrize("name", sorted({*CORE8} - {"boolq", "hellaswag"}))
def test_each_beginning_of_a_document_is_computed_once(
    name: str, core8: dict[str, TaskRequests], tokenizer: Tokenizer
) -> None:
    pack = make_pack([core8[name]], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=BUDGET)
    assert pack.num_nodes == sum(map(len, beginnings(pack, "document").values()))


def few_shot(num_documents: int, tokenizer: Tokenizer) -> Pack:
    """Two choices for each document, all after the same examples."""
    examples = "\n\n".join(f"Question: what is {n} plus {n}? Answer: {2 * n}" for n in range(20))
    rows = [(n, choice) for n in range(num_documents) for choice in range(2)]
    made = TaskRequests(
        task="made",
        contexts=tuple(f"{examples}\n\n{n} is the number. Is it even? Answer:" for n, _ in rows),
        continuations=tuple((" yes", " no")[choice] for _, choice in rows),
        documents=tuple(n for n, _ in rows),
        choices=tuple(choice for _, choice in rows),
        characters=(1,) * len(rows),
        bytes=(1,) * len(rows),
        delimiters=(1,) * len(rows),
        gold=(True, False) * num_documents,
    )
    return make_pack([made], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=BUDGET)


def test_examples_shown_to_many_documents_are_computed_once(tokenizer: Tokenizer) -> None:
    pack = few_shot(30, tokenizer)
    (distinct,) = beginnings(pack).values()
    assert pack.num_nodes == len(distinct) < sum(map(len, beginnings(pack, "document").values())) / 4


def test_a_tree_of_many_documents_is_bounded(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 2048
    monkeypatch.setattr(trees, "MOST_OWN", most)
    pack = few_shot(300, tokenizer)
    tree = np.cumsum(pack.segment_above == 0)
    nodes = np.bincount(tree, weights=pack.segment_nodes)[1:]
    assert len(nodes) > 1
    shared = len(
        tokenizer.encode("\n\n".join(f"Question: what is {n} plus {n}? Answer: {2 * n}" for n in range(20))).ids
    )
    assert nodes.max() < most + shared + 50
    assert sorted(chains(pack)) == list(range(600))


def test_rows_are_distinct_and_batches_within_budget(pack: Pack) -> None:
    batch = np.repeat(np.arange(len(pack.batch_rows)), pack.batch_rows)
    assert len(np.unique(np.stack((batch, pack.row)), axis=1).T) == len(pack.row)
    in_batch = np.add.reduceat(pack.segment_above == 0, np.cumsum(pack.batch_segments) - pack.batch_segments)
    assert (pack.batch_nodes[in_batch > 1] <= BUDGET).all()
    assert pack.batch_nodes.sum() == pack.num_nodes == pack.segment_nodes.sum()
    assert (np.diff(pack.target_row) >= 0).all()


def test_a_pack_reads_back_as_saved(pack: Pack, tmp_path: Path) -> None:
    pack.save(tmp_path)
    back = Pack.load(tmp_path)
    assert back.tasks == tuple(CORE8)
    for field in dataclasses.fields(Pack):
        ours, theirs = getattr(pack, field.name), getattr(back, field.name)
        assert np.array_equal(ours, theirs)
        assert isinstance(ours, tuple) or ours.dtype == theirs.dtype


def test_a_continuation_longer_than_the_window_is_refused(core8: dict[str, TaskRequests], tokenizer: Tokenizer) -> None:
    with pytest.raises(Refusal, match="1 to 4 are allowed"):
        make_pack([core8["piqa"]], tokenizer, rules=RULES, max_length=4, token_budget=BUDGET)
