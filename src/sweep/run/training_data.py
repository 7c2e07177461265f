"""What a run anneals on: from `data.*` and the checkpoint's own word to a window of batches, or a refusal."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import data
from sweep.checkpoints import data_paths
from sweep.config import RunConfig
from sweep.config.published import from_hub
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.domain.records import Position
from sweep.planning.plan import Plan
from sweep.run.checkpoint_source import Source as Checkpoint
from sweep.run.token_files import Reader, Source
from sweep.system.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a run anneals on."""

    window: data.Window
    identity: list[Any]
    """What decides the batches besides the checkpoint and their dtype, ready for a digest."""
    dtype: str
    facts: dict[str, Any]
    """Files, instances, and how much of each the anneal takes, for people."""


def check_named(config: RunConfig) -> None:
    """Refusal, before anything is fetched, of an anneal on data that its checkpoint will not name."""
    published = config.model.published
    if published and from_hub(published, config.checkpoint.source) and config.anneal.steps and config.data.takes_own:
        raise Refusal(
            f"data.paths=null takes the files of the checkpoint's config.yaml, and revisions of {published.hub} "
            f"name none ({config.model.name} was trained on {published.data}): give data=local data.paths=[FILES]"
        )


def read_data(store: Store, config: RunConfig, checkpoint: Checkpoint, plan: Plan, tokenizer: Path) -> Reading:
    """The batches of the plan's updates; Refusal where they aren't there or can't be what the checkpoint stands in."""
    chosen, position, updates = config.data, plan.start, len(plan.learning_rates)
    model = checkpoint.config.model
    dtype = chosen.dtype or checkpoint.config.data.memmap_dtype
    reader = Reader(store=store, tokenizer=tokenizer, eos_token_id=model.eos_token_id, dtype=dtype)
    parts: list[data.Part] = []
    found: list[Source] = []
    sources = {name: (source.paths, source.weight) for name, source in (chosen.sources or {}).items()}
    for name, (paths, weight) in (sources or {chosen.name: (chosen.paths, 1.0)}).items():
        try:
            if paths is None:
                found.append(reader.own(data_paths(checkpoint.config), chosen.root))
            else:
                found.append(reader.given(paths))
            size = len(data.Instances(found[-1].files, sequence_length=position.sequence_length, dtype=dtype))
            own_order = _order(config, size, position, own=paths is None)
        except Refusal:
            raise
        except (OSError, ValueError) as error:
            key = "data.paths" if chosen.sources is None else f"data.sources.{name}.paths"
            given = "null" if paths is None else list(paths)
            raise Refusal(f"{key}={given} read as data.dtype={dtype}: {error}") from error
        parts.append(data.Part(name=name, weight=weight, num_instances=size, order=own_order))
    mixture = data.Mixture(parts=tuple(parts), position=position, batch_size=position.batch_size)
    order: data.Order = mixture if chosen.sources is not None else parts[0].order
    identity = [version for source in found for version in source.identity]
    if not isinstance(order, data.Continued):
        identity.append(order.identity())
    instances = data.Instances(
        [file for source in found for file in source.files], sequence_length=position.sequence_length, dtype=dtype
    )
    window = _window(
        store, instances, order, updates, vocab_size=model.embedding_size or model.vocab_size, read=identity
    )
    counts = mixture.counts(updates)
    facts = {
        part.name: {
            "digest": digest(source.identity, dtype),
            "weight": part.weight,
            "instances": part.num_instances,
            "annealed_on": counts[part.name],
            "passes": counts[part.name] / part.num_instances,
            **source.facts,
        }
        for part, source in zip(parts, found, strict=True)
    }
    if chosen.sources is not None:
        shares = (f"{name} {fact['annealed_on']} ({fact['passes']:.3g} passes)" for name, fact in facts.items())
        log.info("instances of the anneal: %s", ", ".join(shares))
    return Reading(window=window, identity=identity, dtype=dtype, facts=facts)


def _order(config: RunConfig, size: int, position: Position, *, own: bool) -> data.Order:
    """Of one source; those of a mixture are drawn instance by instance, and only the checkpoint's own goes on."""
    mixed = config.data.sources is not None
    batch_size = 1 if mixed else position.batch_size
    data.check_batch(size, batch_size)
    if config.data.position == "fresh" or (mixed and not own):
        return data.Fresh(num_instances=size, position=position, batch_size=batch_size, seed=config.seed)
    data.check(size, position, batch_size)
    return data.Continued(num_instances=size, position=position, batch_size=batch_size, shuffle_seed=config.seed)


def _window(
    store: Store, instances: data.Instances, order: data.Order, updates: int, *, vocab_size: int, read: list[Any]
) -> data.Window:
    """Read where it lies, its first batch at once; what is behind a network is fetched when the anneal needs it."""
    if instances.remote:
        key = digest(read, order.identity())
        return data.FetchedWindow(instances, order, vocab_size=vocab_size, store=store, key=key)
    window = data.Window(instances, order, vocab_size=vocab_size)
    next(window.batches(0, updates))
    return window
