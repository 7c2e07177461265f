"""`python bench/anneal.py [--models tiny-s,20m] [--threads 1,2] [--dtypes fp32,bf16] [--updates 40]`: tokens a second.

On a GPU: `--device cuda --models 1b --threads 1 --dtypes bf16 --compile` (three times the model's states in memory).

Our update against ai2-olmo's own parts, driven as its trainer drives them, and against Hugging Face's Trainer on the
converted model: same weights, batches, optimizer, dtype and threads. The three take turns update by update in one
process, so that a noisy machine slows them alike; a ratio is the median over these turns. Model FLOPs are shown as a
share of this machine's measured matrix-product peak. The last lines have the smallest ratios, and our best setting's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

sys.path.append(sys.path.pop(0))  # this folder comes last: sweep.py in it has the name of the package

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from hydra import compose, initialize_config_dir
from olmo.config import TrainConfig
from olmo.model import OLMo
from olmo.optim import build_optimizer, build_scheduler
from scoring import native

from sweep.checkpoints import fresh_state, matrix_parameters
from sweep.commands.main import CONF
from sweep.config import Model
from sweep.run.embedded import embedded_config
from sweep.sweeps.points import typed
from sweep.training.loop import UpdateRules, anneal, configure_passes

WARMUP = 5
OTHERS = ("ai2-olmo", "Trainer")
SIZES: dict[str, dict[str, Any]] = {
    "20m": {"d_model": 384, "n_layers": 6, "n_heads": 6, "mlp_ratio": 8, "vocab_size": 16384, "batch_size": 2},
    "1b": {
        "d_model": 2048,
        "n_layers": 16,
        "n_heads": 16,
        "mlp_ratio": 8,
        "vocab_size": 50304,
        "batch_size": 8,
        "sequence_length": 2048,
    },
}
"""Made from tiny-s, for the bench alone; `1b` has OLMo-1B's sizes."""
OUTSIDE = ("vocab_size", "batch_size", "sequence_length")
"""Of these sizes those that are no part of the architecture."""


@dataclass(frozen=True)
class Speed:
    """Of one model, dtype and number of threads."""

    tokens: dict[str, float]
    """Tokens a second, the median."""
    ratios: dict[str, float]
    """Who -> their seconds over ours, the median over turns."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="tiny-s,20m")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--dtypes", default="fp32,bf16")
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true", help="also ours with compute.compile")
    options = parser.parse_args()
    device = torch.device(options.device)
    transformers.utils.logging.disable_progress_bar()
    worst = dict.fromkeys(OTHERS, np.inf)
    best = {"fp32": np.inf, "best": np.inf}
    head = ("model", "threads", "dtype", "ours", "ai2-olmo", "Trainer", "peak GFLOP/s", "ours/peak")
    sys.stdout.write("| " + " | ".join((*head, "ours/ai2-olmo", "ours/Trainer")) + " |\n|" + 10 * "---|" + "\n")
    for name in options.models.split(","):
        for threads in map(int, options.threads.split(",")):
            torch.set_num_threads(threads)
            speeds: dict[str, Speed] = {}
            for dtype in options.dtypes.split(","):
                for compiled in (False, True)[: 1 + options.compile]:
                    config = embedded_config(model_of(name))
                    setting = f"{dtype} compiled" if compiled else dtype
                    speeds[setting] = measured(config, dtype, device, compiled=compiled, updates=options.updates)
            for dtype, speed in speeds.items():
                peak = peak_flops(dtype.split()[0], device)
                share = speed.tokens["ours"] * flops_a_token(config) / peak
                if " " not in dtype:
                    worst = {who: min(worst[who], speed.ratios[who]) for who in OTHERS}
                figures = [f"{tokens:.0f}" for tokens in speed.tokens.values()]
                row = (name, str(threads), dtype, *figures, f"{peak / 1e9:.0f}", f"{share:.0%}")
                sys.stdout.write("| " + " | ".join((*row, *(f"{r:.2f}" for r in speed.ratios.values()))) + " |\n")
                sys.stdout.flush()
            most = max(speed.tokens["ours"] for speed in speeds.values())
            theirs_at = {dtype: max(speed.tokens[who] for who in OTHERS) for dtype, speed in speeds.items()}
            best["fp32"] = min(best["fp32"], most / theirs_at.get("fp32", np.nan))
            best["best"] = min(best["best"], most / max(theirs_at.values()))
    equal = ", ".join(f"{ratio:.2f} of {who}" for who, ratio in worst.items())
    sys.stdout.write(
        f"tokens a second. Ratio at equal dtype at least {equal}.\n"
        f"Our best setting over the better of theirs: at least {best['fp32']:.2f} in fp32, "
        f"{best['best']:.2f} in their best dtype\n"
    )


def measured(config: TrainConfig, dtype: str, device: torch.device, *, compiled: bool, updates: int) -> Speed:
    """Each side's speed, the first updates left out."""
    rng = np.random.default_rng(0)
    shape = (config.global_train_batch_size, config.model.max_sequence_length)
    batches = [rng.integers(2, config.model.vocab_size, shape) for _ in range(WARMUP + updates)]
    seconds: dict[str, list[float]] = {"ours": [], "ai2-olmo": [], "Trainer": []}
    mine, others = ours(config, batches, dtype, device, compiled=compiled), theirs(config, batches, dtype, device)

    def turn(trainers: float) -> None:
        for who, spent in {"ours": next(mine), "ai2-olmo": next(others), "Trainer": trainers}.items():
            seconds[who].append(spent)

    hugging_face(config, batches, dtype, device, turn)
    tokens = shape[0] * shape[1]
    assert len(seconds["ours"]) == len(batches)
    spent = {who: every[WARMUP:] for who, every in seconds.items()}
    return Speed(
        tokens={who: tokens / statistics.median(every) for who, every in spent.items()},
        ratios={
            who: statistics.median(them / us for them, us in zip(spent[who], spent["ours"], strict=True))
            for who in OTHERS
        },
    )


def ours(
    config: TrainConfig, batches: list[np.ndarray], dtype: str, device: torch.device, *, compiled: bool
) -> Iterator[float]:
    state = fresh_state(config, device=device)
    configure_passes(state.model, activation_checkpointing=False, compile=compiled)
    rates, clip = np.full(len(batches), 1e-3), config.max_grad_norm
    for record in anneal(
        state.model, state.optimizer, batches, rates, UpdateRules(max_grad_norm=clip, precision=dtype)
    ):
        yield record.seconds


def theirs(config: TrainConfig, batches: list[np.ndarray], dtype: str, device: torch.device) -> Iterator[float]:
    """Seconds of each update as ai2-olmo's trainer makes it: its model, loss, clipping, scheduler and optimizer."""
    model = OLMo(config.model).to(device)
    optimizer, scheduler = build_optimizer(config, model), build_scheduler(config)
    for step, batch in enumerate(batches, 1):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        ids = torch.from_numpy(batch).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bf16"):
            logits = model(ids).logits[..., :-1, :].contiguous().view(-1, config.model.vocab_size)
            loss = F.cross_entropy(logits, ids[..., 1:].contiguous().view(-1), reduction="sum") / ids.numel()
        loss.backward()
        optimizer.clip_grads_and_collect_metrics(step, collect_param_metrics=False)
        for group in optimizer.param_groups:
            group["lr"] = scheduler.get_lr(config.optimizer.learning_rate, step, len(batches))
        optimizer.step()
        loss.item()
        yield time.perf_counter() - started


def hugging_face(config: TrainConfig, batches: list[np.ndarray], dtype: str, device: torch.device, turn: Any) -> None:
    """Train with Hugging Face's Trainer; after each of its updates `turn(seconds)` is called."""
    source = fresh_state(config, device=torch.device("cpu")).model.eval()
    model = native(source)
    with torch.no_grad():
        ids = torch.from_numpy(batches[0][:1, :64])
        assert (model(ids).logits - source(ids).logits).abs().max() < 1e-3, "the converted model is another one"
    model.config.use_cache = False

    class Turns(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize()
            turn(time.perf_counter() - self.started)

    rows = np.concatenate(batches)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder, use_cpu=device.type == "cpu", bf16=dtype == "bf16", max_steps=len(batches), report_to=[],
            per_device_train_batch_size=config.global_train_batch_size, learning_rate=1e-3, weight_decay=0.1,
            adam_beta1=0.9, adam_beta2=0.95, max_grad_norm=config.max_grad_norm, lr_scheduler_type="constant",
            optim="adamw_torch_fused", logging_strategy="no", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        data = [{"input_ids": row, "labels": row} for row in torch.from_numpy(rows)]
        trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[Turns()])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()


def model_of(name: str) -> Model:
    """A shipped embedded model, or one of the bench's own sizes."""
    overrides = [f"model={'tiny-s' if name in SIZES else name}"]
    overrides += [
        f"model.{'' if key in OUTSIDE else 'architecture.'}{key}={value}" for key, value in SIZES.get(name, {}).items()
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("config", overrides=overrides)).model


def flops_a_token(config: TrainConfig) -> float:
    """Model FLOPs of an update for each token: 6 a matrix parameter, plus attention (arXiv 2204.02311, app. B)."""
    sizes = config.model
    return 6 * matrix_parameters(sizes) + 12 * sizes.n_layers * sizes.d_model * sizes.max_sequence_length


def peak_flops(dtype: str, device: torch.device) -> float:
    """FLOPs a second of a product of two square matrices, 1024 wide or on a GPU 8192: the best of several."""
    width = 1024 if device.type == "cpu" else 8192
    a = torch.randn(width, width, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32, device=device)
    seconds = []
    for _ in range(8):
        started = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * width**3 / min(seconds)


if __name__ == "__main__":
    main()
