"""Several processes that score one pack together: the same bits as one, written once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from sweep.config import CORE8
from sweep.domain.errors import Refusal
from sweep.evaluate import Pack, TaskRequests, make_pack, read_records
from sweep.evaluate.buffers import CPU
from sweep.evaluate.engine import likelihoods
from sweep.evaluate.transformer import Body
from sweep.run.score import Scorer, record_files, score_along
from sweep.system.ranks import ALONE, Ranks
from sweep.system.store import Store
from tests.evaluate.conftest import MAX_LENGTH, RULES, core8, make_olmo, scoring_of, tokenizer
from tests.system.test_ranks import together

__all__ = ["core8", "tokenizer"]


def scored(ranks: Ranks, folder: Path) -> tuple[bytes, bytes, int]:
    """The answers to a pack in a folder, and the nodes that this rank computed for them."""
    told: list[int] = []
    found = likelihoods(
        Body(make_olmo(), replace(CPU, nodes=1, fewest=1)), Pack.load(folder), ranks=ranks, progress=told.append
    )
    assert found.greedy is not None
    return found.log_probability.tobytes(), found.greedy.tobytes(), sum(told)


@pytest.mark.parametrize("size", [2, 3])
def test_together_they_give_the_bits_of_one(
    size: int, core8: dict[str, TaskRequests], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    asked = TaskRequests(**vars(core8["hellaswag"]) | {"greedy": True})
    pack = make_pack([asked], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=300)
    assert len(pack.batch_nodes) > CPU.parts // 2 > size
    pack.save(tmp_path)
    alone = scored(ALONE, tmp_path)
    answers = together(size, scored, tmp_path)
    assert all(answer[:2] == alone[:2] for answer in answers), answers
    nodes = [answer[2] for answer in answers]
    assert sum(nodes) == alone[2] == pack.num_nodes
    assert max(nodes) < 0.7 * sum(nodes), "the work is shared"


def both_sides(ranks: Ranks, folder: Path, name: str) -> Any:
    """The story's part of scoring, on the first rank and on the others."""
    store = Store(folder / name)
    if not ranks.leads:
        return score_along(store, make_olmo, ranks=ranks)
    scoring = scoring_of(folder, "tasks.limit=3", "tasks.heldout=false")
    return record_files(Scorer(store, scoring, torch.device("cpu"), ranks), "w", make_olmo, when="x")


def test_the_first_rank_writes_what_all_have_scored(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    alone = both_sides(ALONE, tmp_path, "alone")
    files, nothing = together(2, both_sides, tmp_path, "shared")
    assert nothing is None
    assert set(files) == set(alone) == set(CORE8)
    for name, file in alone.items():
        assert read_records(files[name]).equals(read_records(file)), name
    assert together(2, both_sides, tmp_path, "shared")[0] == files, "and nothing is left to do"
    assert np.isfinite(read_records(files["piqa"])["log_probability"].to_numpy()).all()


def apart(ranks: Ranks, folder: Path) -> str | None:
    """Both sides, each rank with a store of its own."""
    try:
        both_sides(ranks, folder, f"of-{ranks.rank}")
    except Refusal as refusal:
        return str(refusal)
    except RuntimeError:  # the connection to the rank that has refused
        return None
    return "scored"


def test_ranks_without_a_shared_store_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    alone, refused = together(2, apart, tmp_path)
    assert alone is None
    assert refused is not None and "of-1: this rank doesn't see the tasks that the first one prepared" in refused
