"""The data that a run anneals on: from `data.*` and the checkpoint's own configuration to a window of batches."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sweep import data
from sweep.checkpoints import data_chunk, data_paths, olmo_core_rules
from sweep.config import Data
from sweep.config.published import from_hub
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.domain.records import Position
from sweep.planning.plan import Plan
from sweep.run.checkpoint_folder import CheckpointChoice, CheckpointFolder
from sweep.run.text_rules import ModelTokenizer
from sweep.run.token_files import TokenFileReader, TokenFiles
from sweep.system.store import Store

log = logging.getLogger(__name__)

EXAMINED = 1
"""To be raised if the examination looks for more."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The data that a run anneals on."""

    window: data.Window
    identity: list[Any]
    """All that decides the batches besides the checkpoint and the dtype, ready for a digest."""
    dtype: str
    facts: dict[str, Any]
    """Source -> its files, its instances, and how many of them the anneal takes; for people."""


@dataclass(frozen=True, kw_only=True)
class _Own:
    """The data of the checkpoint's own training, and where it is in them."""

    paths: Sequence[str]
    position: Position
    chunk: int
    """Instances that stay neighbours in its order."""
    first_epoch: int
    """The number of its first epoch."""


@dataclass(frozen=True)
class _Source:
    """A source of the mixture, or the only source there is."""

    files: TokenFiles
    part: data.MixturePart
    unused: data.Unused


def check_data_is_named(choice: CheckpointChoice, chosen: Data) -> None:
    """Refusal, before anything is downloaded, of an anneal on data that its checkpoint will not name."""
    published = choice.model.published
    if published and from_hub(published, choice.checkpoint.source) and chosen.takes_own:
        raise Refusal(
            f"data.paths=null takes the files of the checkpoint's config.yaml, and revisions of {published.hub} "
            f"name none ({choice.model.name} was trained on {published.data}): give data=local data.paths=[FILES]"
        )


def read_data(
    store: Store, chosen: Data, checkpoint: CheckpointFolder, plan: Plan, *, seed: int, tokenizer: ModelTokenizer
) -> TrainingData:
    """The batches of the plan's updates; Refusal if files are missing or don't fit the checkpoint's position."""
    model, updates = checkpoint.config.model, len(plan.learning_rates)
    dtype = chosen.dtype or checkpoint.config.data.memmap_dtype
    _check_dtype(dtype, model.vocab_size)
    chunk = data_chunk(checkpoint.config) if plan.sequence_length == plan.position.sequence_length else 1
    reader = TokenFileReader(store=store, tokenizer=tokenizer.file, rules=tokenizer.rules, dtype=dtype)
    names = [chosen.name] if chosen.sources is None else [*chosen.sources]
    first_epoch = 0 if olmo_core_rules(checkpoint.config) is None else 1
    own = _Own(paths=data_paths(checkpoint.config), position=plan.start, chunk=chunk, first_epoch=first_epoch)
    sources = [_source(reader, chosen, own, name, seed=seed) for name in names]
    mixture = data.Mixture(
        parts=tuple(source.part for source in sources), position=plan.start, batch_size=plan.batch_size
    )
    order: data.DataOrder = mixture if chosen.sources is not None else sources[0].part.order
    identity = [version for source in sources for version in source.files.identity]
    if not isinstance(order, data.Continued):
        identity.append(order.identity())
    files = [file for source in sources for file in source.files.files]
    instances = data.Instances(files, sequence_length=plan.sequence_length, dtype=dtype, chunk=chunk)
    vocab_size = model.embedding_size or model.vocab_size
    window = _window(store, instances, order, vocab_size=vocab_size, identity=identity)
    _examine_once(store, window, sources, chosen, updates=updates, identity=identity)
    facts = _facts(sources, mixture.counts(updates), dtype)
    _tell_ends(store, window, checkpoint, tokenizer.rules.eos_token_id, updates=updates, identity=identity)
    if chosen.sources is not None:
        shares = (f"{name} {fact['annealed_on']} ({fact['passes']:.3g} passes)" for name, fact in facts.items())
        log.info("instances of the anneal: %s", ", ".join(shares))
    return TrainingData(window=window, identity=identity, dtype=dtype, facts=facts)


def _check_dtype(dtype: str, vocab_size: int) -> None:
    if vocab_size - 1 > (most := np.iinfo(dtype).max):
        raise Refusal(
            f"data.dtype={dtype} holds ids up to {most}, and the checkpoint's vocabulary has {vocab_size}: "
            "give data.dtype=uint32"
        )


def _source(reader: TokenFileReader, chosen: Data, checkpoint: _Own, name: str, *, seed: int) -> _Source:
    """The files and the order of one source; Refusal naming its key if it can't be read."""
    if chosen.sources is None:
        paths, weight = chosen.paths, 1.0
    else:
        paths, weight = chosen.sources[name].paths, chosen.sources[name].weight
    key = _key(chosen, name)
    try:
        files = reader.own(checkpoint.paths, chosen.root) if paths is None else reader.given(paths)
        length = checkpoint.position.sequence_length
        instances = data.Instances(files.files, sequence_length=length, dtype=reader.dtype, chunk=checkpoint.chunk)
        _check_use(instances, key)
        size = len(instances)
        order = _order(chosen, size, checkpoint, own=paths is None, seed=seed)
    except Refusal:
        raise
    except (OSError, ValueError) as error:
        given = "null" if paths is None else list(paths)
        raise Refusal(f"{key}={given} read as data.dtype={reader.dtype}: {error}") from error
    part = data.MixturePart(name=name, weight=weight, num_instances=size, order=order)
    return _Source(files, part, instances.unused)


def _check_use(instances: data.Instances, key: str) -> None:
    """ValueError if a file is empty; a warning if files are too short for an instance, and nothing of them is read."""
    if 0 in instances.sizes:
        empty = instances.sizes.index(0)
        raise ValueError(f"{instances.name(empty)} is empty ({instances.sizes.count(0)} of {len(instances.sizes)} are)")
    unused, tokens = instances.unused, sum(instances.sizes) // instances.dtype.itemsize
    if unused.files:
        log.warning(
            "%s: %d of %d files are shorter than an instance of %d tokens, and nothing of them is used; with the ends "
            "of the others %s of %s tokens (%.0f %%) are not: join short files, or choose a smaller "
            "anneal.sequence_length",
            *(key, unused.files, len(instances.sizes), instances.sequence_length),
            *(f"{unused.tokens:,}", f"{tokens:,}", 100 * unused.tokens / tokens),
        )


def _order(chosen: Data, size: int, checkpoint: _Own, *, own: bool, seed: int) -> data.DataOrder:
    """The order of one source's `size` instances.

    The sources of a mixture are drawn instance by instance, and of these only the checkpoint's own data continues.
    """
    mixed, position, chunk = chosen.sources is not None, checkpoint.position, checkpoint.chunk
    batch_size = 1 if mixed else position.batch_size
    data.check_batch(size, batch_size)
    if chosen.position == "fresh" or (mixed and not own):
        return data.Fresh(num_instances=size, position=position, batch_size=batch_size, seed=seed)
    if chosen.position == "start":
        first = checkpoint.first_epoch
        return data.Started(
            num_instances=size, position=position, batch_size=batch_size, seed=seed, first_epoch=first, chunk=chunk
        )
    data.check_position(size, position, batch_size)
    return data.Continued(num_instances=size, position=position, batch_size=batch_size, shuffle_seed=seed, chunk=chunk)


def _window(
    store: Store, instances: data.Instances, order: data.DataOrder, *, vocab_size: int, identity: list[Any]
) -> data.Window:
    """Local files are read in place; files behind a network are fetched when they are needed."""
    if instances.remote:
        key = digest(identity, order.identity())
        return data.FetchedWindow(instances, order, vocab_size=vocab_size, store=store, key=key)
    return data.Window(instances, order, vocab_size=vocab_size)


def _examine_once(
    store: Store, window: data.Window, sources: list[_Source], chosen: Data, *, updates: int, identity: list[Any]
) -> None:
    """Refusal naming source, file and place if a token of the anneal's updates can't be trained on.

    Of files behind a network a sample is read now, and the others when they are fetched, before the first update. The
    store remembers what was examined.
    """
    instances, order, vocab_size = window.instances, window.order, window.vocab_size

    def build(into: Path) -> None:
        rows = np.unique(window.indices(updates)[:updates])
        if instances.remote:
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, data.SAMPLED).astype(int))]
        try:
            fault = data.first_fault(instances, rows, vocab_size=vocab_size)
        except OSError as error:
            raise Refusal(f"{_key(chosen, chosen.name)}: {error}") from error
        if fault is not None:
            owners = [source.part.name for source in sources for _ in source.files.files]
            raise Refusal(f"{_key(chosen, owners[fault.file])}: {fault.words}")
        (into / "examined.json").write_text(json.dumps({"instances": len(rows)}) + "\n")

    shape = [updates, instances.sequence_length, vocab_size, str(instances.dtype)]
    store.make("examined", digest("examined data", EXAMINED, identity, order.identity(), shape), build)


def _tell_ends(
    store: Store, window: data.Window, checkpoint: CheckpointFolder, own: int, *, updates: int, identity: list[Any]
) -> None:
    """Warn where the checkpoint's configuration ends a text with another token than its tokenizer, whose is used.

    Token files are read as they are; so the warning says which of the two stands in them. The store remembers it.
    """
    if (configured := checkpoint.config.model.eos_token_id) == own:
        return

    def build(into: Path) -> None:
        seen = data.counts_of(window.instances, window.indices(updates)[:updates], (configured, own))
        (into / "ends.json").write_text(json.dumps([seen[configured], seen[own]]) + "\n")

    key = digest("ends", EXAMINED, identity, window.order.identity(), updates, configured, own)
    seen = json.loads((store.make("examined", key, build) / "ends.json").read_text())
    log.warning(
        "model.eos_token_id=%d in the checkpoint's configuration, but its tokenizer ends a text with %d, which "
        "scoring, text and export use; in a sample of the token files %d stands %d times, and %d %d times",
        *(configured, own, configured, seen[0], own, seen[1]),
    )


def _key(chosen: Data, name: str) -> str:
    """The dotted key of a source's files."""
    return "data.paths" if chosen.sources is None else f"data.sources.{name}.paths"


def _facts(sources: list[_Source], counts: Mapping[str, int], dtype: str) -> dict[str, Any]:
    return {
        source.part.name: {
            "digest": digest(source.files.identity, dtype),
            "weight": source.part.weight,
            "instances": source.part.num_instances,
            "annealed_on": counts[source.part.name],
            "passes": counts[source.part.name] / source.part.num_instances,
            "unused_tokens": source.unused.tokens,
            "unused_files": source.unused.files,
            **source.files.facts,
        }
        for source in sources
    }
