"""A model's sizes as its option in conf/model states them; its cost is computed before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from sweep.config import Model


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of ai2-olmo's SwiGLU transformer; norms and biases, at most a thousandth of the parameters, are left out."""

    d_model: int
    num_layers: int
    kv_width: int
    """Width of the keys, and of the values; d_model where every head has its own."""
    hidden_size: int
    """Width of SwiGLU's input, which is twice the width of its output."""
    embedding_size: int
    """Rows of the embedding, with padding."""
    tied: bool
    """Whether the head is the embedding."""

    @property
    def block_parameters(self) -> int:
        """Parameters of one block's matrices."""
        return self.d_model * (2 * self.d_model + 2 * self.kv_width + 3 * self.hidden_size // 2)

    @property
    def matrix_parameters(self) -> int:
        """Parameters of the matrices that multiply activations: those of all blocks and of the head."""
        return self.num_layers * self.block_parameters + self.d_model * self.embedding_size

    @property
    def parameters(self) -> int:
        """All parameters but those of norms and biases."""
        return self.matrix_parameters + (0 if self.tied else self.d_model * self.embedding_size)


def stated_sizes(model: Model) -> Sizes | None:
    """The sizes that a model's option states; None if only its checkpoint has them."""
    stated = model.architecture
    if stated is None or model.vocab_size is None:
        return None
    width, heads = stated["d_model"], stated.get("n_heads", 1)
    return Sizes(
        d_model=width,
        num_layers=stated["n_layers"],
        kv_width=width // heads * stated.get("n_kv_heads", heads),
        hidden_size=stated.get("mlp_hidden_size", width * stated.get("mlp_ratio", 4)),
        embedding_size=stated.get("embedding_size", model.vocab_size),
        tied=stated.get("weight_tying", True),
    )
