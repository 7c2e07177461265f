"""What is checked of a composed configuration before Hydra writes anything: no secrets, and Hydra's own settings.

Launcher and sweeper may be changed, by their types, and nothing that places runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from sweep.config.launcher import check_settings
from sweep.domain.errors import Refusal, shown
from sweep.domain.redaction import secret_refused
from sweep.planning.commands import key_of

FIXED: Mapping[str, Mapping[str, Any]] = {
    "run": {"dir": "multirun/${name}/${point:}"},
    "sweep": {"dir": "multirun/${name}", "subdir": "${point:}"},
    "job": {"name": "sweep", "chdir": False, "env_set": {}, "env_copy": []},
}
"""Group of `hydra` -> its settings as conf/config.yaml has them: every command finds runs by these."""


def check_hydra(config: DictConfig) -> None:
    """Refusal if a setting of Hydra's is not for changing or has no allowed value, or if anything holds a secret."""
    _check_secrets(config)
    for group, fixed in FIXED.items():
        given = _plain(config.hydra.get(group), resolve=False)
        for name, value in fixed.items():
            if name not in given or given[name] != value:
                raise _not_for_changing(f"hydra.{group}.{name}={given.get(name)}")
    for word in words_of(config, "hydra"):
        check_key(word)
    for name in ("launcher", "sweeper"):
        if not isinstance(config.hydra.get(name), DictConfig):
            raise Refusal(f"hydra.{name}={shown(config.hydra.get(name))}: give hydra/{name}=OPTION")
    check_settings(_plain(config.hydra.launcher), _plain(config.hydra.sweeper))


def _check_secrets(config: DictConfig) -> None:
    """Refusal that names the key of a password or token; `config.load` looks again, at resolved interpolations."""
    choices = _plain(config, resolve=False)
    settings = dict(choices.pop("hydra"))
    overrides = settings.pop("overrides")  # they say the same again, without the whole key
    if words := secret_refused({**choices, "hydra": settings, "overrides": overrides}):
        raise Refusal(words)


def words_of(config: DictConfig, kind: str) -> list[str]:
    """The overrides that were typed: of `task` or of `hydra`. As choices, their interpolations would be resolved."""
    return [
        str(word) for word in cast("list[Any]", OmegaConf.to_container(config.hydra.overrides[kind], resolve=False))
    ]


def check_key(word: str) -> None:
    """Refusal if an override sets what places runs."""
    key = key_of(word)
    if any(key == f"hydra.{group}" or key.startswith(f"hydra.{group}.") for group in FIXED):
        raise _not_for_changing(word)


def _not_for_changing(word: str) -> Refusal:
    return Refusal(
        f"{shown(word)}: not for changing, because every command finds a run at multirun/NAME/RUN: "
        "name=… and the working folder choose its place"
    )


def _plain(node: Any, *, resolve: bool = True) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=resolve) if OmegaConf.is_config(node) else {}
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}
