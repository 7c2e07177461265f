"""Public results that nobody here produced, where this checkout has them beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sweep.analysis.laws import NO_PAST, Curve, Past
from tests.skips import NO_SHARED_DATA

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=NO_SHARED_DATA)


def anneals() -> pd.DataFrame:
    """Published anneals of a 124M Llama (github.com/fabian-sp/lr-scheduling): a row a run, `fval` its final loss."""
    return pd.read_csv(SHARED / "published_anneals.csv")


def grid() -> pd.DataFrame:
    """The 18 linear cooldowns of 50,000 steps that make a full grid, the first run of each."""
    runs = anneals()
    cooldowns = runs[(runs.sched == "wsd") & (runs.decay == "linear") & (runs.iters == 50000)]
    cooldowns = cooldowns[cooldowns.lr.isin([5e-4, 1e-3, 2e-3]) & cooldowns.frac.isin([0.1, 0.2, 0.4, 0.6, 0.8, 0.9])]
    return cooldowns.drop_duplicates(["lr", "frac"])


def curve(size: str, name: str) -> Curve:
    """A published loss curve (github.com/thu-yao-01-luo/MultiPowerLaw), rates between logged steps interpolated."""
    logged = pd.read_csv(SHARED / "loss_curves" / size / f"{name}.csv")
    step = logged.step.to_numpy()
    rates = np.interp(np.arange(step[0], step[-1] + 1), step, logged.lr)
    warmup = 0.5 * step[0] * rates[0]
    return Curve(name, rates[1:], step - step[0], logged.loss.to_numpy(), Past(warmup, NO_PAST.falls))
