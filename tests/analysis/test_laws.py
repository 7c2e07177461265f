"""Annealing laws: what they find in curves made by them, and in published ones."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.analysis.laws import LAWS, Curve, multi_power, quality, tissue
from sweep.domain.schedule import learning_rates
from tests.analysis.published import curve, needs_data

FITTED = ("constant_24000", "cosine_24000", "wsdcon_9")
"""As the multi-power law's authors: three schedules to fit, the others held out."""
HELD_OUT = ("wsdld_20000_24000", "wsd_20000_24000", "wsdcon_3", "constant_72000")


@needs_data
@pytest.mark.parametrize("size", ["25M", "100M"])
def test_the_multi_power_law_meets_published_curves(size: str) -> None:
    law = multi_power([curve(size, name) for name in FITTED])
    fitted = [quality(law, curve(size, name), fitted=True) for name in FITTED]
    held_out = [quality(law, curve(size, name), fitted=False) for name in HELD_OUT]
    assert all(q.r2 is not None and q.r2 > 0.997 for q in fitted)
    assert all(q.mean_absolute_error < 0.01 for q in held_out)


@needs_data
@pytest.mark.parametrize("size", ["25M", "100M"])
def test_the_momentum_law_meets_published_curves(size: str) -> None:
    law = tissue([curve(size, name) for name in FITTED])
    assert all(quality(law, curve(size, name), fitted=False).mean_absolute_error < 0.01 for name in HELD_OUT)


@pytest.mark.parametrize("name", LAWS)
def test_a_law_finds_itself(name: str) -> None:
    """Losses of a law are met by the same law fitted to them, on a schedule that the fit has not seen."""
    fit, _ = LAWS[name]
    schedules = {
        "constant": np.full(600, 1e-3),
        "late": np.concatenate([np.full(400, 1e-3), learning_rates("linear", steps=200, peak=1e-3)]),
        "early": np.concatenate([np.full(200, 1e-3), learning_rates("linear", steps=400, peak=1e-3)]),
        "new": np.concatenate([np.full(300, 1e-3), learning_rates("sqrt", steps=300, peak=1e-3)]),
    }
    at = np.arange(20, 601, 20)
    blank = [Curve(n, rates, at, 4 - 0.001 * at + 1e-4 * at**1.1, before=0.2) for n, rates in schedules.items()]
    truth = fit(blank)
    made = [Curve(c.name, c.rates, c.at, truth.predict(c), c.before) for c in blank]
    found = fit(made[:3])
    assert quality(found, made[3], fitted=False).mean_absolute_error < 0.01
