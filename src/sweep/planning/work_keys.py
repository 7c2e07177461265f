"""Names of the work that the runs of a sweep may share, from their choices alone: for previews and for queues (pure).

The store's own keys are made of what is read from the checkpoint too.
"""

from __future__ import annotations

from typing import Any

from sweep.config import RunConfig, tree
from sweep.domain.digests import digest

SCHEDULE = ("name", "steps", "shape", "peak_lr", "peak_scale", "final_fraction", "hold_steps", "warmup_steps")
"""Choices of an anneal that act through its learning rates alone."""
DECAY = ("steps", "shape", "final_fraction")
"""Those that act after warmup and hold."""
BOOKKEEPING = ("save_interval", "keep", "merge")
"""Choices of an anneal that decide no update's numbers."""


class WorkKeys:
    """Keys of many runs. A group of choices that several runs share, as one object, is looked at once."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, str]] = {}

    def base(self, config: RunConfig) -> str:
        """Digest of everything that decides an update's numbers besides the learning rates."""
        anneal = {key: value for key, value in tree(config.anneal).items() if key not in SCHEDULE + BOOKKEEPING}
        others = map(self._of, (config.checkpoint, config.data, config.compute))
        return digest("base", anneal, self.model(config), config.seed, *others)

    def before(self, config: RunConfig) -> str:
        """Digest of the checkpoint and of what it is scored on."""
        return digest(
            "start", self.model(config), self._of(config.checkpoint), self._of(config.tasks), config.data.heldout
        )

    def model(self, config: RunConfig) -> str:
        """Digest of all choices that decide which model it is; recipes of pretraining may share a model's name."""
        return self._of(config.model, without="resources")

    def shared(self, config: RunConfig) -> frozenset[str]:
        """What this run makes and others may need: its trunk, its anneal, its average.

        Runs with a name in common are better done one after another.
        """
        anneal = config.anneal
        if not anneal.steps:
            return frozenset() if anneal.merge is None else frozenset({digest("merge", self.model(config))})
        base, chosen = self.base(config), {name: getattr(anneal, name) for name in SCHEDULE[1:]}
        if anneal.arm == "constant":  # a longer one goes on from where a shorter one ended
            del chosen["steps"]
            return frozenset({digest("constant", base, chosen)})
        trunk = {name: value for name, value in chosen.items() if name not in DECAY}
        return frozenset(
            {digest("anneal", base, chosen), *([digest("trunk", base, trunk)] if anneal.hold_steps else [])}
        )

    def _of(self, choices: Any, *, without: str = "") -> str:
        """Digest of a group of choices."""
        _, known = self._seen.get(id(choices), (None, None))
        if known is None:
            known = digest({key: value for key, value in tree(choices).items() if key != without})
            self._seen[id(choices)] = choices, known  # kept, so that no other object gets its id
        return known
