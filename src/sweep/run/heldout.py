"""The held-out documents of a run: a folder, or files that are made into one on first use; and whether they train."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
from olmo.config import TrainConfig
from tokenizers import Tokenizer

from sweep import data
from sweep.config import Data
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.run.text_rules import ModelTokenizer
from sweep.run.training_data import TrainingData
from sweep.system.files import expanded, file_digest, version
from sweep.system.store import Store

log = logging.getLogger(__name__)

FORMAT = 1
"""To be raised when the same files would become other held-out documents, or more of the anneal is looked at."""
MOST_TOKENS = 1 << 23
"""Of an anneal that are compared with the held-out documents; of more, instances at even distances."""
TOGETHER = 256
"""Instances that are decoded together."""


def heldout_folder(store: Store, chosen: Data, tokenizer: ModelTokenizer, config: TrainConfig) -> Path | None:
    """The folder of the held-out documents; None if none are named and there are none beside the tokenizer.

    Refusal if they are damaged, or hold tokens that the model lacks.
    """
    named = tokenizer.file.parent if chosen.heldout is None else Path(chosen.heldout)
    if chosen.heldout is not None and not named.is_dir():
        named = _made(store, chosen, tokenizer, config)
    if not (named / data.HELDOUT_TOKENS).is_file():
        if chosen.heldout is not None:
            raise Refusal(f"data.heldout={chosen.heldout}: there is no heldout.npy in it")
        return None
    return named


def check_heldout(folder: Path, chosen: Data, config: TrainConfig) -> None:
    """Refusal if the held-out documents are damaged, or of another tokenizer."""
    try:
        tokens = data.read_heldout(folder).tokens
    except (OSError, ValueError) as error:
        raise Refusal(f"data.heldout={chosen.heldout}: {error}") from error
    if len(tokens) and int(tokens.max()) >= (rows := config.model.embedding_size or config.model.vocab_size):
        raise Refusal(
            f"data.heldout={chosen.heldout}: {folder / 'heldout.npy'} holds token id {tokens.max()} at token "
            f"{int(tokens.argmax())}, and the model has {rows}: it was made by another tokenizer"
        )


def _made(store: Store, chosen: Data, tokenizer: ModelTokenizer, config: TrainConfig) -> Path:
    """The folder in the store that the named files are made into."""
    assert chosen.heldout is not None
    files = [Path(path) for path in expanded(chosen.heldout)]
    dtype = chosen.dtype or config.data.memmap_dtype
    words = Tokenizer.from_file(str(tokenizer.file))
    form = data.TokenFormat(tokenizer=words, rules=tokenizer.rules, dtype=dtype)
    try:
        versions = [[str(file.absolute()), *version(file)] for file in files]
        rules = [tokenizer.rules.eos_token_id, config.model.eos_token_id, *tokenizer.rules.more_in_keys]
        key = digest("heldout files", FORMAT, versions, file_digest(tokenizer.file), dtype, rules)
        ends = (config.model.eos_token_id,)
        return store.make("heldout", key, lambda into: _make(into, files, form, ends))
    except Refusal:
        raise
    except (OSError, ValueError) as error:
        raise Refusal(f"data.heldout={chosen.heldout}: {error}") from error


def _make(into: Path, files: list[Path], form: data.TokenFormat, ends: tuple[int, ...]) -> None:
    made = data.make_heldout(into, files, form, tokenizer=form.tokenizer, ends=ends)
    log.info("held-out text: %d documents, %d tokens", made.documents, made.tokens)


def tell_shared(store: Store, folder: Path, found: TrainingData, tokenizer: Path, *, updates: int) -> None:
    """Warn if held-out documents share words in a row with what the anneal trains on; the store remembers it.

    Instances are decoded and compared as text, so that it doesn't matter how they were tokenised.
    """
    window = found.window
    rows = np.unique(window.indices(updates)[:updates])
    length = window.instances.sequence_length
    most = max(1, (data.SAMPLED * length if window.instances.remote else MOST_TOKENS) // length)
    looked = rows[np.unique(np.linspace(0, len(rows) - 1, most).astype(int))] if len(rows) > most else rows

    def build(into: Path) -> None:
        words = Tokenizer.from_file(str(tokenizer))
        shared = data.Shared(data.heldout_texts(folder, words), run=data.HELDOUT_RUN, shortest=data.HELDOUT_WHOLE)
        for start in range(0, len(looked), TOGETHER):
            instances = window.instances.read(looked[start : start + TOGETHER]).tolist()
            shared.look_at(words.decode_batch(instances, skip_special_tokens=True))
        seen = [int(shared.texts.sum()), len(shared.texts)]
        (into / "shared.json").write_text(json.dumps(seen) + "\n")

    made_of = [file_digest(file) for file in data.heldout_files(folder)]
    order = window.order.identity()
    key = digest("held-out text in training data", FORMAT, made_of, found.identity, order, updates, most, length)
    documents, of = json.loads((store.make("examined", key, build) / "shared.json").read_text())
    part = "all" if len(looked) == len(rows) else f"{len(looked)} of {len(rows)}"
    if documents:
        log.warning(
            "data.heldout: %d of %d held-out documents share %d words in a row with the anneal's data (%s instances "
            "were looked at): their loss shows what was learnt by heart; `sweep heldout FILES OUT --against DATA` "
            "leaves such documents out",
            *(documents, of, data.HELDOUT_RUN, part),
        )
    else:
        log.info("held-out text: none of %d documents is in the anneal's data (%s instances looked at)", of, part)
