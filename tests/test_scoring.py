"""What names a score: everything that decides its number, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from sweep import evaluate
from sweep.config import CORE8
from sweep.evaluate import protocols
from sweep.scoring import Scoring, _pack_key
from tests.test_config import composed


@pytest.fixture
def scoring(tmp_path: Path) -> Scoring:
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    return Scoring(
        tasks=composed().tasks,
        tokenizer=tmp_path / "tokenizer.json",
        eos_token_id=0,
        max_length=128,
        heldout=None,
        numerics="cpu",
    )


def with_(scoring: Scoring, **changes: Any) -> Scoring:
    return Scoring(**vars(scoring) | changes)


@pytest.mark.parametrize("change", [{"eos_token_id": 1}, {"max_length": 64}])
def test_a_pack_is_named_by_what_its_tokens_depend_on(scoring: Scoring, change: dict[str, int]) -> None:
    assert _pack_key(scoring, "piqa") != _pack_key(with_(scoring, **change), "piqa")


def test_a_pack_is_shared_by_devices_and_threads(scoring: Scoring) -> None:
    assert _pack_key(scoring, "piqa") == _pack_key(with_(scoring, numerics="cuda"), "piqa")


def test_the_core_tasks_are_defined_once() -> None:
    assert set(CORE8) == set(protocols.SOURCES)
    assert not hasattr(protocols, "CORE8") and not hasattr(evaluate, "CORE8")
