"""The checkpoint of a published model in the store: downloaded once for all jobs that share it, when first needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sweep.checkpoints import decayed, has_optimizer, import_folder, model_tree
from sweep.checkpoints.download import STEMS, OptimizerRefused, fetch_folder
from sweep.checkpoints.hub import snapshot
from sweep.config import Model, named_step
from sweep.config.published import Published, folder_of, from_hub
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.planning.pretraining_schedule import pretraining_lr, tokens_seen
from sweep.run.checkpoint_folder import MAIN, CheckpointChoice
from sweep.system.files import file_digest
from sweep.system.store import Store

KIND = "checkpoints"
WEIGHTS = ("config", "train", "model")
COMMIT = "hub_commit"
"""The file that names the commit of which a checkpoint of the Hub is."""
WEIGHT_FILES = (".json", ".safetensors", ".bin")


def published_checkpoint(store: Store, choice: CheckpointChoice) -> Path:
    """The folder of the chosen checkpoint, in ai2-olmo's format; Refusal if it can't be had."""
    published, step = _published(choice)
    if from_hub(published, choice.checkpoint.source):
        return _from_hub(store, choice.model, published, step, optimizer=choice.needs_optimizer)
    url = _url(published, step)
    title, needed = f"{choice.model.name} step {step}", choice.needs_optimizer
    try:
        folder = _downloaded(store, url, digest("checkpoint", url), title, STEMS, optimizer=needed)
    except OptimizerRefused:
        return published_weights(store, choice, step)
    if needed and not has_optimizer(folder):  # downloaded when it wasn't needed, and the server may have it by now
        return _downloaded(store, url, digest("checkpoint", url, "optimizer"), title, STEMS, optimizer=True)
    return folder


def published_weights(store: Store, choice: CheckpointChoice, step: int) -> Path:
    """The folder of another checkpoint of the same model, with its weights at least.

    The whole checkpoint where the store has it already.
    """
    published, _ = _published(choice)
    if from_hub(published, choice.checkpoint.source):
        return _from_hub(store, choice.model, published, step)
    url = _url(published, step)
    if (whole := store.get(KIND, digest("checkpoint", url))) is not None:
        return whole
    title = f"{choice.model.name} step {step}: weights"
    return _downloaded(store, url, digest("weights", url), title, WEIGHTS, optimizer=False)


def address(choice: CheckpointChoice, folder: Path) -> str:
    """The web address of the chosen checkpoint, which is in this folder: on the Hub, that of its commit."""
    if choice.model.source == "hub":
        repository, revision = f"https://huggingface.co/{choice.checkpoint.repo}", choice.checkpoint.revision or MAIN
    else:
        published, step = _published(choice)
        if not from_hub(published, choice.checkpoint.source):
            return _url(published, step)
        assert published.revision
        repository, revision = f"https://huggingface.co/{published.hub}", published.revision.format(step=step)
    if (folder / COMMIT).is_file():
        return f"{repository}/tree/{(folder / COMMIT).read_text()}"
    return repository if "*" in revision else f"{repository}/tree/{revision}"  # of a release that kept no commit


def _published(choice: CheckpointChoice) -> tuple[Published, int]:
    published, step = choice.model.published, choice.checkpoint.step
    assert published and step
    return published, step


def _url(published: Published, step: int) -> str:
    assert published.http
    return published.http.format(folder=folder_of(published, step), step=step)


def _downloaded(store: Store, url: str, key: str, title: str, stems: tuple[str, ...], *, optimizer: bool) -> Path:
    parts = store.path(KIND, f".{key}.download")

    def build(into: Path) -> None:
        fetch_folder(url, into, parts, title=title, stems=stems, optimizer=optimizer)

    folder = store.make(KIND, key, build)
    shutil.rmtree(parts, ignore_errors=True)
    return folder


def _from_hub(store: Store, model: Model, published: Published, step: int, *, optimizer: bool = False) -> Path:
    """A revision as an OLMo checkpoint, its optimizer if that is asked for; how it was trained its option says."""
    assert published.hub and published.revision
    tokens = tokens_seen(model, step)
    if tokens is None:
        raise Refusal("model.batch_size=null: what the Hub doesn't tell of a training must be given")
    repository, revision = published.hub, published.revision.format(step=step)
    training, state = training_tree(model, step), published.hub_optimizer if optimizer else None

    def build(into: Path) -> None:
        found, place = snapshot(repository, revision, state), f"{repository}@{revision}"
        told = training
        if state is not None:
            shutil.copyfile(found / state, into / "optim.pt")
            try:
                told = {**training, "optimizer": {**training["optimizer"], **decayed(into)}}
            except ValueError as error:
                raise Refusal(f"{place}: {state} is no optimizer state: {error}") from error
        _import(found, into, place, told, step, tokens)
        (into / COMMIT).write_text(found.name)  # a folder of the Hub's cache is named by its commit

    named = (repository, revision, training, tokens, *([state] if state else []))
    return store.make(KIND, digest("hub", *named), build)


def imported_checkpoint(store: Store, choice: CheckpointChoice) -> Path:
    """A folder on disk in a layout of the Hub, converted to an OLMo checkpoint without optimizer.

    Such a folder doesn't say at which step it is nor how it was trained: step and batch size are chosen, and AdamW is
    that of OLMo 2's configurations.
    """
    path, step, batch_size = Path(choice.checkpoint.path or ""), choice.checkpoint.step, choice.model.batch_size
    if step is None or batch_size is None:
        raise Refusal(
            f"checkpoint.step={step}, model.batch_size={batch_size}: {path} is in a layout of the Hub, which says "
            "neither: give both"
        )
    tokenizer = str((path / "tokenizer.json").absolute())
    training = _unsaid_training(path.name, choice.dtype, tokenizer, batch_size)
    try:
        length = model_tree(path)["model"]["max_sequence_length"]
    except (ValueError, KeyError) as error:
        raise Refusal(f"checkpoint.path={path}: config.json is not one of a model that is read: {error}") from error
    content = {file.name: file_digest(file) for file in sorted(path.iterdir()) if file.suffix in WEIGHT_FILES}
    tokens = step * batch_size * length
    return store.make(
        KIND,
        digest("hub folder", content, training, step),
        lambda into: _import(path, into, f"checkpoint.path={path}", training, step, tokens),
    )


def hub_checkpoint(store: Store, choice: CheckpointChoice) -> Path:
    """A revision of any repository on the Hub as a checkpoint without optimizer, with its tokenizer beside it.

    What a Hub folder doesn't say of its training is as for `imported_checkpoint`; the step may be in the name.
    """
    repo, revision, batch_size = choice.checkpoint.repo, choice.checkpoint.revision or MAIN, choice.model.batch_size
    step = choice.checkpoint.step or named_step(revision)
    assert repo and step and batch_size
    key = digest("hub repository", repo, revision, step, batch_size, choice.dtype)
    tokenizer = f"store://{KIND}/{key}/tokenizer.json"
    training = _unsaid_training(repo.rpartition("/")[2], choice.dtype, tokenizer, batch_size)

    def build(into: Path) -> None:
        found = snapshot(repo, revision)
        try:
            length = model_tree(found)["model"]["max_sequence_length"]
        except (OSError, ValueError) as error:
            raise Refusal(f"{choice.key_and_value}: {error}") from error
        _import(found, into, choice.key_and_value, training, step, step * batch_size * length)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            if (found / name).is_file():
                shutil.copyfile(found / name, into / name)
        (into / COMMIT).write_text(found.name)  # a folder of the Hub's cache is named by its commit

    return store.make(KIND, key, build)


def _unsaid_training(name: str, dtype: str | None, tokenizer: str, batch_size: int) -> dict[str, Any]:
    """What a folder in a layout of the Hub doesn't say of its training, as ai2-olmo's `TrainConfig` without `model`."""
    return {
        "run_name": name,
        "optimizer": {"name": "adamw", "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1},
        "data": {"memmap_dtype": dtype or "uint16"},
        "tokenizer": {"identifier": tokenizer},
        "global_train_batch_size": batch_size,
        "max_grad_norm": 1.0,
        "precision": "fp32",
    }


def _import(found: Path, into: Path, place: str, training: dict[str, Any], step: int, tokens: int) -> None:
    try:
        import_folder(found, into, training=training, step=step, tokens=tokens)
    except (FileNotFoundError, ValueError) as error:
        raise Refusal(f"{place}: {error}") from error


def training_tree(model: Model, step: int) -> dict[str, Any]:
    """What a revision on the Hub doesn't tell of its training, as ai2-olmo's `TrainConfig` without `model`."""
    published = model.published
    assert published and model.batch_size
    optimizer, scheduler, lr = published.optimizer, published.scheduler, pretraining_lr(model, step)
    tree: dict[str, Any] = {
        "run_name": model.name,
        "seed": published.data_seed,
        "optimizer": {
            "name": "adamw",
            "betas": list(optimizer.betas),
            "eps": optimizer.eps,
            "weight_decay": optimizer.weight_decay,
            "decay_norm_and_bias": optimizer.decay_norm_and_bias,
            "decay_embeddings": optimizer.decay_embeddings,
        },
        "data": {"memmap_dtype": published.data_dtype, "instance_filter": published.instance_filter},
        "tokenizer": {"identifier": published.tokenizer},
        "global_train_batch_size": model.batch_size,
        "max_grad_norm": optimizer.max_grad_norm,
        "precision": "fp32",
    }
    if lr is not None:
        tree["optimizer"]["learning_rate"] = scheduler.peak_lr if scheduler else lr
    if scheduler is not None:
        named = ("name", "units", "t_warmup", "t_max", "alpha_f", "warmup_min_lr")
        tree["scheduler"] = {name: getattr(scheduler, name) for name in named}
    if published.z_loss is not None:
        tree |= {"softmax_auxiliary_loss": True, "auxiliary_loss_multiplier": published.z_loss}
    return tree
