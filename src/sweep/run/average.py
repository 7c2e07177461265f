"""The average of a trajectory's last checkpoints, in the store: made of their weights alone, once for all that ask."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from sweep.checkpoints import average_folders, is_step_folder, read_config, read_position, weights_key
from sweep.config import Merge, merged_steps, trajectory_steps
from sweep.domain.averaging import coefficients
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.planning.gpu_memory import FP32
from sweep.run.checkpoint_folder import CheckpointChoice, CheckpointFolder, stored_digests
from sweep.run.olmo_core import converted
from sweep.run.published import published_weights
from sweep.run.states import INTERIM, KEPT
from sweep.system import files
from sweep.system.progress import Progress
from sweep.system.store import Store

log = logging.getLogger(__name__)


def averaged_checkpoint(
    store: Store,
    merge: Merge,
    last: CheckpointFolder,
    choice: CheckpointChoice,
    embedded: Callable[[int], Path],
    *,
    keep: bool = True,
) -> CheckpointFolder:
    """The chosen checkpoint `last` averaged with the ones before it; the key names them all and their weights.

    One that isn't to be kept is an interim state, claimed by this process.

    `embedded` makes the checkpoint of an embedded trajectory at another step. Refusal if the checkpoints aren't
    there, or aren't of one model.
    """
    folders = _folders(store, merge, last, choice, embedded)
    steps = tuple(folders)
    shares = coefficients(steps, merge.weights)
    weights = [weights_key(path, known=stored_digests(store, path)) for path in folders.values()]
    key = digest("merge", weights, [*shares])

    def build(into: Path) -> None:
        with Progress(f"merging {choice.model.name} at steps {', '.join(map(str, steps))}", total=100) as bar:
            average_folders(
                [*folders.values()], shares, into, progress=lambda done: bar.advance(round(100 * done) - bar.done)
            )
        facts = {"steps": steps, "weights": merge.weights, "coefficients": [*shares]}
        (into / "merge.json").write_text(json.dumps(facts, indent=1) + "\n")

    try:
        if not keep:
            store.claims.claim(key)
        elif not store.has(KEPT, key) and store.get(INTERIM, key):
            store.link(INTERIM, key, KEPT)
        folder = (None if keep else store.get(KEPT, key)) or store.make(KEPT if keep else INTERIM, key, build)
    except ValueError as error:
        raise Refusal(f"anneal.merge: {error}") from error
    return CheckpointFolder(key=key, folder=folder, config=last.config)


def _folders(
    store: Store, merge: Merge, last: CheckpointFolder, choice: CheckpointChoice, embedded: Callable[[int], Path]
) -> dict[int, Path]:
    """Step -> folder of each averaged checkpoint, ascending; the chosen one is the last."""
    model = choice.model
    if model.source == "local":
        return _local_folders(store, merge, last)
    assert choice.checkpoint.step is not None
    *earlier, step = merged_steps(merge, model.name, choice.checkpoint.step, trajectory_steps(model, merge.interval))
    if model.source == "published":
        size = FP32 * (model.parameters or 0) * len(earlier) / 1e9
        log.info(
            "merging %s with steps %s: at most %.1f GB to download", model.name, ", ".join(map(str, earlier)), size
        )
        folders = {s: published_weights(store, choice, s) for s in earlier}
    else:
        folders = {s: embedded(s) for s in earlier}
    return {**folders, step: last.folder}


def _local_folders(store: Store, merge: Merge, last: CheckpointFolder) -> dict[int, Path]:
    """Of the named folders, the last ones before the chosen checkpoint; each folder says its own step."""
    folders: dict[int, Path] = {}
    for pattern in merge.paths or ():
        if not (matching := files.expanded(pattern)):
            raise Refusal(f"anneal.merge.paths={pattern} matches no folder")
        for folder in map(Path, matching):
            try:
                folder = converted(store, folder) if is_step_folder(folder) else folder
                step = read_position(folder, read_config(folder, optimizer=False)).step
            except (OSError, ValueError) as error:
                raise Refusal(f"anneal.merge.paths={pattern}: {error}") from error
            if step in folders and folders[step] != folder:
                raise Refusal(f"anneal.merge.paths: {folders[step]} and {folder} are both at step {step}")
            folders[step] = folder
    last_step = read_position(last.folder, last.config).step
    try:
        steps = merged_steps(merge, str(last.folder), last_step, folders)
    except ValueError as error:
        raise Refusal(str(error)) from error
    return {step: folders[step] for step in steps[:-1]} | {last_step: last.folder}
