"""`python -m sweep.harness ARGUMENTS`: lm-eval's own command line with one more model, `sweep`.

python -m sweep.harness --model sweep --model_args checkpoint=FOLDER,tokenizer=FILE --tasks arc_easy
"""

from __future__ import annotations

from pathlib import Path

import torch
from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import register_model
from tokenizers import Tokenizer

from sweep.checkpoints import load_model, read_config
from sweep.evaluate.lm import OLMoLM
from sweep.refusal import Refusal
from sweep.store import store_at
from sweep.trajectory import resolve


@register_model("sweep")
class CheckpointLM(OLMoLM):
    """An OLMo unsharded checkpoint folder; `tokenizer` is a `tokenizer.json`, by default the one its config names."""

    def __init__(
        self,
        checkpoint: str,
        tokenizer: str | None = None,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        folder = Path(checkpoint)
        config = read_config(folder)
        file = Path(tokenizer) if tokenizer else resolve(store_at(Path("multirun")), config.tokenizer.identifier)
        if not file.is_file():
            raise Refusal(f"tokenizer={file} is not a file; give model_args tokenizer=FILE, a tokenizer.json")
        if not torch.cuda.is_available():  # lm-eval says cuda:0 where nobody chose
            device = "cpu"
        super().__init__(
            load_model(folder, config, device=torch.device(device or "cuda")).eval(),
            Tokenizer.from_file(str(file)),
            eos_token_id=config.model.eos_token_id,
            max_length=config.model.max_sequence_length,
        )


if __name__ == "__main__":
    cli_evaluate()
