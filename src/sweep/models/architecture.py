"""What is asked of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from olmo.config import TrainConfig
from torch import Tensor, nn


class Architecture(Protocol):
    """A kind of model in its sizes: it makes models without weights, and knows the parts of those it made."""

    def empty(self, device: torch.device) -> Any:
        """A model with parameters that are not set. On the device "meta" it has only shapes."""

    def drawn(self) -> Any:
        """A model on the CPU whose parameters are drawn by torch's generator, as before a training."""

    def compatible(self, model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights under the names of `weights(model)`: other releases and other files name some otherwise."""

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Name -> tensor of all that a checkpoint holds of a model; a tensor with two names is there once."""

    def load(self, model: nn.Module, weights: dict[str, Tensor], *, assign: bool = False) -> None:
        """Copy `weights`, which are `compatible`, into the model; with `assign` they become its parameters."""

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """The layers that are sharded, compiled and recomputed one by one, lowest first."""

    def checkpoint_activations(self, model: nn.Module) -> None:
        """Let the model keep only the input of each block for the backward pass. Changes the model in place."""

    def retie(self, model: nn.Module) -> None:
        """Make one parameter again of two that are tied, after the model has moved to the device "meta"."""

    def parameter_groups(self, model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
        """The parameters as groups for an optimizer, with their names: what decays, and what doesn't."""

    def matrix_parameters(self) -> int:
        """Parameters that multiply activations: all matrices but the embedding, and the head, tied or not."""

    def identity(self) -> Mapping[str, Any]:
        """What decides the numbers of a model besides its weights and `TrainConfig.model`; empty if nothing does."""

    def check_annealable(self) -> None:
        """Refusal, naming what can't be followed, if an anneal would not be the model's own training."""
