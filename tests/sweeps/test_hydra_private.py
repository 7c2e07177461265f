"""What Hydra's private parts do for us: fails when a version of Hydra changes them."""

from __future__ import annotations

import copy
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.completion_plugin import CompletionPlugin
from hydra.types import RunMode

from sweep.commands.main import CONF
from sweep.sweeps.hydra_private import apply_overrides, with_number

OTHER_APP = """
import hydra
@hydra.main(version_base=None)
def app(config): pass
app()
"""


@pytest.mark.parametrize("override", ["anneal.steps=7", "+anneal.extra=1", "++anneal.steps=8", "~anneal.shape"])
def test_overrides_applied_later_give_what_hydra_composes(override: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        composed = loader.load_configuration("config", [override], run_mode=RunMode.RUN)
        tree = copy.deepcopy(loader.load_configuration("config", [], run_mode=RunMode.RUN))
        apply_overrides(OverridesParser.create(config_loader=loader).parse_overrides([override]), tree)
    for group in ("anneal", "data", "model"):
        assert tree[group] == composed[group]


@pytest.mark.parametrize("value", ["0", "-3", "+4", "12.50", "1e-3", "-2.5E+07", "1_0", "007", "1.", "nan", "x", ""])
def test_a_number_is_what_hydras_parser_makes_of_it(value: str) -> None:
    parser = OverridesParser.create()
    before, parsed = parser.parse_overrides(["anneal.steps=text", f"anneal.steps={value}"])
    made = with_number(before, f"anneal.steps={value}")
    assert made in (None, parsed) and (made is None) == (value in ("1_0", "007", "1.", "nan", "x", ""))
    assert made is None or repr(made) == repr(parsed), "an int is no float"


def test_hydras_completion_asks_what_we_extend() -> None:
    assert list(inspect.signature(CompletionPlugin._query).parameters) == ["self", "config_name", "line"]


def completed(command: list[str], line: str) -> set[str]:
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    shown = subprocess.run(
        [*command, "-sc", "query=bash"], env=environment, text=True, capture_output=True, check=True
    ).stdout
    return set(shown.split())


def test_steps_are_completed_for_our_app_and_for_no_other_one(tmp_path: Path) -> None:
    line = "app checkpoint.step="
    ours = completed([sys.executable, "-m", "sweep"], line)
    assert {"checkpoint.step=500", "checkpoint.step=2000"} <= ours
    (tmp_path / "app.py").write_text(OTHER_APP)
    assert completed([sys.executable, str(tmp_path / "app.py")], line) == set()
