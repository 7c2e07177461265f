"""Everything about a set of requests that no checkpoint changes: token trees in batches, rows to predict, the gold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sweep.domain.errors import Refusal
from sweep.evaluate.encoding import encode
from sweep.evaluate.requests import TaskRequests
from sweep.evaluate.trees import Chain, Int32, Tree, grow

TOKEN_BUDGET = 512
"""Tree nodes of a pack's batch, of all packs that are kept: the engine joins batches, and can't cut one."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What records say of each request besides its log-probability; R long each, as in ChoiceRecord."""

    tasks: tuple[str, ...]
    subjects: tuple[str, ...]
    """Names of all subjects; the first one is that of requests without any."""
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
    """The choice without its question; follows all of its task's requests with, in the same order."""
    greedy: NDArray[np.bool_]
    """Whether the likeliest tokens are asked for."""


@dataclass(frozen=True, kw_only=True)
class Likelihoods:
    """What a model says to the requests of a pack."""

    log_probability: NDArray[np.float64]
    """(R,) of each request's continuation, in nats, summed over its tokens."""
    greedy: NDArray[np.bool_] | None
    """(R,) whether each of its tokens is the likeliest; None: not asked for."""


@dataclass(frozen=True, kw_only=True)
class Pack(Requests):
    """Requests ready for any checkpoint.

    N nodes form G segments, those T trees, those B batches; P tokens are predicted from S of the nodes.
    """

    tokens: Int32
    """(R,) tokens of the continuation."""
    ids: Int32
    """(N,) token of each node, in the order of the batches."""
    segment_nodes: Int32
    """(G,) nodes of each segment."""
    segment_above: Int32
    """(G,) nodes above each segment; 0 for a tree's root, which comes first."""
    above: Int32
    """The nodes above, root downwards, segment after segment; counted from the start of the batch."""
    batch_nodes: Int32
    """(B,)"""
    batch_segments: Int32
    """(B,)"""
    batch_rows: Int32
    """(B,)"""
    row: Int32
    """(S,) node that predicts, ascending, counted from the start of the batch."""
    target_row: Int32
    """(P,) the row that predicts each token, counted over all batches, ascending."""
    target: Int32
    """(P,) the token."""
    target_request: Int32
    """(P,) the request that its log-probability counts for."""

    @property
    def num_nodes(self) -> int:
        """Positions computed for one checkpoint: the total of a progress bar."""
        return len(self.ids)

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


def prepare(
    tasks: Sequence[TaskRequests], tokenizer: Tokenizer, *, eos_token_id: int, max_length: int, token_budget: int
) -> Pack:
    """The pack of the tasks' requests; a batch holds at most `token_budget` nodes, or a single larger tree.

    Inputs longer than `max_length` lose their beginning, as in lm-eval's HFLM. Refusal where a continuation alone
    is longer.
    """
    subjects = ("", *sorted({name for task in tasks for name in task.subjects or ()} - {""}))
    parts = [part for task in tasks for part in _parts(task, subjects)]
    pairs = [pair for part in parts for pair in part.pairs]
    chains = list(_chains(pairs, tokenizer, eos_token_id=eos_token_id, max_length=max_length))
    groups = [(index, *of) for index, part in enumerate(parts) for of in part.groups]
    number = {task.task: index for index, task in enumerate(tasks)}
    requests = Requests(
        tasks=tuple(number),
        subjects=subjects,
        task=np.repeat([number[part.task] for part in parts], [len(part.pairs) for part in parts]).astype(np.int16),
        **{name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    )
    return assemble(requests, grow(chains, groups), token_budget=token_budget)


@dataclass(frozen=True)
class _Part:
    """A task's requests, with their question or without it."""

    task: str
    pairs: list[tuple[str, str]]
    groups: list[tuple[int, ...]]
    """Requests of one group share their beginnings."""
    columns: dict[str, NDArray[Any]]


def _parts(task: TaskRequests, subjects: tuple[str, ...]) -> Iterator[_Part]:
    number = {name: index for index, name in enumerate(subjects)}
    columns: dict[str, NDArray[Any]] = {
        "document": np.asarray(task.documents, dtype=np.int32),
        "choice": np.asarray(task.choices, dtype=np.int16),
        "characters": np.asarray(task.characters, dtype=np.int32),
        "bytes": np.asarray(task.bytes, dtype=np.int32),
        "delimiter": np.asarray(task.delimiters, dtype=np.int8),
        "gold": np.asarray(task.gold, dtype=np.bool_),
        "subject": np.array([number[name] for name in task.subjects or [""] * len(task.gold)], dtype=np.int32),
        "unconditional": np.zeros(len(task.gold), dtype=np.bool_),
        "greedy": np.full(len(task.gold), task.greedy),
    }
    pairs = list(zip(task.contexts, task.continuations, strict=True))
    yield _Part(task.task, pairs, [(document,) for document in task.documents], columns)
    if task.unconditional is not None:
        without = [(task.unconditional, continuation) for continuation in task.continuations]
        columns = {**columns, "unconditional": np.ones(len(task.gold), dtype=np.bool_)}
        yield _Part(task.task, without, [(document,) for document in task.documents], columns)


def assemble(requests: Requests, trees: Iterable[Tree], *, token_budget: int) -> Pack:
    """A pack of the requests over the trees that hold their tokens."""
    # trees with roots of one length together, longest first: a batch pads its roots to one shape
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
    """The batch of each tree: as many trees in turn as fit the budget, and at least one."""
    batch = np.empty(len(tree_nodes), dtype=np.int64)
    number, filled = 0, 0
    for index, nodes in enumerate(tree_nodes.tolist()):
        if filled and filled + nodes > token_budget:
            number, filled = number + 1, 0
        batch[index] = number
        filled += nodes
    return batch


def _chains(
    strings: Sequence[tuple[str, str]], tokenizer: Tokenizer, *, eos_token_id: int, max_length: int
) -> Iterator[Chain]:
    """The token chain of each request, by the rule of lm-eval's `_encode_pair` and HFLM's truncation from the left."""
    pairs = [_move_spaces(*pair) for pair in strings]
    encoded = encode((text for context, rest in pairs for text in (context, context + rest)), tokenizer)
    for request, (context, rest) in enumerate(pairs):
        whole = encoded[context + rest]
        if context:
            # a token may cross the border: lm-eval keeps the context's own and cuts the whole's by their number
            num_scored = len(whole) - len(encoded[context])
            whole = np.concatenate((encoded[context], whole[len(encoded[context]) :]))
        else:
            # lm-eval conditions a continuation without context on the end-of-text token, unless it begins with one
            num_scored = len(whole) - int(whole[0] == eos_token_id)
            whole = whole if whole[0] == eos_token_id else np.concatenate(([eos_token_id], whole)).astype(np.int32)
        if not 0 < num_scored <= max_length:
            raise Refusal(f"tasks: a continuation has {num_scored} tokens; 1 to {max_length} are allowed: {rest!r}")
        yield Chain(request, whole[-(max_length + 1) :], num_scored)


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation
