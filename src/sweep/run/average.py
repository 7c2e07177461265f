"""The average of a trajectory's last checkpoints, in the store: made of their weights alone, once for all that ask."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch

from sweep.checkpoints import average_folders, read_config, read_position, weights_key
from sweep.config import Merge, RunConfig, merged_steps, trajectory_steps
from sweep.domain.averaging import coefficients
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.planning.gpu_memory import FP32
from sweep.run.checkpoint_source import Source
from sweep.run.embedded import embedded
from sweep.run.prefix import KEPT
from sweep.run.published import published_weights
from sweep.system import files
from sweep.system.progress import Progress
from sweep.system.store import Store

log = logging.getLogger(__name__)


def merged(store: Store, config: RunConfig, source: Source, *, device: torch.device) -> Source:
    """The chosen checkpoint `source` averaged with the ones before it; the key says which, and with which weights.

    Refusal where they aren't there, or aren't of one model.
    """
    merge = config.anneal.merge
    assert merge is not None
    members = _members(store, config, merge, source, device)
    steps = tuple(members)
    shares = coefficients(steps, merge.weights)
    key = digest("merge", [weights_key(folder, known=_known(store, folder)) for folder in members.values()], [*shares])

    def build(into: Path) -> None:
        with Progress(f"merging {config.model.name} at steps {', '.join(map(str, steps))}", total=100) as bar:
            average_folders(
                [*members.values()], shares, into, progress=lambda done: bar.advance(round(100 * done) - bar.done)
            )
        facts = {"steps": steps, "weights": merge.weights, "coefficients": [*shares]}
        (into / "merge.json").write_text(json.dumps(facts, indent=1) + "\n")

    try:
        folder = store.make(KEPT, key, build)
    except ValueError as error:
        raise Refusal(f"anneal.merge: {error}") from error
    return Source(key=key, folder=folder, config=source.config)


def _members(store: Store, config: RunConfig, merge: Merge, source: Source, device: torch.device) -> dict[int, Path]:
    """Step -> folder of each averaged checkpoint, ascending; the chosen one is the last."""
    model = config.model
    if model.source == "local":
        return _local(merge, source)
    assert config.checkpoint.step is not None
    *earlier, step = merged_steps(merge, model.name, config.checkpoint.step, trajectory_steps(model, merge.interval))
    if model.source == "published":
        size = FP32 * (model.parameters or 0) * len(earlier) / 1e9
        log.info(
            "merging %s with steps %s: at most %.1f GB to download", model.name, ", ".join(map(str, earlier)), size
        )
        found = {s: published_weights(store, config, s) for s in earlier}
    else:
        found = {s: embedded(store, model, s, compute=config.compute, device=device).folder for s in earlier}
    return {**found, step: source.folder}


def _local(merge: Merge, source: Source) -> dict[int, Path]:
    """Of the folders that were named, the last ones before the chosen checkpoint; each says its own step."""
    found: dict[int, Path] = {}
    for path in merge.paths or ():
        if not (matching := files.expanded(path)):
            raise Refusal(f"anneal.merge.paths={path} matches no folder")
        for folder in map(Path, matching):
            try:
                step = read_position(folder, read_config(folder, optimizer=False)).step
            except (OSError, ValueError) as error:
                raise Refusal(f"anneal.merge.paths={path}: {error}") from error
            if step in found and found[step] != folder:
                raise Refusal(f"anneal.merge.paths: {found[step]} and {folder} are both at step {step}")
            found[step] = folder
    last = read_position(source.folder, source.config).step
    try:
        steps = merged_steps(merge, str(source.folder), last, found)
    except ValueError as error:
        raise Refusal(str(error)) from error
    return {step: found[step] for step in steps[:-1]} | {last: source.folder}


def _known(store: Store, folder: Path) -> dict[str, str] | None:
    """SHA-256 of a stored folder's files; None of a folder elsewhere."""
    kind, key = folder.parent.name, folder.name
    return store.digests(kind, key) if store.path(kind, key) == folder else None
