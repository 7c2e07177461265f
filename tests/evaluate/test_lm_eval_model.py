"""lm-eval's own evaluator runs our engine and reports what it reports of HFLM on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
from olmo.model import OLMo
from tokenizers import Tokenizer

from sweep.checkpoints import TrainingState
from sweep.config import Task
from sweep.domain.errors import Refusal
from sweep.evaluate.lm_eval_model import OLMoLM
from sweep.evaluate.lm_eval_tasks import wheel_task
from sweep.evaluate.wheel import SOURCES

from .conftest import LIMIT, MAX_LENGTH, RULES


@pytest.fixture(autouse=True)
def _no_report_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # takes 20 s


@pytest.fixture(scope="module")
def ours(olmo: OLMo, tokenizer: Tokenizer) -> LM:
    return OLMoLM(olmo, tokenizer, rules=RULES, max_length=MAX_LENGTH)


def reported(model: LM, tasks: Any, **more: Any) -> dict[str, Any]:
    return simple_evaluate(model, tasks=tasks, limit=LIMIT, bootstrap_iters=50, log_samples=False, **more)["results"]


@pytest.mark.parametrize("name", ["arc_easy", "hellaswag", "winogrande", "boolq"])
def test_simple_evaluate_reports_the_same(name: str, ours: LM, hflm: LM) -> None:
    task = [wheel_task(SOURCES[name], Task(name=name, limit=LIMIT))]
    none = TaskManager(include_defaults=False)  # reading lm-eval's own takes ten seconds
    assert reported(ours, task, task_manager=none) == reported(hflm, task, task_manager=none)


TEXTS = ["a man is sitting on a roof. " * 12, "he is ripping level tiles off.", "a"]


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskManager:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": text, "end": text[-6:]}) + "\n" for text in TEXTS))
    shared = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
    (tmp_path / "rolling.yaml").write_text(
        f"task: rolling\n{shared}output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: text\n"
        "metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]\n"
    )
    (tmp_path / "ends.yaml").write_text(
        f"task: ends\n{shared}output_type: loglikelihood\ndoc_to_text: '{{{{text[:-6]}}}}'\ndoc_to_target: end\n"
        "target_delimiter: ''\nmetric_list: [{metric: perplexity}, {metric: acc}]\n"
    )
    return TaskManager(include_path=str(tmp_path), include_defaults=False)


@pytest.mark.parametrize("name", ["rolling", "ends"])
def test_text_and_its_end_too(name: str, local: TaskManager, ours: LM, hflm: LM) -> None:
    mine, theirs = (reported(model, [name], task_manager=local)[name] for model in (ours, hflm))
    assert mine == {
        key: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value for key, value in theirs.items()
    }


def test_greedy_is_the_argmax(olmo: OLMo, ours: LM, tokenizer: Tokenizer) -> None:
    context = "A man is sitting on a roof. He"
    ids = tokenizer.encode(context).ids
    with torch.inference_mode():
        ranked = olmo(torch.tensor([ids])).logits[0, -1].argsort(descending=True).tolist()
    texts = {token: tokenizer.decode([token]) for token in ranked}
    clean = [token for token in ranked if tokenizer.encode(context + texts[token]).ids == [*ids, token]]
    asked = [
        Instance(request_type="loglikelihood", doc={}, arguments=(context, texts[token]), idx=0) for token in clean[:20]
    ]
    assert [greedy for _, greedy in ours.loglikelihood(asked)] == [token == ranked[0] for token in clean[:20]]


def test_an_empty_text_counts_nothing(ours: LM) -> None:
    request = Instance(request_type="loglikelihood_rolling", doc={}, arguments=("",), idx=0)
    assert ours.loglikelihood_rolling([request]) == [0.0]


def test_generation_is_refused(ours: LM) -> None:
    with pytest.raises(NotImplementedError, match="generates none: run generation tasks with lm-eval's own `hf` model"):
        ours.generate_until([])


def test_a_chat_template_is_refused_in_words(ours: LM) -> None:
    asked = (lambda: ours.chat_template(True), lambda: ours.apply_chat_template([]), lambda: ours.tokenizer_name)
    for ask in asked:
        with pytest.raises(Refusal, match=r"--apply_chat_template: .* have no chat template"):
            ask()
    assert ours.chat_template(False) is None


def test_the_command_line_knows_the_model(state: TrainingState, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from sweep.checkpoints import save_state
    from sweep.commands.harness_model import CheckpointLM

    assert get_model("sweep") is CheckpointLM
    state.model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
    state.optimizer.step()
    (tmp_path / "checkpoint").mkdir()
    save_state(tmp_path / "checkpoint", state)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = f"checkpoint={tmp_path / 'checkpoint'},tokenizer={tmp_path / 'tokenizer.json'}"
    loaded = CheckpointLM.create_from_arg_string(text, {"batch_size": 8, "device": "cuda:0"})
    assert loaded._max_length == state.config.model.max_sequence_length
    next((tmp_path / "checkpoint").glob("optim.*")).unlink()
    CheckpointLM.create_from_arg_string(text, {})  # weights are enough to score


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("checkpoint=nowhere", "refused: checkpoint=nowhere: nowhere is not an OLMo unsharded checkpoint"),
        ("checkpoint=nowhere,dtype=float16", "refused: model_args has dtype=float16; it takes checkpoint=FOLDER"),
        ("", "refused: model_args has no checkpoint"),
    ],
)
def test_the_command_line_refuses_in_words(given: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep.commands import harness
    from sweep.commands.harness_model import CheckpointLM

    monkeypatch.setattr(harness, "cli_evaluate", lambda: CheckpointLM.create_from_arg_string(given, {}))
    with pytest.raises(SystemExit, match=says):
        harness.main()
