"""Scores are named by weights, task and protocol: each is computed once, and read by every later run of any sweep."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from sweep import data, evaluate
from sweep.checkpoints import load_model, weights_key
from sweep.config import Tasks
from sweep.domain import cache_versions
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.domain.records import Score
from sweep.domain.text_rules import TextRules
from sweep.evaluate.decoder import Decoder
from sweep.evaluate.engine import body_of, likelihoods
from sweep.evaluate.transformer import Body
from sweep.models import architecture_of
from sweep.planning.names import label
from sweep.run.checkpoint_folder import CheckpointFolder, stored_digests
from sweep.run.memory import Memory
from sweep.system import stop_signals
from sweep.system.files import file_digest
from sweep.system.progress import Progress
from sweep.system.ranks import ALONE, Ranks
from sweep.system.store import Store

log = logging.getLogger(__name__)

RECORDS = "records.parquet"
OF_THE_MACHINE = ("init_device", "flash_attention")
"""Settings of ai2-olmo's architecture that say where a model is loaded, and by which kernel it attends elsewhere."""
Reader = Callable[[str, Path], "TaskScores"]
"""Reads one task's scores from its records."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """All that scoring needs besides the weights."""

    tasks: Tasks
    tokenizer: Path
    rules: TextRules
    max_length: int
    heldout: Path | None
    """Folder with held-out documents; None: there are none for this model."""
    numerics: str
    """Digest of all else that decides the bits of a log-probability: device, threads, build, engine, matmul library."""
    others: tuple[str, ...] = ()
    """The same of other builds, whose scores are taken too."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks; held-out text comes last."""
        return (*self.tasks.metrics, *([evaluate.HELDOUT] if self.heldout and self.tasks.heldout else []))


@dataclass(kw_only=True)
class Spent:
    """Seconds that scoring has taken so far."""

    preparing_s: float = 0.0
    """For what no checkpoint changes: requests and packs, made or read."""
    scoring_s: float = 0.0
    """In all, preparing included."""


@dataclass(frozen=True)
class Scored:
    """The scores of one checkpoint."""

    files: dict[str, Path]
    """Task -> its records.parquet."""
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class TaskScores:
    """What the records of one task say of one checkpoint."""

    table: Any
    """The records, a pyarrow.Table."""
    scores: tuple[Score, ...]
    chance: float | None
    """Accuracy of guessing; None where the task has no choices."""


def read_scores(name: str, file: Path) -> TaskScores:
    """Every metric of one task, from its records."""
    table = evaluate.read_records(file)
    chance = None if name == evaluate.HELDOUT else evaluate.chance_of(table)
    return TaskScores(table, tuple(evaluate.scores(name, table)), chance)


@dataclass(frozen=True)
class Scorer:
    """Scores checkpoints; what the store has already is only read."""

    store: Store
    scoring: Scoring
    device: torch.device
    ranks: Ranks = ALONE
    memory: Memory = dataclasses.field(default_factory=Memory)
    spent: Spent = dataclasses.field(default_factory=Spent)

    def score(self, checkpoint: CheckpointFolder, when: str) -> Scored:
        """All scores of a checkpoint, "before" or "after" the anneal. Of several ranks the others `follow`."""
        weights, load = scored_weights(self.store, checkpoint), functools.partial(self._load, checkpoint)
        files = record_files(self, weights, load, when=when, former=checkpoint.key)
        return Scored(files, scores(files, self.scoring.tasks, read=self._read))

    def deltas(self, before: Scored, after: Scored) -> tuple[Score, ...]:
        """after - before of the same metrics."""
        return deltas(before.files, after.files, self.scoring.tasks, read=self._read)

    def follow(self, checkpoint: CheckpointFolder) -> None:
        """The part of ranks other than the first in `score`."""
        score_along(self.store, functools.partial(self._load, checkpoint), ranks=self.ranks)

    def _read(self, name: str, file: Path) -> TaskScores:
        return self.memory.scores.get(str(file), lambda: read_scores(name, file))

    def _load(self, checkpoint: CheckpointFolder) -> nn.Module:
        model: nn.Module = load_model(checkpoint.folder, checkpoint.config, device=self.device)
        return model.eval()


def scored_weights(store: Store, checkpoint: CheckpointFolder) -> str:
    """Digest of all of a checkpoint that decides its scores: its weights, and the architecture that reads them."""
    weights = checkpoint.weights or weights_key(checkpoint.folder, known=stored_digests(store, checkpoint.folder))
    architecture = dataclasses.asdict(checkpoint.config.model)
    sizes = {name: value for name, value in architecture.items() if name not in OF_THE_MACHINE}
    identity = architecture_of(checkpoint.config).identity()
    return digest(weights, sizes, *([identity] if identity else []))


def record_files(
    scorer: Scorer, weights: str, load: Callable[[], nn.Module], *, when: str, former: str | None = None
) -> dict[str, Path]:
    """Each task's `records.parquet` for one set of weights; what the store lacks is computed.

    `weights` is the digest of the weights; `former` is what named their scores in earlier releases.

    `load` is called only if something is missing. Refusal, before any forward pass, where a task's data is missing.
    """
    started = time.perf_counter()
    store, scoring, ranks, spent = scorer.store, scorer.scoring, scorer.ranks, scorer.spent
    packs = {name: _pack_key(scoring, name) for name in scoring.names}
    keys = {name: _score_key(scorer, (weights, former or weights), pack_key) for name, pack_key in packs.items()}
    make_pack = {name: functools.partial(_make_pack, scoring, name) for name in scoring.names}
    missing = [name for name in scoring.names if not store.has("scores", keys[name])]
    store.make_all("packs", {packs[name]: make_pack[name] for name in missing})
    spent.preparing_s += time.perf_counter() - started
    body = functools.cache(lambda: body_of(load()))

    def score(name: str, folder: Path) -> None:
        began = time.perf_counter()
        folder_of_pack = functools.partial(store.make, "packs", packs[name], make_pack[name])
        pack = scorer.memory.packs.get(packs[name], lambda: evaluate.Pack.load(folder_of_pack()))
        spent.preparing_s += time.perf_counter() - began
        ranks.from_first(lambda: packs[name])
        title = f"scoring {when}: {label(name, scoring.tasks.limit)}"
        answers = _likelihoods(body, pack, title=title, ranks=ranks)
        table = evaluate.records_table(pack, name, answers)
        if name != evaluate.HELDOUT:
            table = evaluate.finished_records(scoring.tasks.tasks()[name], table)
        evaluate.write_records(table, folder / RECORDS)

    folders = store.make_all("scores", {keys[name]: functools.partial(score, name) for name in scoring.names})
    ranks.from_first(lambda: None)
    spent.scoring_s += time.perf_counter() - started
    return {name: folders[key] / RECORDS for name, key in keys.items()}


def _score_key(scorer: Scorer, names: Sequence[str], pack_key: str) -> str:
    """The key of a score; that of another build's where there is one, this build has none, and it may be taken."""
    store, scoring = scorer.store, scorer.scoring
    own = digest("scores", names[0], pack_key, scoring.numerics)
    if not scoring.others or store.has("scores", own):
        return own
    others = (digest("scores", name, pack_key, numbers) for numbers in scoring.others for name in names)
    taken = next((key for key in others if store.get("scores", key) is not None), None)
    if taken is not None:
        log.info("compute.reuse=any: score %s was made by another build", taken)
    return taken or own


def score_along(store: Store, load: Callable[[], nn.Module], *, ranks: Ranks) -> None:
    """The part of ranks other than the first in `record_files`: their share of each pack that the first one names."""
    body = functools.cache(lambda: body_of(load()))
    while (key := ranks.from_first(str)) is not None:
        folder = store.get("packs", key)
        if folder is None:
            raise Refusal(
                f"SWEEP_STORE={store.root}: this rank doesn't see the tasks that the first one prepared; allowed with "
                "several nodes: a folder that all of them share"
            )
        likelihoods(body(), evaluate.Pack.load(folder), ranks=ranks)


def _likelihoods(
    body: Callable[[], Body | Decoder], pack: evaluate.Pack, *, title: str, ranks: Ranks
) -> evaluate.Likelihoods:
    """The first rank's part of scoring a pack, with a progress bar; Stopped where the run was asked to stop."""
    with Progress(title, total=pack.num_nodes // ranks.size) as bar:

        def advance(nodes: int) -> None:
            bar.advance(nodes)
            stop_signals.check()

        return likelihoods(body(), pack, ranks=ranks, progress=advance)


def scores(files: dict[str, Path], tasks: Tasks, *, read: Reader = read_scores) -> tuple[Score, ...]:
    """Every metric of every task, and the aggregates of each suite."""
    of_tasks = {name: read(name, file) for name, file in files.items()}
    found, chances = _by_name(of_tasks), _chances(of_tasks)
    made = [s for suite, of in tasks.suites.items() for s in evaluate.aggregates(suite, of.metrics, found, chances)]
    return _labelled([*found.values(), *made], tasks)


def deltas(
    before: dict[str, Path], after: dict[str, Path], tasks: Tasks, *, read: Reader = read_scores
) -> tuple[Score, ...]:
    """after - before of the same metrics; standard errors are paired over documents."""
    old, new = ({name: read(name, file) for name, file in of.items()} for of in (before, after))
    first, second = _by_name(old), _by_name(new)
    each = (s for name in old for s in evaluate.deltas(name, old[name].table, new[name].table))
    paired = {(score.task, score.metric): score for score in each}
    made = [
        score
        for suite, of in tasks.suites.items()
        for score in evaluate.aggregate_deltas(suite, of.metrics, first, second, paired, _chances(old))
    ]
    return _labelled([*paired.values(), *made], tasks)


def check_tasks(tasks: Tasks) -> None:
    """Refusal, before anything is computed, where a task's data are missing or differ from the wheel's."""
    for task in tasks.tasks().values():
        evaluate.protocol(task)
        if task.source == "hub":
            evaluate.load_task(task)


def _by_name(of_tasks: Mapping[str, TaskScores]) -> dict[tuple[str, str], Score]:
    return {(score.task, score.metric): score for of in of_tasks.values() for score in of.scores}


def _chances(of_tasks: Mapping[str, TaskScores]) -> dict[str, float]:
    return {name: of.chance for name, of in of_tasks.items() if of.chance is not None}


def _labelled(found: list[Score], tasks: Tasks) -> tuple[Score, ...]:
    """The scores with the limit in every task's name."""
    return tuple(dataclasses.replace(score, task=label(score.task, tasks.limit)) for score in found)


def task_digests(scoring: Scoring) -> dict[str, str]:
    """Task, with its limit -> digest of everything that decides what is asked."""
    return {label(name, scoring.tasks.limit): _made_of(scoring, name) for name in scoring.names}


def _made_of(scoring: Scoring, name: str) -> str:
    if name == evaluate.HELDOUT:
        assert scoring.heldout is not None
        return digest(*(file_digest(f) for f in data.heldout_files(scoring.heldout)), scoring.tasks.limit)
    return evaluate.protocol(scoring.tasks.tasks()[name])


def _pack_key(scoring: Scoring, name: str) -> str:
    tokenizer, made_of = file_digest(scoring.tokenizer), _made_of(scoring, name)
    rules, budget = scoring.rules, evaluate.TOKEN_BUDGET
    shape = [rules.eos_token_id, scoring.max_length, budget, *rules.more_in_keys]
    return digest("pack", cache_versions.PACK, made_of, tokenizer, *shape)


def _make_pack(scoring: Scoring, name: str, folder: Path) -> None:
    _pack(scoring, name).save(folder)


def _pack(scoring: Scoring, name: str) -> evaluate.Pack:
    limit = scoring.tasks.limit
    if name == evaluate.HELDOUT:
        assert scoring.heldout is not None
        heldout = data.read_heldout(scoring.heldout)
        documents = evaluate.TextDocuments(
            tokens=heldout.tokens,
            offsets=heldout.offsets[: limit and limit + 1],
            characters=heldout.characters[:limit],
            bytes=heldout.bytes[:limit],
        )
        return evaluate.heldout_pack(
            documents,
            prefix_token_id=scoring.rules.prefix_token_id,
            eos_token_id=scoring.rules.eos_token_id,
            sequence_length=scoring.max_length,
        )
    return evaluate.make_pack(
        [evaluate.load_task(scoring.tasks.tasks()[name])],
        Tokenizer.from_file(str(scoring.tokenizer)),
        rules=scoring.rules,
        max_length=scoring.max_length,
    )
