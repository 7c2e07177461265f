"""Weights of the checkpoints in an average that emulates a decay (pure).

They follow the theorem of WSM (Tian et al., arXiv 2507.17634); uniform weights are those of PMA (Li et al.,
2505.12082).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sweep.domain.schedule import learning_rates
from sweep.domain.shapes import UNIFORM


def fractions(steps: Sequence[int], shape: str) -> np.ndarray:
    """Mean fraction (k - 1,) of the peak that a decay has in each interval between k checkpoints at ascending `steps`.

    The decay begins at the first checkpoint and ends at the last.
    """
    since = np.asarray(steps) - steps[0]
    rates = learning_rates(shape, steps=int(since[-1]), peak=1.0)
    return np.array([rates[begin:end].mean() for begin, end in pairwise(since)])


def coefficients(steps: Sequence[int], weights: str) -> np.ndarray:
    """Weight (k,) float64 of each of k >= 2 checkpoints at ascending `steps`: not negative, with sum 1.

    From t_0 the training moved by d_i = t_i - t_{i-1} in interval i. With the same gradients and learning rates scaled
    by w_i, plain SGD would have ended at t_0 + sum_i w_i d_i, which is sum_j c_j t_j with c_0 = 1 - w_1,
    c_j = w_j - w_{j+1} and c_K = w_K. So any decay w is an average. This ignores that a decayed training would have
    met other gradients, and how Adam scales them. Uniform weights 1/k are those of a straight line, w_i = 1 - i/k.
    """
    if weights == UNIFORM:
        return np.full(len(steps), 1 / len(steps))
    w = np.concatenate([[1.0], fractions(steps, weights), [0.0]])
    return w[:-1] - w[1:]
