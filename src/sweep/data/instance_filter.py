"""ai2-olmo's `instance_filter`: instances in which a short sequence repeats too often do not count in the loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from olmo.data.util import find_periodic_sequences

SLACK = 4
"""Repetitions that ai2-olmo's search may count beyond the real ones: the ends of a run, and its first row, which it
compares with the last."""


@dataclass(frozen=True, kw_only=True)
class InstanceFilter:
    """ai2-olmo's `InstanceFilterConfig`: periods are in tokens, and `max_count` repetitions are too many."""

    min_period: int
    max_period: int
    max_count: int

    def masked(self, ids: np.ndarray) -> np.ndarray:
        """Which instances of token ids (B, T) count in no loss, as in ai2-olmo's `MemMapDataset`: bool (B,).

        ai2-olmo's own search makes 13 passes in Python over an instance, so it is run only on suspicious ones.
        """
        masked = np.zeros(len(ids), dtype=bool)
        for row in np.flatnonzero(self._suspicious(ids)):
            sequences = find_periodic_sequences(ids[row], max_period=self.max_period, min_period=self.min_period)
            masked[row] = any(sequence.times >= self.max_count for sequence in sequences)
        return masked

    def _suspicious(self, ids: np.ndarray) -> np.ndarray:
        """Rows in which the tokens equal those one period before for nearly the length that is too long: bool (B,)."""
        suspicious = np.zeros(len(ids), dtype=bool)
        for period in range(self.min_period, min(self.max_period, ids.shape[1] // 3) + 1):
            length = max(1, (self.max_count - SLACK) * period)
            if ids.shape[1] - period < length:
                continue
            equal = np.cumsum(ids[:, period:] == ids[:, :-period], axis=1, dtype=np.int32)
            runs = equal[:, length - 1 :].copy()
            runs[:, 1:] -= equal[:, :-length]
            suspicious |= (runs == length).any(axis=1)
        return suspicious
