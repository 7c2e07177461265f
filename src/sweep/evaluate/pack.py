"""A pack: what no checkpoint changes of a set of requests. Holds their token trees in batches, and the gold choices."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sweep.domain.errors import Refusal
from sweep.domain.text_rules import TextRules
from sweep.evaluate.encoding import encode, surrounded
from sweep.evaluate.requests import TaskRequests
from sweep.evaluate.trees import Chain, Int32, Tree, token_trees, windows

TOKEN_BUDGET = 512
"""Tree nodes of a batch in the packs that the store keeps. The engine can join batches, but not cut one."""


@dataclass(frozen=True, kw_only=True)
class RequestColumns:
    """What records say of each of R requests besides its log-probability, as in ChoiceRecord; arrays have R entries."""

    tasks: tuple[str, ...]
    subjects: tuple[str, ...]
    """Names of all subjects. The first one is empty: requests without a subject have it."""
    task: NDArray[np.int16]
    """Index into `tasks`."""
    document: Int32
    choice: NDArray[np.int16]
    characters: Int32
    bytes: Int32
    delimiter: NDArray[np.int8]
    gold: NDArray[np.bool_]
    subject: Int32
    """Index into `subjects`."""
    unconditional: NDArray[np.bool_]
    """Whether the choice is scored without its question. These follow the task's other requests, in the same order."""
    greedy: NDArray[np.bool_]
    """Whether the request asks if its tokens are the likeliest ones."""


Way = Callable[[str, str, Mapping[str, Int32], TextRules], tuple[Int32, int]]
"""From context, continuation and the tokens of texts to all tokens of a request, and how many of them are scored."""
Text = tuple[str, str, Way]
"""Context, continuation, and how their tokens are put together."""
COLUMN_TYPES = {
    **dict.fromkeys(("document", "characters", "bytes", "subject"), np.int32),
    **dict.fromkeys(("task", "choice"), np.int16),
    "delimiter": np.int8,
    **dict.fromkeys(("gold", "unconditional", "greedy"), np.bool_),
}
"""Name and type of each array of `RequestColumns`."""


def column_arrays(count: int, **columns: Any) -> dict[str, NDArray[Any]]:
    """The arrays of `RequestColumns` for `count` requests. A single value is repeated; a column without value is 0."""
    return {name: np.full(count, columns.get(name, 0), dtype=dtype) for name, dtype in COLUMN_TYPES.items()}


@dataclass(frozen=True, kw_only=True)
class Likelihoods:
    """The answers of a model to the R requests of a pack."""

    log_probability: NDArray[np.float64]
    """(R,) log-probability of each continuation, in nats, summed over its tokens."""
    greedy: NDArray[np.bool_] | None
    """(R,) whether all tokens of the continuation are the likeliest ones; None: no request asks for it."""


@dataclass(frozen=True, kw_only=True)
class Pack(RequestColumns):
    """Requests that are ready for any checkpoint.

    N nodes form G segments, these form trees, and these form B batches. P tokens are predicted from S of the nodes.
    """

    tokens: Int32
    """(R,) tokens of the continuation."""
    ids: Int32
    """(N,) token of each node, in the order of the batches."""
    segment_nodes: Int32
    """(G,) nodes of each segment."""
    segment_above: Int32
    """(G,) nodes above each segment; 0 for the root of a tree, which comes first."""
    above: Int32
    """The nodes above each segment, from the root downwards; counted from the start of the batch."""
    batch_nodes: Int32
    """(B,) nodes of each batch."""
    batch_segments: Int32
    """(B,) segments of each batch."""
    batch_rows: Int32
    """(B,) nodes that predict in each batch."""
    row: Int32
    """(S,) the nodes that predict, ascending; counted from the start of the batch."""
    target_row: Int32
    """(P,) index into `row` for each predicted token, ascending."""
    target: Int32
    """(P,) the predicted tokens."""
    target_request: Int32
    """(P,) the request that the log-probability of each predicted token counts for."""

    @property
    def num_nodes(self) -> int:
        """Positions that are computed for one checkpoint: the total of a progress bar."""
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take in memory."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def save(self, folder: Path) -> None:
        """Write the pack into an existing folder."""
        names = {"tasks": self.tasks, "subjects": self.subjects}
        np.savez(folder / "pack.npz", **{k: v for k, v in vars(self).items() if k not in names})
        (folder / "pack.json").write_text(json.dumps(names))

    @classmethod
    def load(cls, folder: Path) -> Pack:
        """The pack that `save` wrote."""
        names: dict[str, Any] = json.loads((folder / "pack.json").read_text())
        with np.load(folder / "pack.npz", allow_pickle=False) as arrays:
            return cls(tasks=tuple(names["tasks"]), subjects=tuple(names["subjects"]), **arrays)


def make_pack(
    tasks: Sequence[TaskRequests],
    tokenizer: Tokenizer,
    *,
    rules: TextRules,
    max_length: int,
    token_budget: int = TOKEN_BUDGET,
) -> Pack:
    """The pack of the tasks' requests. A batch holds at most `token_budget` nodes, or a single larger tree.

    Inputs longer than `max_length` tokens lose their beginning, as in lm-eval's HFLM. A continuation that alone is
    longer is scored in windows, if it is rolling or tokenised by itself; else Refusal.
    """
    subjects = ("", *sorted({name for task in tasks for name in task.subjects or ()} - {""}))
    texts: list[Text] = []
    groups: list[tuple[int, int]] = []
    columns: list[dict[str, NDArray[Any]]] = []
    for index, task in enumerate(tasks):
        for unconditional in (False, True) if task.unconditional is not None else (False,):
            contexts = [task.unconditional or ""] * len(task.gold) if unconditional else task.contexts
            way = _rolling if task.rolling else _apart if task.separate else _together
            texts += zip(contexts, task.continuations, repeat(way))
            groups += [(len(columns), document) for document in task.documents]
            columns.append(_columns(task, task=index, subjects=subjects, unconditional=unconditional))
    requests = RequestColumns(
        tasks=tuple(task.task for task in tasks),
        subjects=subjects,
        **{name: np.concatenate([part[name] for part in columns]) for name in columns[0]},
    )
    chains = list(_chains(texts, tokenizer, rules=rules, max_length=max_length))
    owners = [groups[chain.request] for chain in chains]
    return assemble(requests, token_trees(chains, owners), token_budget=token_budget)


def _columns(
    requests: TaskRequests, *, task: int, subjects: Sequence[str], unconditional: bool
) -> dict[str, NDArray[Any]]:
    return column_arrays(
        len(requests.gold),
        task=task,
        document=requests.documents,
        choice=requests.choices,
        characters=requests.characters,
        bytes=requests.bytes,
        delimiter=requests.delimiters,
        gold=requests.gold,
        subject=[subjects.index(name) for name in requests.subjects] if requests.subjects else 0,
        unconditional=unconditional,
        greedy=requests.greedy,
    )


def assemble(requests: RequestColumns, trees: Iterable[Tree], *, token_budget: int) -> Pack:
    """The pack of requests whose tokens are in `trees`."""
    # trees whose roots have one length stand together, longest first: a batch pads its roots to one shape
    ordered = sorted(trees, key=lambda tree: (-len(tree.segments[0].tokens), -tree.size))
    tree_nodes = np.array([tree.size for tree in ordered])
    batch = _batch_of(tree_nodes, token_budget)
    batch_nodes = np.bincount(batch, weights=tree_nodes).astype(np.int32)
    start = np.cumsum(tree_nodes) - tree_nodes
    batch_start = np.cumsum(batch_nodes) - batch_nodes
    in_batch = start - batch_start[batch]
    segments = [segment for tree in ordered for segment in tree.segments]
    node = np.concatenate([s + nodes for s, tree in zip(start, ordered, strict=True) for _, nodes, _ in tree.targets])
    rows, target_row = np.unique(node, return_inverse=True)
    order = np.argsort(target_row, kind="stable")
    batch_of_row = np.searchsorted(batch_start, rows, side="right") - 1
    target = [target for tree in ordered for target in tree.targets]
    request = np.repeat([index for index, _, _ in target], [len(nodes) for _, nodes, _ in target])
    return Pack(
        **{f.name: getattr(requests, f.name) for f in dataclasses.fields(requests)},
        tokens=np.bincount(request, minlength=len(requests.document)).astype(np.int32),
        ids=np.concatenate([segment.tokens for segment in segments]),
        segment_nodes=np.array([len(segment.tokens) for segment in segments], dtype=np.int32),
        segment_above=np.array([len(segment.above) for segment in segments], dtype=np.int32),
        above=np.concatenate(
            [s.above + base for base, tree in zip(in_batch, ordered, strict=True) for s in tree.segments]
        ),
        batch_nodes=batch_nodes,
        batch_segments=np.bincount(batch, weights=[len(tree.segments) for tree in ordered]).astype(np.int32),
        batch_rows=np.bincount(batch_of_row, minlength=len(batch_nodes)).astype(np.int32),
        row=(rows - batch_start[batch_of_row]).astype(np.int32),
        target_row=target_row[order].astype(np.int32),
        target=np.concatenate([tokens for _, _, tokens in target])[order],
        target_request=request[order].astype(np.int32),
    )


def _batch_of(tree_nodes: NDArray[np.int64], token_budget: int) -> NDArray[np.int64]:
    """The batch of each tree. A batch takes trees as long as they fit the budget, and at least one."""
    batch = np.empty(len(tree_nodes), dtype=np.int64)
    number, filled = 0, 0
    for index, nodes in enumerate(tree_nodes.tolist()):
        if filled and filled + nodes > token_budget:
            number, filled = number + 1, 0
        batch[index] = number
        filled += nodes
    return batch


def _chains(texts: Sequence[Text], tokenizer: Tokenizer, *, rules: TextRules, max_length: int) -> Iterator[Chain]:
    """The token chains of each context and continuation: one, or one for each window."""
    pairs = [_move_spaces(context, rest) if way is _together else (context, rest) for context, rest, way in texts]
    encoded = encode(_encoded_texts(pairs, texts), tokenizer)
    for request, ((context, rest), (*_, way)) in enumerate(zip(pairs, texts, strict=True)):
        tokens, num_scored = way(context, rest, encoded, rules)
        if not num_scored > 0 or (way is _together and num_scored > max_length):
            raise Refusal(f"tasks: a continuation has {num_scored} tokens; 1 to {max_length} are allowed: {rest!r}")
        yield from windows(request, tokens, num_scored, max_length)


def _rolling(_: str, text: str, encoded: Mapping[str, Int32], rules: TextRules) -> tuple[Int32, int]:
    """All tokens of a text without context, and how many of them are scored: all but the prefix token."""
    tokens = surrounded(text, encoded[text], rules)
    return np.concatenate(([rules.prefix_token_id], tokens)).astype(np.int32), len(tokens)


def _apart(context: str, rest: str, encoded: Mapping[str, Int32], rules: TextRules) -> tuple[Int32, int]:
    """All tokens, and how many of them are scored, if context and continuation are tokenised each by itself."""
    before = rules.before if rules.surrounds(context) else ()
    return np.concatenate((before, encoded[context], encoded[rest])).astype(np.int32), len(encoded[rest])


def _together(context: str, rest: str, encoded: Mapping[str, Int32], rules: TextRules) -> tuple[Int32, int]:
    """The same as lm-eval's `_encode_pair` makes them."""
    whole, prefix = encoded[context + rest], rules.prefix_token_id
    if context:
        # a token may cross the border: lm-eval keeps the tokens of the context, and cuts as many from the whole
        first, whole = surrounded(context, encoded[context], rules), surrounded(context + rest, whole, rules)
        return np.concatenate((first, whole[len(first) :])), len(whole) - len(first)
    # lm-eval conditions a continuation without context on the prefix token, unless it begins with it
    if whole[0] == prefix:
        return whole, len(whole) - 1
    return np.concatenate(([prefix], whole)).astype(np.int32), len(whole)


def _encoded_texts(pairs: Sequence[tuple[str, str]], texts: Sequence[Text]) -> Iterator[str]:
    """The texts of which `_chains` needs the tokens."""
    for (context, rest), (*_, way) in zip(pairs, texts, strict=True):
        yield context
        yield context + rest if way is _together else rest


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    """The same text with the spaces at the end of the context moved to the continuation."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation
