"""`python bench/anneal.py [MODEL]`: our update against ai2-olmo's own parts, same model, batches, dtype and threads.

Both sides run in this process, update by update in turn, so that a noisy machine slows them alike. The last line is the
ratio of median tokens per second.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from olmo.config import TrainConfig
from olmo.model import OLMo
from olmo.optim import build_optimizer, build_scheduler

from sweep.anneal import anneal
from sweep.checkpoints import fresh_state
from sweep.cli import CONF, typed
from sweep.trajectory import embedded_config

WARMUP, UPDATES = 5, 60


def theirs(config: TrainConfig, batches: list[np.ndarray]) -> Iterator[float]:
    """Seconds of each update as ai2-olmo's trainer makes it: its model, loss, clipping, scheduler and optimizer."""
    model = OLMo(config.model)
    optimizer, scheduler = build_optimizer(config, model), build_scheduler(config)
    for step, batch in enumerate(batches, 1):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        ids = torch.from_numpy(batch)
        logits = model(ids).logits[..., :-1, :].contiguous().view(-1, config.model.vocab_size)
        loss = F.cross_entropy(logits, ids[..., 1:].contiguous().view(-1), reduction="sum") / ids.numel()
        loss.backward()
        optimizer.clip_grads_and_collect_metrics(step, collect_param_metrics=False)
        for group in optimizer.param_groups:
            group["lr"] = scheduler.get_lr(config.optimizer.learning_rate, step, len(batches))
        optimizer.step()
        loss.item()
        yield time.perf_counter() - started


def ours(config: TrainConfig, batches: list[np.ndarray]) -> Iterator[float]:
    state = fresh_state(config, device=torch.device("cpu"))
    rates = np.full(len(batches), 1e-3)
    for record in anneal(state.model, state.optimizer, batches, rates, max_grad_norm=config.max_grad_norm):
        yield record.seconds


def main() -> None:
    torch.set_num_threads(1)
    name = sys.argv[1] if len(sys.argv) > 1 else "tiny-s"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = typed(compose("config", overrides=[f"model={name}"])).model
    config = embedded_config(chosen)
    rng = np.random.default_rng(0)
    shape = (config.global_train_batch_size, config.model.max_sequence_length)
    batches = [rng.integers(2, config.model.vocab_size, shape) for _ in range(WARMUP + UPDATES)]
    pairs = list(zip(ours(config, batches), theirs(config, batches), strict=True))[WARMUP:]
    mine, other = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    tokens = shape[0] * shape[1]
    sys.stdout.write(f"{name}: {chosen.parameters:,} parameters, {shape[0]}x{shape[1]} tokens, fp32, 1 thread, CPU\n")
    for who, seconds in {"sweep": mine, "ai2-olmo": other}.items():
        sys.stdout.write(f"{who:9} {1e3 * seconds:7.1f} ms an update {tokens / seconds:9.0f} tokens/s\n")
    sys.stdout.write(f"ratio {other / mine:.2f}\n")


if __name__ == "__main__":
    main()
