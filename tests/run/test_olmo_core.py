"""An anneal from a step folder of OLMo-core is the one that OLMo-core itself makes, update by update."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sweep.checkpoints import export_folder, load_model
from sweep.checkpoints.huggingface import from_native
from sweep.domain.records import StepRecord
from sweep.domain.text_rules import TextRules
from sweep.run.anneal import Annealed, anneal
from sweep.run.memory import Memory
from sweep.run.prefix import Training
from sweep.run.prepare import Prepared, prepare
from sweep.system.ranks import ALONE, Ranks
from sweep.system.store import Store
from tests.composing import composed
from tests.skips import NO_OLMO_CORE
from tests.system.test_ranks import together

SHARED = Path(os.environ.get("OLMO_CORE_FIXTURES", Path(__file__).parents[3] / "shared" / "olmo_core"))
HERE = Path(__file__).parent / "olmo_core"
"""A step folder that OLMo-core 1.8.0 wrote, and its anneal by 3.0.0: chunks of two instances, and a step count that was
never increased."""
needs_fixtures = pytest.mark.skipif(not SHARED.is_dir(), reason=NO_OLMO_CORE)
SHARED_ANNEALS = [
    ("fixtures/olmo2/step200", "fixtures/olmo2/anneal.csv"),
    ("fixtures/olmo3/step200", "fixtures/olmo3/anneal.csv"),
    ("fixtures/olmo3/step200-fsdp2", "fixtures/olmo3/anneal.csv"),
]
FINAL = {
    "fixtures/olmo2/step200": "fixtures/olmo2/anneal-step250-hf",
    "fixtures/olmo3/step200": "fixtures/olmo3/anneal-step250-hf",
    "legacy/1.8.0/step100": "legacy/1.8.0/anneal-step130-hf",
}


def prepared(
    store: Store, folder: Path, data: Path, steps: int, *overrides: str, ranks: Ranks = ALONE
) -> tuple[Prepared, Training]:
    config = composed(
        "model=local",
        f"checkpoint.path={folder}",
        f"data.paths=[{data}/part-*.npy]",
        f"data.tokenizer={data}/tokenizer/tokenizer.json",
        f"anneal.steps={steps}",
        *(overrides or ["anneal=olmo-core"]),
    )
    found = prepare(store, config, "run", ranks, Memory())
    assert isinstance(found.work, Training)
    return found, found.work


def annealed(store: Store, folder: Path, data: Path, steps: int, *overrides: str) -> tuple[Annealed, Training]:
    found, training = prepared(store, folder, data, steps, *overrides)
    return anneal(store, found), training


def on_two_ranks(ranks: Ranks, root: Path, folder: Path, data: Path, steps: int) -> list[StepRecord]:
    store = Store(root)
    return [*anneal(store, prepared(store, folder, data, steps, ranks=ranks)[0]).steps]


def check_equal(steps: tuple[StepRecord, ...], training: Training, noted: list[dict[str, str]]) -> None:
    rate = max(key for key in noted[0] if key.startswith("lr_group"))
    assert [step.lr for step in steps] == [float(row[rate]) for row in noted]
    assert [step.skipped for step in steps] == [bool(float(row["step_skipped"] or 0)) for row in noted]
    read = training.data.indices(len(noted))[: len(noted)]
    assert [" ".join(map(str, batch)) for batch in read] == [row["indices"] for row in noted]
    assert [step.loss for step in steps] == pytest.approx([float(row["ce_loss"]) for row in noted], abs=1e-6, rel=0)
    norms = [float(row["grad_norm"]) for row in noted]
    assert [step.grad_norm for step in steps] == pytest.approx(norms, abs=5e-6, rel=0)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_an_interrupted_anneal_is_olmo_cores_update_by_update(store: Store) -> None:
    noted = rows(HERE / "anneal.csv")
    choices = ("anneal=olmo-core", "anneal.save_interval=10")
    found, _ = prepared(store, HERE / "step100", HERE / "data", len(noted), *choices)

    def interrupt(record: StepRecord) -> None:
        if record.update == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        anneal(store, found, on_step=interrupt)
    done, training = annealed(store, HERE / "step100", HERE / "data", len(noted), *choices)
    assert done.updates_done == len(noted) - 10
    check_equal(done.steps, training, noted)


@needs_fixtures
@pytest.mark.slow
def test_a_checkpoint_of_two_ranks_goes_on_on_two(tmp_path: Path) -> None:
    noted = rows(SHARED / "fixtures/olmo3/anneal.csv")
    folder, data = SHARED / "fixtures/olmo3/step200-fsdp2", SHARED / "fixtures/data/main"
    first, second = together(2, on_two_ranks, tmp_path / "store", folder, data, len(noted))
    assert not isinstance(first, BaseException), first
    assert [step.loss for step in first] == [step.loss for step in second]
    assert [step.loss for step in first] == pytest.approx([float(row["ce_loss"]) for row in noted], abs=5e-6, rel=0)


@needs_fixtures
@pytest.mark.slow
@pytest.mark.parametrize(("folder", "reference"), SHARED_ANNEALS)
def test_every_fixture_is_annealed_as_by_olmo_core(store: Store, folder: str, reference: str, tmp_path: Path) -> None:
    noted = rows(SHARED / reference)
    done, training = annealed(store, SHARED / folder, SHARED / "fixtures/data/main", len(noted))
    check_equal(done.steps, training, noted)
    if folder in FINAL:
        check_export(done, SHARED / "fixtures/data/main/tokenizer/tokenizer.json", tmp_path / "out")
        model = load_model(done.checkpoint.folder, done.checkpoint.config, device=torch.device("cpu"))
        exported = load_file(SHARED / FINAL[folder] / "model.safetensors")
        for name, tensor in from_native(exported, done.checkpoint.config.model).items():
            ours = model.state_dict()[name][: len(tensor)]  # the export lacks the rows that pad the vocabulary
            torch.testing.assert_close(ours, tensor, atol=1e-5, rtol=0)


@needs_fixtures
@pytest.mark.slow
def test_mid_training_reads_a_mix_from_its_start_as_olmo_core_does(store: Store) -> None:
    noted = rows(SHARED / "fixtures/olmo2/midtrain.csv")
    choices = ("anneal=midtrain", "data.position=start", "seed=1")
    folder, data = SHARED / "fixtures/olmo2/step200", SHARED / "fixtures/data/main"
    done, training = annealed(store, folder, data, len(noted), *choices)
    check_equal(done.steps, training, noted)


@torch.inference_mode()
def check_export(done: Annealed, tokenizer: Path, out: Path) -> None:
    folder, config = done.checkpoint.folder, done.checkpoint.config
    export_folder(folder, config, out, tokenizer=tokenizer, rules=TextRules(eos_token_id=0))
    ids = torch.arange(2 * 100).view(2, 100)
    ours = load_model(folder, config, device=torch.device("cpu"))(ids).logits
    torch.testing.assert_close(AutoModelForCausalLM.from_pretrained(out)(ids).logits, ours, atol=1e-5, rtol=0)
