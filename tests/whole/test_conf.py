"""Every option of every group composes, validates and plans."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from sweep.commands.main import CONF
from sweep.planning.names import run_folder
from sweep.planning.plan import make_plan
from sweep.planning.pretraining_schedule import expected_position, pretraining_lr
from tests.composing import composed

GROUPS = [p for p in sorted(CONF.iterdir()) if p.is_dir() and p.name not in ("hydra", "experiment")]
OPTIONS = [(group.name, option.stem) for group in GROUPS for option in sorted(group.glob("*.yaml"))]
UNTRAINED = {("anneal", "none"), ("anneal", "merge")}
HUB = ["checkpoint.repo=EleutherAI/pythia-70m", "checkpoint.revision=step1000", "model.batch_size=1024"]
FRESH = ["anneal.optimizer=fresh", "anneal.warmup_steps=100", "anneal.peak_lr=1e-4"]
EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda x: x)
def test_an_option_composes_and_plans(group: str, option: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "tokens.npy").touch()
    needed = {
        ("model", "local"): [f"checkpoint.path={tmp_path}"],
        ("model", "hub"): [*HUB, *FRESH, "data=local", f"data.paths=[{tmp_path}/tokens.npy]"],
        ("data", "local"): [f"data.paths=[{tmp_path}/tokens.npy]"],
        ("tasks", "custom"): ["+tasks.suites.custom.metrics.mine=acc"],
        ("tasks", "in-loop"): ["+tasks.suites.in-loop.metrics.sciq_rc_5shot=acc"],
        ("tracking", "server"): ["tracking.uri=http://127.0.0.1:5000"],
    }
    words = [f"{group}={option}", *needed.get((group, option), [])]
    if option.startswith("datadecide") or option == "olmo-1b-0724":
        words += FRESH
    config = composed(*words)
    parts = getattr(config, group).name.split("+")
    assert all(part.startswith(option) for part in parts), "a group option carries its own name"
    assert len(parts) > 1 or parts == [option]
    if config.model.source not in ("hub", "local"):
        assert config.checkpoint.step is not None
        if pretraining_lr(config.model, config.checkpoint.step) is None:
            config = composed(*words, "anneal.peak_lr=1e-4")
        plan = make_plan(config, expected_position(config.model, config.checkpoint.step))
        assert len(plan.learning_rates) == (0 if (group, option) in UNTRAINED else 1000)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_a_standard_sweeps_points_all_plan_and_differ(path: Path) -> None:
    tree = yaml.safe_load(path.read_text())
    swept = [f"{key}={values}" for key, values in tree["hydra"]["sweeper"]["params"].items()]
    batches = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(swept), None)
    folders = set()
    for point in batches[0]:
        config = composed(f"experiment={path.stem}", *point)
        make_plan(config, expected_position(config.model, config.checkpoint.step))
        folders.add(run_folder(config))
        assert config.name == path.stem
    assert len(folders) == len(batches[0]) > 1


@pytest.mark.parametrize("size", ["tiny-s", "tiny-m", "tiny-l"])
def test_the_stated_size_is_the_models(size: str) -> None:
    from olmo.model import OLMo

    from sweep.run.embedded import embedded_config

    config = composed(f"model={size}")
    model = OLMo(embedded_config(config.model).model)
    assert sum(p.numel() for p in model.parameters()) == config.model.parameters
