"""The one kind of dataclass that choices are: frozen, keyword-only, no unknown field, no infinity."""

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

frozen = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
