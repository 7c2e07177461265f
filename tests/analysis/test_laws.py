"""Annealing laws: what they find in curves curves by them, and in published ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sweep.analysis.laws import LAWS, MOMENTUM_LAW, MULTI_POWER, NO_PAST, Curve, FittedLaw, Law, Past, fit_law
from sweep.analysis.predictions import run_curve
from sweep.analysis.pretraining import past, past_of
from sweep.config.pretraining import Scheduler
from sweep.domain.schedule import learning_rates, warmup_then_constant
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
    blank = [
        Curve(n, rates, at, 4 - 0.001 * at + 1e-4 * at**1.1, past=Past(0.2, NO_PAST.falls))
        for n, rates in schedules.items()
    ]
    truth = fit_law(law, blank)
    curves = [Curve(c.name, c.rates, c.at, truth.predict(c), c.past) for c in blank]
    fitted = fit_law(law, curves[:3])
    assert mean_absolute_error(fitted, curves[3]) < 0.01


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_past_of_a_cosine_gives_the_same_losses_as_all_its_updates(law: Law) -> None:
    scheduler = Scheduler(name="cosine_with_warmup", units="steps", t_warmup=50, t_max=6000, peak_lr=1e-3, alpha_f=0.1,
                          warmup_min_lr=0.0)  # fmt: skip
    lrs = np.array([scheduler.lr_at(step) for step in range(1, 4001)])
    anneal = learning_rates("linear", steps=200, peak=lrs[-1])
    places = np.linspace(1, 4000, 512)
    fitted = FittedLaw(law, np.array([parameter.start for parameter in law.parameters]), scale=1.0)
    short = Curve("", np.concatenate([lrs[-1:], anneal]), np.array([1, 201]), np.ones(2),
                  past([*places], [scheduler.lr_at(place) for place in places]))  # fmt: skip
    whole = Curve("", np.concatenate([lrs[49:], anneal]), np.array([3951, 4151]), np.ones(2),
                  Past(float(lrs[:49].sum()), NO_PAST.falls))  # fmt: skip
    assert fitted.predict(short) == pytest.approx(fitted.predict(whole), rel=2e-3)
    constant = Curve("", short.rates, short.at, short.loss, Past(3999 * lrs[-1], NO_PAST.falls))
    assert fitted.predict(constant) != pytest.approx(fitted.predict(whole), rel=2e-2)


def test_a_law_knows_the_schedule_before_the_checkpoint() -> None:
    """A published model's cosine, an embedded model's warmup; the current LR only where nothing is known."""
    row = {"name": "r", "position/step": 3000, "position/lr": 5e-4, "anneal.steps": 0}
    scheduler = {"name": "cosine_with_warmup", "units": "tokens", "t_warmup": 800.0, "t_max": 8e4, "peak_lr": 1e-3,
                 "alpha_f": 0.1, "warmup_min_lr": "null"}  # fmt: skip
    published = {f"model.published.scheduler.{name}": value for name, value in scheduler.items()}
    sizes = {"model.batch_size": 2, "model.sequence_length": 8}
    known = past_of(pd.Series(row | published | sizes))
    assert 0.5 < known.progress / (3000 * 1e-3) < 1 and known.falls[:, 0].sum() > 1e-4
    embedded = {"model.pretraining.peak_lr": 4e-3, "model.pretraining.warmup_steps": 200}
    assert past_of(pd.Series(row | embedded)).progress == pytest.approx(
        warmup_then_constant(2999, peak=4e-3, warmup_steps=200).sum()
    )
    assert run_curve(pd.Series(row), 4.0).past.progress == pytest.approx(2999 * 5e-4)
