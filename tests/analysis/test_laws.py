"""Annealing laws: what they find in curves curves by them, and in published ones."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.analysis.laws import LAWS, MOMENTUM_LAW, MULTI_POWER, Curve, FittedLaw, Law, fit_law
from sweep.domain.schedule import learning_rates
from tests.analysis.published import curve, needs_data

FITTED = ("constant_24000", "cosine_24000", "wsdcon_9")
"""As the multi-power law's authors: three schedules to fit, the others held out."""
HELD_OUT = ("wsdld_20000_24000", "wsd_20000_24000", "wsdcon_3", "constant_72000")


def mean_absolute_error(law: FittedLaw, curve: Curve) -> float:
    """In nats."""
    return float(np.abs(law.predict(curve) - curve.loss).mean())


def r2(law: FittedLaw, curve: Curve) -> float:
    """The share of the variance that the law explains."""
    return 1 - float(((law.predict(curve) - curve.loss) ** 2).sum() / ((curve.loss - curve.loss.mean()) ** 2).sum())


@needs_data
@pytest.mark.parametrize("size", ["25M", "100M"])
def test_the_multi_power_law_meets_published_curves(size: str) -> None:
    law = fit_law(MULTI_POWER, [curve(size, name) for name in FITTED])
    assert all(r2(law, curve(size, name)) > 0.997 for name in FITTED)
    assert all(mean_absolute_error(law, curve(size, name)) < 0.01 for name in HELD_OUT)


@needs_data
@pytest.mark.parametrize("size", ["25M", "100M"])
def test_the_momentum_law_meets_published_curves(size: str) -> None:
    law = fit_law(MOMENTUM_LAW, [curve(size, name) for name in FITTED])
    assert all(mean_absolute_error(law, curve(size, name)) < 0.01 for name in HELD_OUT)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_law_finds_itself(law: Law) -> None:
    """Losses of a law are met by the same law fitted to them, on a schedule that the fit has not seen."""
    schedules = {
        "constant": np.full(600, 1e-3),
        "late": np.concatenate([np.full(400, 1e-3), learning_rates("linear", steps=200, peak=1e-3)]),
        "early": np.concatenate([np.full(200, 1e-3), learning_rates("linear", steps=400, peak=1e-3)]),
        "new": np.concatenate([np.full(300, 1e-3), learning_rates("sqrt", steps=300, peak=1e-3)]),
    }
    at = np.arange(20, 601, 20)
    blank = [Curve(n, rates, at, 4 - 0.001 * at + 1e-4 * at**1.1, before=0.2) for n, rates in schedules.items()]
    truth = fit_law(law, blank)
    curves = [Curve(c.name, c.rates, c.at, truth.predict(c), c.before) for c in blank]
    fitted = fit_law(law, curves[:3])
    assert mean_absolute_error(fitted, curves[3]) < 0.01
