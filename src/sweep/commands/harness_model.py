"""A checkpoint as a model of lm-eval's own command line and of its Python functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lm_eval.api.registry import register_model
from tokenizers import Tokenizer

from sweep.checkpoints import load_model, read_config
from sweep.domain.errors import Refusal
from sweep.evaluate.lm_eval_model import OLMoLM
from sweep.run.text_rules import model_tokenizer
from sweep.sweeps.run_folders import MULTIRUN
from sweep.system.store import store_at


@register_model("sweep")
class CheckpointLM(OLMoLM):
    """An OLMo unsharded checkpoint folder. `tokenizer` is a tokenizer.json; None: the one that its config names."""

    def __init__(
        self,
        checkpoint: str | None = None,
        tokenizer: str | None = None,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        if unknown or checkpoint is None:
            given = ", ".join(f"{name}={value}" for name, value in unknown.items()) or "no checkpoint"
            raise Refusal(f"model_args has {given}; it takes checkpoint=FOLDER and, if wanted, tokenizer=FILE")
        folder = Path(checkpoint)
        try:
            config = read_config(folder, optimizer=False)
        except (FileNotFoundError, ValueError) as error:
            raise Refusal(f"checkpoint={checkpoint}: {error}") from error
        words = model_tokenizer(
            store_at(MULTIRUN),
            tokenizer or config.tokenizer.identifier,
            config.model,
            key=f"tokenizer={tokenizer} (model_args tokenizer=FILE, a tokenizer.json)",
        )
        if not torch.cuda.is_available():  # lm-eval's default is cuda:0
            device = "cpu"
        super().__init__(
            load_model(folder, config, device=torch.device(device or "cuda")).eval(),
            Tokenizer.from_file(str(words.file)),
            rules=words.rules,
            max_length=config.model.max_sequence_length,
        )
