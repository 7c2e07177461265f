"""The loss after an anneal along a training: a power law through the checkpoints that were annealed.

L = E + A * S^-alpha, where S is the sum of the learning rates up to the checkpoint, as they really were. E and A belong
to one training, alpha is shared by all (as over sizes in Hoffmann et al. 2022, arXiv 2203.15556).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from sweep.analysis.factors import Floats
from sweep.analysis.signal_to_noise import SeedNoise

STEEPEST, FLATTEST = 3.0, 0.01
"""Between which alpha is looked for."""
FEWEST = 2
"""Annealed checkpoints of a training that give it a curve, if the exponent is known."""
FEWEST_NEIGHBOURS = 10
"""Scores along a training that show its noise."""


@dataclass(frozen=True, eq=False)
class Annealed:
    """The checkpoints of one training that were annealed in one way."""

    training: str
    progress: Floats
    """(N,) sums of the learning rates up to each checkpoint, of any unit."""
    loss: Floats
    """(N,) nats per token after the anneal."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnealedCurves:
    """The fitted law of all trainings."""

    alpha: float
    levels: Mapping[str, tuple[float, float]]
    """Training -> E and A."""
    units: Mapping[str, float]
    """Training -> the progress that counts as 1."""
    residual_sd: float
    """Of one loss around the law, nats."""
    df: float
    covariance: Floats
    """Of alpha, then of E and A of each training."""

    def predict(self, training: str, progress: float) -> tuple[float, float, float]:
        """The loss that an anneal from this progress would give, and the ends of the 95 % interval of one run."""
        (level, amplitude), x = self.levels[training], progress / self.units[training]
        gradient = np.zeros(len(self.covariance))
        place = 1 + 2 * list(self.levels).index(training)
        gradient[[0, place, place + 1]] = _gradient(np.array([x]), self.alpha, amplitude)[0]
        error = float(np.sqrt(gradient @ self.covariance @ gradient + self.residual_sd**2))
        value, half = level + amplitude * x**-self.alpha, float(stats.t.ppf(0.975, self.df)) * error
        return value, value - half, value + half


def fit_annealed_curves(trainings: Sequence[Annealed], noise: SeedNoise | None) -> AnnealedCurves | None:
    """The least-squares fit; `noise` is that of one loss, known from elsewhere, and is pooled with the residuals.

    None if the annealed checkpoints are too few: each parameter needs one, and without known noise there must be one
    more.
    """
    known = [t for t in trainings if len(np.unique(t.progress)) >= FEWEST]
    spare = sum(len(t.loss) for t in known) - 1 - 2 * len(known)
    if not known or spare < (0 if noise else 1):
        return None
    units = {t.training: float(np.exp(np.log(t.progress).mean())) for t in known}
    scaled = [(t.progress / units[t.training], t.loss) for t in known]

    def squares(alpha: float) -> float:
        return sum(_line(x, loss, alpha)[1] for x, loss in scaled)

    alpha = float(optimize.minimize_scalar(squares, bounds=(FLATTEST, STEEPEST), method="bounded").x)
    levels = [_line(x, loss, alpha)[0] for x, loss in scaled]
    extra = noise.df if noise else 0
    variance = (squares(alpha) + (noise.sd**2 * noise.df if noise else 0.0)) / (spare + extra)
    return AnnealedCurves(
        alpha=alpha,
        levels={t.training: level for t, level in zip(known, levels, strict=True)},
        units=units,
        residual_sd=float(np.sqrt(variance)),
        df=spare + extra,
        covariance=variance * _unscaled_covariance([x for x, _ in scaled], alpha, [a for _, a in levels]),
    )


def noise_along(losses: Sequence[Floats]) -> SeedNoise | None:
    """The noise of one loss, from how far each lies off the middle of its neighbours in the later half of a training.

    The losses of each training are in order and at about equal distances. None if they are few.
    """
    later = [loss[len(loss) // 2 :] for loss in losses]
    off = np.concatenate([(loss[1:-1] - (loss[:-2] + loss[2:]) / 2) / np.sqrt(1.5) for loss in later] or [np.empty(0)])
    if len(off) < FEWEST_NEIGHBOURS:
        return None
    return SeedNoise(float(np.sqrt(np.mean(off**2))), len(off) // 2)  # neighbours share losses


def last_left_out(trainings: Sequence[Annealed], noise: SeedNoise | None) -> Floats:
    """The errors, nats, of predicting each training's last checkpoint from the checkpoints before it."""
    latest = {t.training: int(np.argmax(t.progress)) for t in trainings}
    earlier = [
        Annealed(t.training, np.delete(t.progress, latest[t.training]), np.delete(t.loss, latest[t.training]))
        for t in trainings
    ]
    fitted = fit_annealed_curves(earlier, noise)
    if fitted is None:
        return np.empty(0)
    ends = [(t, latest[t.training]) for t in trainings if t.training in fitted.levels]
    return np.array([fitted.predict(t.training, float(t.progress[i]))[0] - t.loss[i] for t, i in ends])


def _line(x: Floats, loss: Floats, alpha: float) -> tuple[tuple[float, float], float]:
    """E and A by least squares for a given alpha, and the sum of squares that is left."""
    columns = np.stack([np.ones_like(x), x**-alpha], axis=1)
    (level, amplitude), *_ = np.linalg.lstsq(columns, loss, rcond=None)
    return (float(level), float(amplitude)), float(((columns @ [level, amplitude] - loss) ** 2).sum())


def _gradient(x: Floats, alpha: float, amplitude: float) -> Floats:
    """(N, 3) of the loss by alpha, E and A."""
    power = x**-alpha
    return np.stack([-amplitude * power * np.log(x), np.ones_like(x), power], axis=1)


def _unscaled_covariance(places: Sequence[Floats], alpha: float, amplitudes: Sequence[float]) -> Floats:
    jacobian = np.zeros((sum(map(len, places)), 1 + 2 * len(places)))
    row = 0
    for i, (x, amplitude) in enumerate(zip(places, amplitudes, strict=True)):
        rows = slice(row, row + len(x))
        gradient = _gradient(x, alpha, amplitude)
        jacobian[rows, 0], jacobian[rows, 1 + 2 * i : 3 + 2 * i] = gradient[:, 0], gradient[:, 1:]
        row += len(x)
    return np.asarray(np.linalg.pinv(jacobian.T @ jacobian))
