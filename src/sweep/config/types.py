"""The types of values that several choices share, and how every dataclass of choices is checked.

Every leaf of the configuration has one of these types, or a type made of them: true and false are no numbers, a number
is no text, and nothing is larger or longer than what can be meant. `domain.errors.explain` turns what they refuse into
our words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, Strict
from pydantic_core.core_schema import CoreSchema, custom_error_schema

from sweep.domain.errors import one_of, shown

CHOICES = ConfigDict(extra="forbid", allow_inf_nan=False)
"""For pydantic's `dataclass`: a group of choices takes no unknown field and no infinite number."""
MAX_LR = 0.1
"""No published pretraining of a language model with Adam comes near; a larger value is a slip of the exponent."""
MAX_STEPS, MAX_TRAJECTORY = 1_000_000, 10_000_000
"""Updates of what is trained here; updates of a published training, of which the longest has 1,454,000."""
MAX_SEED = 2**63 - 1
"""What torch, NumPy and a cluster's scripts take alike."""
MAX_THREADS = 1024
"""No machine has more cores for one process, and PyTorch ends at some ten thousand threads."""
MAX_BATCH, MAX_LENGTH = 2**16, 2**20
"""Instances of an update; tokens of an instance."""
NAME_BYTES, PATH_BYTES = 255, 4095
"""What Linux takes for a name in a folder, and for a whole path."""
T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """Annotates a type: a refusal says these words in place of pydantic's."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The type's own schema, with our message."""
        return custom_error_schema(handler(source), custom_error_type="not_allowed", custom_error_message=self.words)


def among(allowed: Collection[str]) -> AfterValidator:
    """Annotates str: one of the allowed values; a refusal lists them and suggests the nearest."""
    return AfterValidator(lambda value: one_of(value, allowed))


def as_sequence(paths: Any) -> Any:
    """A single path as a sequence of one."""
    return (paths,) if isinstance(paths, str) else paths


def whole(value: Any) -> Any:
    """A number such as 1e3 as the whole number that it is; everything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain(text: str) -> str:
    """`text` itself; ValueError if a character of it is not seen, or changes how the others are read."""
    for character in text:
        kind = unicodedata.category(character)
        if kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and character not in JOINERS):
            raise ValueError(
                f"has the character U+{ord(character):04X}, which can't be seen: only plain text is allowed"
            )
    return text


JOINERS = "\u200c\u200d"
"""Invisible characters that some scripts can't be written without."""


def at_most_bytes(most: int) -> AfterValidator:
    """Annotates str: its UTF-8 has at most so many bytes."""

    def check(text: str) -> str:
        if (size := len(text.encode("utf-8", "surrogatepass"))) > most:
            raise ValueError(f"has {size} bytes: at most {most} are allowed")
        return text

    return AfterValidator(check)


def path_names(path: str) -> str:
    """`path` itself; ValueError if a file system takes no such name. Addresses have no such limit."""
    longest = max(len(name.encode("utf-8", "surrogatepass")) for name in path.split("/"))
    if "://" not in path and longest > NAME_BYTES:
        raise ValueError(f"has a name of {longest} bytes in it: at most {NAME_BYTES} are allowed")
    return path


def each_once(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values; ValueError if one comes twice."""
    if again := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"has {shown(again[0])} twice: each is allowed once")
    return values


Flag = Annotated[bool, Strict()]
Number = Annotated[float, Strict()]
Whole = Annotated[int, Strict(), BeforeValidator(whole)]
Count = Annotated[Whole, Field(ge=1, le=10**9)]
Seed = Annotated[Whole, Field(ge=0, le=MAX_SEED)]
Steps = Annotated[Whole, Field(ge=0, le=MAX_STEPS)]
TrajectoryStep = Annotated[Whole, Field(ge=1, le=MAX_TRAJECTORY)]
BatchSize = Annotated[Whole, Field(ge=1, le=MAX_BATCH)]
SequenceLength = Annotated[Whole, Field(ge=2, le=MAX_LENGTH)]
"""Tokens; a model predicts the second token from the first."""
Fraction = Annotated[Number, Field(ge=0, le=1), Message("must be between 0 and 1")]
LearningRate = Annotated[Number, Field(gt=0, le=MAX_LR), Message(f"must be above 0 and at most {MAX_LR}")]
Factor = Annotated[Number, Field(ge=0, le=1000)]
"""On a term of the objective or of an update."""
Above0 = Annotated[Number, Field(gt=0, le=10**6)]
Beta = Annotated[Number, Field(ge=0, lt=1)]
Betas = Annotated[tuple[Beta, Beta], Message("must be two numbers from 0 to below 1, e.g. [0.9, 0.95]")]
"""Decay rates of Adam's two moments."""
Text = Annotated[str, Strict(), Field(min_length=1), AfterValidator(plain), at_most_bytes(PATH_BYTES)]
Name = Annotated[Text, at_most_bytes(NAME_BYTES)]
PathText = Annotated[Text, AfterValidator(path_names)]
Paths = Annotated[tuple[PathText, ...], BeforeValidator(as_sequence), Field(min_length=1), AfterValidator(each_once)]
"""A single path may be given without brackets."""
DocumentLimit = Annotated[
    Whole,
    Field(ge=2, le=10**9),
    Message("must be at least 2 (a standard error needs two documents), or null for all"),
]
