"""The story of one run: take a checkpoint, score it, anneal it on its own data, score it again, record everything."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from sweep.config import RunConfig
from sweep.domain.records import RunResult
from sweep.planning.names import run_identity, run_name
from sweep.run.anneal import anneal
from sweep.run.builds import this_build
from sweep.run.memory import Memory
from sweep.run.prepare import prepare
from sweep.run.record import recorded
from sweep.run.result import run_cost, run_result
from sweep.run.score import Scorer
from sweep.run.states import INTERIM
from sweep.system.lease import Lease
from sweep.system.ranks import ALONE, Ranks
from sweep.system.store import store_at

log = logging.getLogger(__name__)


def run(
    config: RunConfig, folder: Path, *, command: str, lease: Lease, ranks: Ranks = ALONE, memory: Memory
) -> RunResult:
    """The result of one run. Everything on the way is in the journal in `folder`, failures too.

    `memory` has what earlier runs of this process have read. `lease` is the right to write there; LeaseLost where
    another process took it over. Of several `ranks` the first one runs it, and the others `follow`.
    """
    store, identity = store_at(folder.parents[1]), run_identity(config)
    with store.claims.within(), recorded(config, identity, folder, command=command, lease=lease, ranks=ranks) as record:
        started = time.perf_counter()
        prepared = prepare(store, config, identity.name, ranks, memory)
        record.inputs(store, identity, prepared)

        scorer = Scorer(store, prepared.scoring, prepared.device, ranks, memory)
        log.info("%s: %d updates, scored before and after", identity.name, config.anneal.steps)
        before = scorer.score(prepared.checkpoint, "before")
        record.scores("before", before.scores)

        annealed = anneal(store, prepared, on_step=record.step)

        after = scorer.score(annealed.checkpoint, "after")
        changed = annealed.checkpoint.key != prepared.checkpoint.key
        delta = scorer.deltas(before, after) if changed else ()
        record.scores("after", after.scores)
        record.scores("delta", delta)
        record.files("before", before.files)
        record.files("after", after.files)

        scores = {"before": before.scores, "after": after.scores, "delta": delta}
        cost = run_cost(prepared, annealed, scorer.spent, time.perf_counter() - started)
        build = this_build(config.compute, prepared.device)
        result = run_result(identity, prepared, annealed, scores, cost, build)
        record.result(result)
    if not config.anneal.keep:  # the last of the runs that share it drops it; if one keeps it, it is of another kind
        store.drop(INTERIM, result.final_state)
    return result


def follow(config: RunConfig, folder: Path, *, ranks: Ranks, memory: Memory) -> None:
    """The part of a run's ranks other than the first: their share of the scoring and of the anneal's updates."""
    store = store_at(folder.parents[1])
    prepared = prepare(store, config, run_name(config), ranks, memory)
    scorer = Scorer(store, prepared.scoring, prepared.device, ranks, memory)
    scorer.follow(prepared.checkpoint)
    scorer.follow(anneal(store, prepared).checkpoint)
