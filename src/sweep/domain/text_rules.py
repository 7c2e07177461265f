"""What stands around a text in a model's tokens: decided once for data, scoring, lm-eval's harness and export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweep.domain.cache_versions import TEXT_RULES


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """The special tokens of a model's texts."""

    eos_token_id: int
    """Follows each document of training data."""
    bos_token_id: int | None = None
    """The beginning of a text; None: the tokenizer names none."""
    before: tuple[int, ...] = ()
    """What the tokenizer itself puts before each text; often the beginning, or nothing."""
    after: tuple[int, ...] = ()
    """What the tokenizer itself puts after each text; mostly nothing."""
    prefix_text: str | None = None
    """How the prefix token is spelt. As in lm-eval, a text that begins with it gets nothing before and after."""

    @property
    def prefix_token_id(self) -> int:
        """The condition of text without context, as lm-eval's HFLM has it: bos where there is one, else eos."""
        return self.eos_token_id if self.bos_token_id is None else self.bos_token_id

    @property
    def plain(self) -> bool:
        """Whether eos is the only special token that is ever added, as with OLMo's tokenizers."""
        return not self.before and not self.after and self.prefix_token_id == self.eos_token_id

    @property
    def more_in_keys(self) -> list[Any]:
        """What the keys of tokens have besides eos; nothing for plain rules, so that entries of before stay valid."""
        around = [self.before, self.after, self.prefix_token_id, self.prefix_text]
        return [] if self.plain else [["text rules", TEXT_RULES, *around]]

    def surrounds(self, text: str) -> bool:
        """Whether `before` and `after` stand around this text."""
        return bool(self.before or self.after) and not (self.prefix_text and text.startswith(self.prefix_text))

    def document(self, text: str, ids: list[int]) -> list[int]:
        """The tokens of a document of training data; one eos ends it."""
        whole = [*self.before, *ids, *self.after] if self.surrounds(text) else ids
        return whole if whole[-1:] == [self.eos_token_id] and self.after else [*whole, self.eos_token_id]
