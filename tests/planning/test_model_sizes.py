"""What an option states of a model's sizes adds up to its parameters."""

from __future__ import annotations

import pytest
from olmo.model import OLMo

from sweep.commands.main import CONF
from sweep.config import Model
from sweep.models import OlmoArchitecture
from sweep.planning.model_sizes import Sizes, stated_sizes
from sweep.run.embedded import embedded_config
from tests.composing import composed

PUBLISHED = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if "published:" in path.read_text())


def stated(model: Model) -> Sizes:
    found = stated_sizes(model)
    assert found is not None
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_models_sizes_make_its_parameters(name: str) -> None:
    model = composed(f"model={name}", "anneal.optimizer=fresh", "anneal.warmup_steps=1", "anneal.peak_lr=1e-4").model
    sizes = stated(model)
    assert model.parameters is not None
    norms = 0 if name.startswith("olmo-") else 2 if name.startswith("datadecide") else 4
    weights = sizes.d_model * (norms * sizes.num_layers + bool(norms))
    assert sizes.parameters + weights == model.parameters, (
        f"{norms} norms a block and a last one, to the last parameter"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("model=tiny-m",),
        ("model=tiny-s", "model.architecture.d_model=32", "+model.architecture.n_kv_heads=1"),
        ("model=tiny-s", "+model.architecture.mlp_hidden_size=40", "+model.architecture.weight_tying=false"),
    ],
)
def test_an_embedded_models_sizes_are_those_of_the_model_that_is_made(words: tuple[str, ...]) -> None:
    model = composed(*words).model
    made, sizes = embedded_config(model).model, stated(model)
    assert sizes.parameters == sum(p.numel() for p in OLMo(made).parameters())
    assert sizes.matrix_parameters == OlmoArchitecture(made).matrix_parameters()
