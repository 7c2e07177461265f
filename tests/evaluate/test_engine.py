"""Log-likelihoods against the OLMo module's own forward, request by request, and what must not change them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from olmo.config import ActivationType, BlockType
from olmo.model import OLMo
from tokenizers import Tokenizer

from sweep.domain.errors import Refusal
from sweep.evaluate import TOKEN_BUDGET, TaskRequests, engine, make_pack
from sweep.evaluate.buffers import CPU, GPU
from sweep.evaluate.engine import likelihoods
from sweep.evaluate.matmul import NARROW
from sweep.evaluate.transformer import Body
from sweep.evaluate.tree_batches import TreeBatches

from .conftest import MAX_LENGTH, OLMO2, RULES, Encode, make_olmo

ARCHITECTURES = {
    "olmo1": {},
    "olmo1-wide": {"d_model": 2 * NARROW},
    "olmo1-tied-clipped": {"weight_tying": True, "clip_qkv": 1.0},
    "olmo1-parametric": {"layer_norm_with_affine": True},
    "olmo1-norm-bias": {"layer_norm_with_affine": True, "bias_for_layer_norm": True},
    "olmo1-grouped-queries": {"n_kv_heads": 2, "block_group_size": 2},
    "olmo1-query-key-norm": {"attention_layer_norm": True, "attention_layer_norm_with_affine": True},
    "olmo1-scaled": {"scale_logits": True, "weight_tying": True, "rope_theta": 500, "rope_full_precision": False},
    "olmo2": OLMO2,
    "olmo2-grouped-queries": OLMO2 | {"n_kv_heads": 1},
    "olmo3": OLMO2 | {"windows": [7, -1]},
    "windows-in-every-layer": {"windows": [30, 5]},
    "pre-norm-rms": {"layer_norm_type": "rms", "layer_norm_with_affine": True},
}

FINE = replace(CPU, nodes=1, fewest=1)
"""Many small batches."""


def scored(task: TaskRequests, tokenizer: Tokenizer, model: OLMo, **settings: Any) -> np.ndarray:
    pack = make_pack([task], tokenizer, **{"rules": RULES, "max_length": MAX_LENGTH, "token_budget": 900} | settings)
    return likelihoods(Body(model, FINE), pack).log_probability


@torch.inference_mode()
def by_forward(task: TaskRequests, encode: Encode, model: OLMo) -> list[float]:
    sums = []
    for pair in zip(task.contexts, task.continuations, strict=True):
        context, rest = encode(*pair)
        logits = model(torch.tensor([(context + rest)[:-1]])).logits[0, -len(rest) :].double()
        sums.append(logits.log_softmax(-1)[range(len(rest)), rest].sum().item())
    return sums


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("task", ["hellaswag", "winogrande"])
def test_equals_the_modules_own_forward(
    name: str, task: str, core8: dict[str, TaskRequests], tokenizer: Tokenizer, encode: Encode
) -> None:
    model = make_olmo(**ARCHITECTURES[name])
    ours = scored(core8[task], tokenizer, model)
    assert ours == pytest.approx(by_forward(core8[task], encode, model), abs=2e-4, rel=1e-6)


def test_large_logits_are_summed_safely(core8: dict[str, TaskRequests], tokenizer: Tokenizer, encode: Encode) -> None:
    model = make_olmo()
    with torch.no_grad():
        model.transformer.ff_out.weight *= 60
    ours = scored(core8["arc_easy"], tokenizer, model)
    assert np.isfinite(ours).all()
    assert ours == pytest.approx(by_forward(core8["arc_easy"], encode, model), rel=1e-5)


def test_lower_precision_weights_are_scored_in_fp32(core8: dict[str, TaskRequests], tokenizer: Tokenizer) -> None:
    low = make_olmo().bfloat16()
    same = make_olmo()
    same.load_state_dict(low.state_dict())
    assert np.array_equal(scored(core8["piqa"], tokenizer, low), scored(core8["piqa"], tokenizer, same))


def test_the_budget_changes_nothing(core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo) -> None:
    small, large = (scored(core8["sciq"], tokenizer, olmo, token_budget=budget) for budget in (1, 5000))
    assert small == pytest.approx(large, abs=1e-4)


def test_the_sizes_for_a_gpu_give_the_same(core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo) -> None:
    pack = make_pack([core8["hellaswag"]], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=900)
    few, many = (likelihoods(Body(olmo, sizes), pack).log_probability for sizes in (GPU, CPU))
    assert few == pytest.approx(many, abs=1e-4)


def test_scoring_twice_gives_the_same_bits(core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo) -> None:
    first, second = (scored(core8["hellaswag"], tokenizer, olmo) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("d_model", [32, 2 * NARROW])
def test_the_number_of_threads_changes_no_bit(
    d_model: int, core8: dict[str, TaskRequests], tokenizer: Tokenizer
) -> None:
    before, model = torch.get_num_threads(), make_olmo(d_model=d_model)
    results = []
    for num_threads in (1, 3):
        torch.set_num_threads(num_threads)
        results.append(scored(core8["hellaswag"], tokenizer, model))
        assert torch.get_num_threads() == num_threads
    torch.set_num_threads(before)
    assert results[0].tobytes() == results[1].tobytes()


def test_an_error_stops_the_work_and_restores_the_threads(
    core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo
) -> None:
    pack = make_pack([core8["hellaswag"]], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=300)
    num_threads = torch.get_num_threads()

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        likelihoods(Body(olmo, FINE), pack, progress=stop)
    assert torch.get_num_threads() == num_threads


def test_progress_adds_up_to_the_nodes(core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo) -> None:
    pack = make_pack([core8["piqa"]], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=500)
    told: list[int] = []
    likelihoods(Body(olmo, FINE), pack, progress=told.append)
    assert len(told) == len(pack.batch_nodes) > 1
    assert sum(told) == pack.num_nodes


def test_the_model_is_left_as_it_was(core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo) -> None:
    before = {name: value.clone() for name, value in olmo.state_dict().items()}
    olmo.train()
    scored(core8["arc_easy"], tokenizer, olmo)
    assert olmo.training
    assert all(torch.equal(value, before[name]) for name, value in olmo.state_dict().items())
    olmo.eval()


def short_of_memory(monkeypatch: pytest.MonkeyPatch, *, most_nodes: int, kind: type[Exception], says: str) -> list[int]:
    """An engine that can hold so many nodes at a time; the sizes of the batches that it was given."""
    sizes: list[int] = []
    scored = engine._scored

    def limited(body: Body, batch: Any, *, greedy: bool) -> Any:
        sizes.append(len(batch.ids))
        if len(batch.ids) > most_nodes:
            raise kind(says)
        return scored(body, batch, greedy=greedy)

    monkeypatch.setattr(engine, "_scored", limited)
    return sizes


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory"),
        (RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        (MemoryError, ""),
    ],
)
def test_out_of_memory_halves_the_budget_and_goes_on(
    kind: type[Exception],
    says: str,
    core8: dict[str, TaskRequests],
    tokenizer: Tokenizer,
    olmo: OLMo,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pack = make_pack([core8["hellaswag"]], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=1)
    expected = likelihoods(olmo, pack).log_probability
    sizes = short_of_memory(monkeypatch, most_nodes=1500, kind=kind, says=says)
    told: list[int] = []
    found = likelihoods(Body(olmo, replace(FINE, parts=1)), pack, progress=told.append).log_probability
    assert found == pytest.approx(expected, abs=1e-4)
    assert sizes[0] > 1500 >= sizes[-1]
    assert sum(told) == pack.num_nodes, "what was done before isn't done again"
    assert "out of memory: going on with" in caplog.text


def test_a_wide_model_of_default_packs_and_sizes_goes_on_with_less_memory_too(
    core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [core8["hellaswag"], core8["piqa"]]
    pack = make_pack(tasks, tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=TOKEN_BUDGET)
    assert pack.num_nodes > 4096
    expected = likelihoods(olmo, pack).log_probability
    sizes = short_of_memory(monkeypatch, most_nodes=TOKEN_BUDGET, kind=MemoryError, says="")
    found = likelihoods(Body(olmo, replace(CPU, memory=1, parts=1)), pack).log_probability
    assert found == pytest.approx(expected, abs=1e-4)
    assert sizes[0] > 2048, "a wide model's batches hold thousands of nodes, so that its weights are read seldom"


def test_what_never_fits_is_an_error(
    core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = make_pack([core8["piqa"]], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=1)
    short_of_memory(monkeypatch, most_nodes=0, kind=MemoryError, says="none at all")
    with pytest.raises(MemoryError, match="none at all"):
        likelihoods(olmo, pack)


def test_another_error_is_raised_at_once(
    core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = make_pack([core8["piqa"]], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=1)
    short_of_memory(monkeypatch, most_nodes=0, kind=RuntimeError, says="shapes differ")
    with pytest.raises(RuntimeError, match="shapes differ"):
        likelihoods(olmo, pack)


def test_a_batch_keeps_to_the_budget(core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo) -> None:
    pack = make_pack([core8["hellaswag"]], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=1)
    body = Body(olmo, CPU)
    most = engine.most_nodes(body, 2**20)
    work = TreeBatches(pack, body.device)
    runs = work.cut(most)
    largest_tree = int(pack.batch_nodes.max())
    assert all(len(work[run].ids) == work.nodes(run) <= max(most, largest_tree) for run in runs)
    assert sum(work.nodes(run) for run in runs) == pack.num_nodes > most


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rope", False),
        ("alibi", True),
        ("embedding_layer_norm", True),
        ("include_bias", True),
        ("activation_type", ActivationType.gelu),
        ("block_type", BlockType.llama),
    ],
)
def test_what_is_not_supported_is_named(setting: str, value: Any) -> None:
    model = make_olmo()
    setattr(model.config, setting, value)
    with pytest.raises(Refusal, match=rf"model\.{setting}"):
        Body(model, CPU)
