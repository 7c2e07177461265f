"""What it is annealed on."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import field_validator, model_validator

from sweep.config.frozen import frozen


def one_or_many(paths: Any) -> Any:
    """A single path as a list of one."""
    return (paths,) if isinstance(paths, str) else paths


def some(paths: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The paths; ValueError where there is none, or an empty one."""
    if paths is not None and not (paths and all(paths)):
        raise ValueError(f"data.paths={list(paths)} must name files, or be null for the checkpoint's own data")
    return paths


@frozen
class Source:
    """A part of a mixture."""

    paths: tuple[str, ...] | None
    """As `data.paths`."""
    weight: float
    """Share of the instances, over the sum of all weights."""

    _one = field_validator("paths", mode="before")(one_or_many)
    _some = field_validator("paths")(some)

    @field_validator("weight")
    @classmethod
    def _positive(cls, weight: float) -> float:
        if not weight > 0:
            raise ValueError("must be above 0; a source is taken out with ~data.sources.NAME")
        return weight


@frozen
class Data:
    """What it is annealed on."""

    name: str
    paths: tuple[str, ...] | None
    """Token memmaps or text, on disk or at HTTP addresses, `*` allowed on disk; None: what the checkpoint saw."""
    sources: dict[str, Source] | None
    """Name -> a part of a mixture, in place of `paths`."""
    position: Literal["continue", "fresh"]
    """continue: the checkpoint's order, on from where it stopped; fresh: a new order of all, drawn by `seed`."""
    root: str | None
    """Folder or address where the checkpoint's own data lie, in place of the scheme and host of their paths."""
    dtype: Literal["uint16", "uint32"] | None
    """Of the memmaps; None: as the checkpoint's configuration says."""
    heldout: str | None
    """Folder with held-out documents; None: the embedded corpus's own, and none for other checkpoints."""
    tokenizer: str | None
    """A `tokenizer.json`; None: the checkpoint's own."""

    @property
    def takes_own(self) -> bool:
        """Whether some of it is what the checkpoint's configuration names."""
        return None in ([self.paths] if self.sources is None else [source.paths for source in self.sources.values()])

    _one = field_validator("paths", mode="before")(one_or_many)
    _some = field_validator("paths")(some)

    @field_validator("heldout", "tokenizer", "root")
    @classmethod
    def _not_empty(cls, path: str | None) -> str | None:
        if path == "":
            raise ValueError("must be a path, or null")
        return path

    @model_validator(mode="after")
    def _together(self) -> Data:
        if self.sources is not None and self.paths is not None:
            raise ValueError("data.paths and data.sources contradict each other: give the paths to a source")
        if self.sources == {}:
            raise ValueError("data.sources={} names no source, e.g. data.sources={math: {paths: [...], weight: 1}}")
        for name in self.sources or {}:
            if not re.fullmatch(r"[A-Za-z]\w*", name):
                raise ValueError(f"data.sources: {name!r} must be a letter, then letters, digits or _")
        if self.name == "local" and self.paths is None:
            raise ValueError("data=local needs data.paths, the files to anneal on")
        if self.root is not None and not self.takes_own:
            raise ValueError(f"data.root={self.root} goes with the checkpoint's own data, which is not read here")
        return self
