"""The types of values that several choices share, and how every dataclass of choices is checked.

`domain.errors.explain` turns what they refuse into our words.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core.core_schema import CoreSchema, custom_error_schema

from sweep.domain.errors import one_of

CHOICES = ConfigDict(extra="forbid", allow_inf_nan=False)
"""For pydantic's `dataclass`: a group of choices takes no unknown field and no infinite number."""
MAX_LR = 0.1
"""No published pretraining of a language model with Adam comes near; a larger value is a slip of the exponent."""


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


Count = Annotated[int, Field(ge=1)]
SequenceLength = Annotated[int, Field(ge=2)]
"""Tokens; a model predicts the second token from the first."""
Fraction = Annotated[float, Field(ge=0, le=1), Message("must be between 0 and 1")]
LearningRate = Annotated[float, Field(gt=0, le=MAX_LR), Message(f"must be above 0 and at most {MAX_LR}")]
Beta = Annotated[float, Field(ge=0, lt=1, strict=True)]
Betas = Annotated[tuple[Beta, Beta], Message("must be two numbers from 0 to below 1, e.g. [0.9, 0.95]")]
"""Decay rates of Adam's two moments."""
PathText = Annotated[str, Field(min_length=1), Message("must be a path, or null")]
OneOrMorePaths = Annotated[tuple[str, ...], BeforeValidator(as_sequence)]
"""A single path may be given without brackets."""
Paths = Annotated[
    tuple[PathText, ...],
    Field(min_length=1),
    BeforeValidator(as_sequence),
    Message("must name files or folders, or be null"),
]
DocumentLimit = Annotated[
    int,
    Field(ge=2),
    Message("must be at least 2 (a standard error needs two documents), or null for all"),
]
