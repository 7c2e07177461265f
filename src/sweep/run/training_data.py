"""The data that a run anneals on: from `data.*` and the checkpoint's own configuration to a window of batches."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import data
from sweep.checkpoints import data_paths
from sweep.config import Data
from sweep.config.published import from_hub
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.domain.records import Position
from sweep.planning.plan import Plan
from sweep.run.checkpoint_folder import CheckpointChoice, CheckpointFolder
from sweep.run.token_files import TokenFileReader, TokenFiles
from sweep.system.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The data that a run anneals on."""

    window: data.Window
    identity: list[Any]
    """All that decides the batches besides the checkpoint and the dtype, ready for a digest."""
    dtype: str
    facts: dict[str, Any]
    """Source -> its files, its instances, and how many of them the anneal takes; for people."""


@dataclass(frozen=True)
class _Source:
    """A source of the mixture, or the only source there is."""

    files: TokenFiles
    part: data.MixturePart


def check_data_is_named(choice: CheckpointChoice, chosen: Data) -> None:
    """Refusal, before anything is downloaded, of an anneal on data that its checkpoint will not name."""
    published = choice.model.published
    if published and from_hub(published, choice.checkpoint.source) and chosen.takes_own:
        raise Refusal(
            f"data.paths=null takes the files of the checkpoint's config.yaml, and revisions of {published.hub} "
            f"name none ({choice.model.name} was trained on {published.data}): give data=local data.paths=[FILES]"
        )


def read_data(
    store: Store, chosen: Data, checkpoint: CheckpointFolder, plan: Plan, *, seed: int, tokenizer: Path
) -> TrainingData:
    """The batches of the plan's updates; Refusal where files are missing or don't fit the checkpoint's position."""
    model, updates = checkpoint.config.model, len(plan.learning_rates)
    dtype = chosen.dtype or checkpoint.config.data.memmap_dtype
    reader = TokenFileReader(store=store, tokenizer=tokenizer, eos_token_id=model.eos_token_id, dtype=dtype)
    names = [chosen.name] if chosen.sources is None else [*chosen.sources]
    sources = [_source(reader, chosen, checkpoint, plan.start, name, seed=seed) for name in names]
    mixture = data.Mixture(
        parts=tuple(source.part for source in sources), position=plan.start, batch_size=plan.batch_size
    )
    order: data.DataOrder = mixture if chosen.sources is not None else sources[0].part.order
    identity = [version for source in sources for version in source.files.identity]
    if not isinstance(order, data.Continued):
        identity.append(order.identity())
    files = [file for source in sources for file in source.files.files]
    instances = data.Instances(files, sequence_length=plan.sequence_length, dtype=dtype)
    vocab_size = model.embedding_size or model.vocab_size
    window = _window(store, instances, order, updates, vocab_size=vocab_size, identity=identity)
    facts = _facts(sources, mixture.counts(updates), dtype)
    if chosen.sources is not None:
        shares = (f"{name} {fact['annealed_on']} ({fact['passes']:.3g} passes)" for name, fact in facts.items())
        log.info("instances of the anneal: %s", ", ".join(shares))
    return TrainingData(window=window, identity=identity, dtype=dtype, facts=facts)


def _source(
    reader: TokenFileReader, chosen: Data, checkpoint: CheckpointFolder, position: Position, name: str, *, seed: int
) -> _Source:
    """The files and the order of one source; Refusal naming its key where it can't be read."""
    if chosen.sources is None:
        paths, weight, key = chosen.paths, 1.0, "data.paths"
    else:
        paths, weight, key = chosen.sources[name].paths, chosen.sources[name].weight, f"data.sources.{name}.paths"
    try:
        files = reader.own(data_paths(checkpoint.config), chosen.root) if paths is None else reader.given(paths)
        size = len(data.Instances(files.files, sequence_length=position.sequence_length, dtype=reader.dtype))
        order = _order(chosen, size, position, own=paths is None, seed=seed)
    except Refusal:
        raise
    except (OSError, ValueError) as error:
        given = "null" if paths is None else list(paths)
        raise Refusal(f"{key}={given} read as data.dtype={reader.dtype}: {error}") from error
    return _Source(files, data.MixturePart(name=name, weight=weight, num_instances=size, order=order))


def _order(chosen: Data, size: int, position: Position, *, own: bool, seed: int) -> data.DataOrder:
    """The order of one source's `size` instances.

    The sources of a mixture are drawn instance by instance, and of these only the checkpoint's own data continues.
    """
    mixed = chosen.sources is not None
    batch_size = 1 if mixed else position.batch_size
    data.check_batch(size, batch_size)
    if chosen.position == "fresh" or (mixed and not own):
        return data.Fresh(num_instances=size, position=position, batch_size=batch_size, seed=seed)
    data.check_position(size, position, batch_size)
    return data.Continued(num_instances=size, position=position, batch_size=batch_size, shuffle_seed=seed)


def _window(
    store: Store,
    instances: data.Instances,
    order: data.DataOrder,
    updates: int,
    *,
    vocab_size: int,
    identity: list[Any],
) -> data.Window:
    """Local files are read in place, the first batch at once; files behind a network are fetched when needed."""
    if instances.remote:
        key = digest(identity, order.identity())
        return data.FetchedWindow(instances, order, vocab_size=vocab_size, store=store, key=key)
    window = data.Window(instances, order, vocab_size=vocab_size)
    next(window.batches(0, updates))
    return window


def _facts(sources: list[_Source], counts: Mapping[str, int], dtype: str) -> dict[str, Any]:
    return {
        source.part.name: {
            "digest": digest(source.files.identity, dtype),
            "weight": source.part.weight,
            "instances": source.part.num_instances,
            "annealed_on": counts[source.part.name],
            "passes": counts[source.part.name] / source.part.num_instances,
            **source.files.facts,
        }
        for source in sources
    }
