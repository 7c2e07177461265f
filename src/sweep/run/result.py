"""The result of a run, put together from its parts."""

from __future__ import annotations

from sweep.domain.records import Cost, RunResult, Score
from sweep.models import architecture_of
from sweep.planning.names import Identity
from sweep.planning.plan import training_flops
from sweep.run.anneal import Annealed
from sweep.run.prepare import Prepared
from sweep.run.provenance import versions
from sweep.run.score import Spent


def run_result(
    identity: Identity,
    prepared: Prepared,
    annealed: Annealed,
    scores: dict[str, tuple[Score, ...]],
    cost: Cost,
    build: str,
) -> RunResult:
    """The outcome of one run; `scores` are "before", "after" and "delta"."""
    return RunResult(
        key=identity.key,
        name=identity.name,
        params=dict(identity.params),
        position=prepared.plan.position,
        **scores,
        final_state=annealed.checkpoint.key,
        final_loss=annealed.steps[-1].loss if annealed.steps else None,
        cost=cost,
        versions=versions(),
        build=build,
    )


def run_cost(prepared: Prepared, annealed: Annealed, spent: Spent, seconds: float) -> Cost:
    """What a run took: compute, and wall seconds of its parts."""
    plan, config = prepared.plan, prepared.checkpoint.config
    return Cost(
        tokens=plan.tokens,
        flops=training_flops(
            matrix_parameters=architecture_of(config).matrix_parameters(),
            num_layers=config.model.n_layers,
            d_model=config.model.d_model,
            sequence_length=plan.sequence_length,
            tokens=plan.tokens,
        ),
        anneal_s=sum(step.seconds for step in annealed.steps),
        updates_done=annealed.updates_done,
        scoring_s=spent.scoring_s,
        preparing_s=spent.preparing_s,
        seconds=seconds,
    )
