"""Instances that ai2-olmo's `instance_filter` keeps out of the loss: a short sequence repeats in them too often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from olmo.data.util import find_periodic_sequences

SLACK = 4
"""Repetitions that ai2-olmo's search may count beyond the real ones: the ends of a run, and its first row, which it
compares with the last."""


@dataclass(frozen=True, kw_only=True)
class InstanceFilter:
    """ai2-olmo's `InstanceFilterConfig`: periods in tokens, `max_count` repetitions are too many."""

    min_period: int
    max_period: int
    max_count: int

    def masked(self, ids: np.ndarray) -> np.ndarray:
        """Which instances (B,) bool of token ids (B, T) have no label, as `MemMapDataset._validate_instance` says.

        ai2-olmo's own search, 13 passes in Python over each instance, is asked only where a run is long enough.
        """
        found = np.zeros(len(ids), dtype=bool)
        for row in np.flatnonzero(self._suspicious(ids)):
            sequences = find_periodic_sequences(ids[row], max_period=self.max_period, min_period=self.min_period)
            found[row] = any(sequence.times >= self.max_count for sequence in sequences)
        return found

    def _suspicious(self, ids: np.ndarray) -> np.ndarray:
        """Rows in which tokens equal those one period before for nearly as long as it takes."""
        found = np.zeros(len(ids), dtype=bool)
        for period in range(self.min_period, min(self.max_period, ids.shape[1] // 3) + 1):
            length = max(1, (self.max_count - SLACK) * period)
            if ids.shape[1] - period < length:
                continue
            equal = np.cumsum(ids[:, period:] == ids[:, :-period], axis=1, dtype=np.int32)
            runs = equal[:, length - 1 :].copy()
            runs[:, 1:] -= equal[:, :-length]
            found |= (runs == length).any(axis=1)
        return found
