"""A step folder of OLMo-core in the store, as ai2-olmo's unsharded folder: converted once for all runs."""

from __future__ import annotations

import logging
from pathlib import Path

from sweep.checkpoints import import_step_folder, olmo_core_rules, read_config, read_files
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.run.checkpoint_folder import CheckpointChoice
from sweep.system.files import file_digest
from sweep.system.store import Store

log = logging.getLogger(__name__)

KIND = "checkpoints"
CONVERTED = 1
"""To be raised if the same step folder would become another folder."""


def converted(store: Store, path: Path) -> Path:
    """The unsharded folder of a step folder; OSError or ValueError if that can't be had or isn't followed."""
    content = {str(file.relative_to(path)): file_digest(file) for file in read_files(path)}
    return store.make(KIND, digest("olmo-core folder", CONVERTED, content), lambda into: import_step_folder(path, into))


def olmo_core_checkpoint(store: Store, choice: CheckpointChoice) -> Path:
    """The folder of the chosen step folder; Refusal if that isn't sound, or asks for what isn't followed."""
    path = Path(choice.checkpoint.path or "")
    try:
        folder = converted(store, path)
    except (OSError, ValueError) as error:
        raise Refusal(f"checkpoint.path={path}: {error}") from error
    rules = olmo_core_rules(read_config(folder, optimizer=False))
    if rules is not None and not rules.counts_steps:
        log.warning(
            "checkpoint.path=%s: Adam's step count was never increased in this training (SkipStepAdamW before "
            "OLMo-core 2.2), and the anneal goes on the same way",
            path,
        )
    return folder
