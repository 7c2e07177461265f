"""Every command that is recorded, suggested or shown composes to the run that it is about."""

from __future__ import annotations

import copy
import functools
import random
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from sweep.analysis.answers import answer
from sweep.analysis.factors import varying_axes
from sweep.analysis.findings import next_commands, suggested_words
from sweep.commands import preview
from sweep.commands.main import CONF
from sweep.config import params
from sweep.planning.commands import command, override, words_of
from sweep.planning.names import run_key
from sweep.sweeps import points
from sweep.sweeps.hydra_private import apply_overrides, loader_of
from sweep.sweeps.outcome_table import read_outcomes
from sweep.sweeps.outcomes import frame
from sweep.sweeps.paired_documents import paired_documents
from sweep.sweeps.points import typed
from sweep.sweeps.repeating import options_of, overrides_of, plain, repeating
from tests.composing import composed
from tests.journals import write_run

SIGNS = (*"ab1 0'\"\\,=:{}[]()$#~@!%^&*;|<>?/.-+\n\té漢\u00a0🙂", "${", "\\${", "\\'", "null", "${oc.env:HOME}", "\\\\")
KEYS = "abc_1-.:,= /"
MODELS = ("tiny-s", "tiny-m")
LOOK_ALIKE = ("null", "NULL", "1", "-1", "1e3", "true", "No", "", "inf", "nan", "~", "01", "0x1", "1_000", "a=b", "a,b")


@pytest.fixture(autouse=True)
def _files_need_not_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "check_files", lambda *choices: None)


@functools.cache
def tree(words: tuple[str, ...]) -> DictConfig:
    """What Hydra composes."""
    return loader_of(CONF).load_configuration("config", list(words), run_mode=RunMode.RUN)


def text(rng: random.Random) -> str:
    """Any text but OmegaConf's own sign of a missing value, which no configuration can hold."""
    drawn = "".join(rng.choice(SIGNS) for _ in range(rng.randrange(8)))
    return rng.choice(LOOK_ALIKE) if drawn == "???" or rng.random() < 0.2 else drawn


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any value that YAML has."""
    kind = rng.randrange(8 if depth < 2 else 6)
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == 7:
        return {"".join(rng.choices(KEYS, k=3)): value(rng, depth + 1) for _ in range(rng.randrange(3))}
    number = rng.random() * 10 ** rng.randrange(-20, 20)
    return (None, rng.random() < 0.5, rng.randrange(-(10**6), 10**6), number, text(rng), text(rng))[kind]


def leaves(tree: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all values that are no mapping."""
    return [
        path
        for key, below in tree.items()
        for path in (leaves(below, (*above, key)) if isinstance(below, dict) and below else [(*above, key)])
    ]


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are equal, and of equal types all the way down; null in a mapping is absent."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same(one.get(key), other.get(key)) for key in {*one, *other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def applied(words: list[str], base: DictConfig) -> DictConfig:
    """What Hydra makes of the default with these overrides."""
    changed = copy.deepcopy(base)
    apply_overrides(OverridesParser.create().parse_overrides(words), changed)
    return changed


@pytest.mark.parametrize("seed", range(10))
def test_any_values_of_any_leaves_are_written_as_overrides_and_read_back(seed: int) -> None:
    rng, base = random.Random(seed), tree(())
    for _ in range(8):
        chosen = plain(base)
        for path in rng.sample(leaves(chosen), 6):
            *above, last = path
            at = chosen
            for name in above:
                at = at[name]
            if rng.random() < 0.2:
                del at[last]
            at[last if rng.random() < 0.8 else f"{last}_too"] = value(rng)
        words = words_of(command(overrides_of(base, chosen)))
        found = plain(applied(words, base))
        assert same(found, chosen), words


def recorded(*words: str, searched: Path | None = None) -> tuple[str, str]:
    """The command that a run of these words records, and the run's key."""
    path = [] if searched is None else [f"hydra.searchpath=[file://{searched}]"]
    chosen = tree((*path, *words))
    return command(repeating(chosen, options_of(chosen.hydra), CONF)), run_key(typed(chosen))


def keys(text: str) -> list[str]:
    """The keys of the runs that a command starts; a sweep is composed as the preview composes it."""
    words = words_of(text)
    return [run_key(config) for config in (preview.points(words) if " -m " in text[9:] else [composed(*words)])]


OWN: dict[str, Any] = {
    "name": "wide",
    "checkpoint": {"step": 500},
    "anneal": {"steps": 3, "optimizer": "fresh", "warmup_steps": 1, "peak_lr": 1e-3, "betas": [0.8, 0.95]},
    "tasks": {"limit": 20, "suites": {"core8": {"metrics": {"piqa": "acc_norm"}}}},
    "data": {"sources": {"math": {"paths": ["/my files/a,b='ü' ${x}.npy".replace("${x}", "x")], "weight": 0.3}}},
}


def test_an_experiments_run_is_repeated_whole_when_its_file_is_gone(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "wide.yaml"
    defaults = {"defaults": [{"override /model": "tiny-m"}, {"override /tasks": ["core8", "mmlu"]}]}
    file.write_text(f"# @package _global_\n{yaml.safe_dump(defaults | OWN)}")
    text, key = recorded("experiment=wide", "tracking=none", searched=tmp_path)
    file.unlink()
    assert keys(text) == [key]
    assert {"model=tiny-m", "name=wide", "tracking=none"} <= set(words_of(text))
    assert "experiment" not in text


def test_an_option_of_the_users_own_is_repeated_when_its_file_is_gone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "mine.yaml"
    file.write_text((CONF / "model" / "tiny-s.yaml").read_text().replace("name: tiny-s", "name: mine"))
    text, key = recorded("model=mine", "model.architecture.d_model=32", "anneal.steps=7", searched=tmp_path)
    file.unlink()
    assert keys(text) == [key]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("anneal.steps=3", "seed=2"),
        ("anneal=olmo1", "model=olmo-7b", "checkpoint.step=556000"),
        ("anneal=merge", "anneal.merge.last=3"),
        ("anneal=none", "tasks=loss", "model=tiny-l"),
        ("data=mixture", "+data.sources.math={paths: ['/a b/*.npy'], weight: 0.3}"),
        ("data=mixture", "+data.sources.math={paths: [a.npy], weight: 1}", "~data.sources.original"),
        ("data=local", "data.paths=['/a b.npy','c,d.npy']"),
        ("tasks=custom", "+tasks.suites.custom.metrics={a\\:b: acc}"),
        ("model=datadecide-150m", "model.published.recipe=c4", "anneal=none"),
        ("tasks=[core8,mmlu]", "anneal.steps=9"),
        ("experiment=shape", "anneal.shape=sqrt"),
        ("anneal.betas=[0.8,0.95]", "model.pretraining.peak_lr=2e-3"),
    ],
    ids=" ".join,
)
def test_a_recorded_command_repeats_its_run(words: tuple[str, ...]) -> None:
    text, key = recorded(*words)
    assert keys(text) == [key], text


def runs_of(folder: Path, words_of_runs: list[tuple[str, ...]], gains: list[float]) -> list[tuple[str, str]]:
    """The suggestions of a report on these runs."""
    for words, gain in zip(words_of_runs, gains, strict=True):
        chosen = tree((*words, "tasks=loss", "tracking=none", f"name={folder.name}"))
        text = command(repeating(chosen, {"tasks": "loss", "tracking": "none", "model": _model(words)}, CONF))
        write_run(folder, gain=gain, command=text, **params(typed(chosen)))
    outcomes = read_outcomes([folder])
    names = [name.removeprefix("params/") for name in outcomes.column_names if name.startswith("params/")]
    return next_commands(answer(frame(outcomes), names, paired_documents))


def _model(words: tuple[str, ...]) -> str:
    return next((word.removeprefix("model=") for word in words if word.startswith("model=")), "tiny-s")


def test_the_reports_suggestions_compose_to_the_runs_they_speak_of(tmp_path: Path) -> None:
    checkpoint = tmp_path / "a 'b' é,{c}" / "step500-unsharded"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.yaml").touch()
    base = ("model=local", override("checkpoint.path", str(checkpoint)), "checkpoint.step=500")
    levels = ("anneal.betas=[0.9,0.99]", "anneal.betas=[0.8,0.95]")
    points = [(*base, f"anneal.steps={steps}", betas) for steps in (10, 20, 40) for betas in levels]
    suggested = runs_of(tmp_path / "lists", points, [0.1, 0.2, 0.3, 0.4, 0.5, 0.7])
    assert suggested
    (noise,) = [text for why, text in suggested if "noise between seeds" in why]
    seeded = [tree((*points[-1], "tasks=loss", f"seed={seed}")) for seed in (1, 2)]
    assert keys(noise) == [run_key(typed(chosen)) for chosen in seeded]
    for _, text in suggested:
        assert keys(text), text


def test_settings_that_were_not_run_compose_across_models_and_numbers(tmp_path: Path) -> None:
    points = [(f"model={m}", f"anneal.steps={n}", f"checkpoint.step={50 * n}") for m in MODELS for n in (10, 40)]
    runs_of(tmp_path / "models", points, [0.1, 0.2, 0.3, 0.4])
    anneals = frame(read_outcomes([tmp_path / "models"]))
    axes = varying_axes(anneals, ["model", "model.parameters", "anneal.steps", "checkpoint.step"])
    settings = {"model": "tiny-m", "checkpoint.step": 2000, "anneal.steps": 20}
    chosen = {axis.name: settings[axis.name] for axis in axes}
    config = composed(*suggested_words(anneals, axes, chosen))
    assert (config.model.name, config.checkpoint.step, config.anneal.steps) == ("tiny-m", 2000, 40)
    assert config.model.parameters != anneals["model.parameters"].min(), "the option is taken whole"
    (middle,) = [axis for axis in axes if "anneal.steps" in (axis.name, *axis.moves_with)]
    config = composed(*suggested_words(anneals, axes, {**chosen, middle.name: 1000}))
    assert config.checkpoint.step == 1000, "a level that no run has"


def test_the_previews_examples_compose() -> None:
    for line in preview.EXAMPLES.splitlines():
        words = [word for word in shlex.split(line.partition(" > ")[0])[2:] if word != "--lrs"]
        assert preview.points(words), line


def test_no_printed_command_is_put_together_elsewhere() -> None:
    """Whoever prints a command with overrides takes `planning.commands`; texts that only name the command are few."""
    told = {"main.py", "preview.py", "commands.py", "mlflow_inputs.py", "sender.py"}
    files = {p.name for p in (CONF.parent / "src").rglob("*.py") if re.search(r"python -m sweep", p.read_text())}
    assert files <= told


def test_a_loader_of_one_folder_leaves_the_running_one_alone() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        before = compose("config")
        assert loader_of(CONF).load_configuration("config", ["anneal.steps=7"], run_mode=RunMode.RUN).anneal.steps == 7
        assert compose("config") == before
