"""The data that a checkpoint is annealed on."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from sweep.config.types import CHOICES, Message, Name, Number, Paths, PathText


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Source:
    """A part of a mixture."""

    paths: Paths | None
    """As `data.paths`."""
    weight: Annotated[
        Number,
        Field(gt=0, le=10**6),
        Message("must be above 0 and at most 1000000; a source is taken out with ~data.sources.NAME"),
    ]
    """Its share of the instances is this weight over the sum of all weights."""


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Data:
    """The data that a checkpoint is annealed on."""

    name: Name
    paths: Paths | None
    """Token memmaps or text, on disk (`*` allowed) or at HTTP addresses; None: the data of the checkpoint's own
    training."""
    sources: dict[Name, Source] | None
    """Name -> a part of a mixture; replaces `paths`."""
    position: Literal["continue", "fresh", "start"]
    """continue: go on in the checkpoint's own data order, from the instance at which its training stopped.
    fresh: read all instances in a new order, which `seed` draws.
    start: read all instances as the training itself would from its start, with `seed` added to its own seed."""
    root: PathText | None
    """Folder or address of the checkpoint's own data; it replaces the scheme and host of their paths."""
    dtype: Literal["uint16", "uint32"] | None
    """Of the memmaps; None: as the checkpoint's configuration says."""
    heldout: PathText | None
    """Held-out documents: a folder, as `sweep heldout` writes it, or files of text or tokens (`*` allowed); None: those
    of the embedded corpus, and none for other checkpoints."""
    tokenizer: PathText | None
    """A `tokenizer.json`; None: the checkpoint's own."""

    @property
    def takes_own(self) -> bool:
        """Whether a part of the data is what the checkpoint's configuration names."""
        return None in ([self.paths] if self.sources is None else [source.paths for source in self.sources.values()])

    @model_validator(mode="after")
    def _consistent(self) -> Data:
        if self.name == "local" and self.paths is None:
            raise ValueError("data=local needs data.paths, the files to anneal on")
        if self.sources is not None:
            _check_sources(self.sources, self.paths)
        if self.root is not None and not self.takes_own:
            raise ValueError(f"data.root={self.root} goes with the checkpoint's own data, which is not read here")
        return self


def _check_sources(sources: dict[str, Source], paths: tuple[str, ...] | None) -> None:
    if paths is not None:
        raise ValueError("data.paths and data.sources contradict each other: give the paths to a source")
    if not sources:
        raise ValueError("data.sources={} names no source, e.g. data.sources={math: {paths: [...], weight: 1}}")
    for name in sources:
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ValueError(f"data.sources: {name!r} must be a letter, then letters, digits or _")
