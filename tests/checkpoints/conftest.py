"""A training that has begun, in memory and as a checkpoint folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sweep.checkpoints import TrainingState, save_state
from sweep.data import Continued, Instances
from sweep.training.loop import UpdateRules, anneal


@pytest.fixture
def trained(state: TrainingState, instances: Instances) -> TrainingState:
    """Five updates in, so that the moments are not zero."""
    batches = [instances.read(np.array([2 * i, 2 * i + 1])) for i in range(5)]
    list(anneal(state.model, state.optimizer, batches, np.full(5, 3e-3), UpdateRules(max_grad_norm=1.0)))
    order = Continued(num_instances=len(instances), position=state.position, batch_size=2)
    state.position = order.after(5, lr=3e-3)
    return state


@pytest.fixture
def folder(trained: TrainingState, tmp_path: Path) -> Path:
    path = tmp_path / "step5-unsharded"
    path.mkdir()
    save_state(path, trained)
    return path
