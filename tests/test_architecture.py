"""The house stands on its floors: imports point down, hands don't know each other, heavy packages have one owner."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "sweep"
FLOORS = [
    {
        "schedule",
        "merging",
        "records",
        "health",
        "loss",
        "revisions",
        "store",
        "lease",
        "refusal",
        "progress",
        "files",
        "ranks",
        "stopping",
        "machine",
    },
    {"config"},
    {"pretrained", "keys", "names", "sizes", "plan", "memory", "controls", "forecast", "packing", "analysis"}
    | {"designs", "fraction", "bill"},
    {"checkpoints", "data", "anneal", "evaluate", "tracking", "table", "launch", "figures", "page"},
    {
        "attempt",
        "training",
        "fetched",
        "trajectory",
        "merged",
        "scoring",
        "sources",
        "reading",
        "preparation",
        "showing",
        "standing",
        "clustered",
        "run",
        "outcomes",
        "documents",
    },
    {
        "cli",
        "points",
        "ui",
        "space",
        "export",
        "harness",
        "preview",
        "report",
        "sync",
        "server",
        "status",
        "cancel",
        "wait",
        "__main__",
    },
]
SHARED = {0, 2, 4, 5}
"""Floors whose rooms may know each other; the hands may not."""
OWNERS = {
    "mlflow": {"tracking"},
    "lm_eval": {"evaluate", "harness"},
    "olmo": {"checkpoints", "data", "anneal", "evaluate", "trajectory", "scoring", "run"},
    "hydra": {"cli", "preview", "points"},
    "rich": {"table", "launch", "preview", "report", "sync"},
    "submitit": {"launch"},
    "huggingface_hub": {"checkpoints"},
    "matplotlib": {"figures"},
    "scipy": {"analysis", "figures", "designs"},
    "sklearn": {"analysis"},
    "torch": {
        "loss",
        "ranks",
        "checkpoints",
        "anneal",
        "evaluate",
        "training",
        "trajectory",
        "merged",
        "preparation",
        "run",
        "harness",
    },
    "transformers": set(),
    "datasets": {"evaluate"},
    "pyarrow": {"data", "evaluate", "outcomes"},
    "requests": {"checkpoints", "data"},
    "psutil": {"machine"},
    "pynvml": {"machine"},
}
FILES = sorted(SRC.rglob("*.py"))
GLUE = sorted((SRC.parent / "hydra_plugins").glob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if name in names)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if node.module == "sweep" else node.module for alias in node.names}
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {room(path) for path in FILES} - {"__init__"}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_down(path: Path) -> None:
    if (mine := room(path)) == "__init__":
        return
    for module in imports(path):
        if module.startswith("sweep."):
            other = module.split(".")[1]
            down = floor(other) < floor(mine) or (floor(mine) == floor(other) and floor(mine) in SHARED)
            assert other == mine or down, f"{mine} (floor {floor(mine)}) imports {other} (floor {floor(other)})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_heavy_packages_have_one_owner(path: Path) -> None:
    for module in imports(path):
        top = module.split(".")[0]
        if top in OWNERS:
            assert room(path) in OWNERS[top], f"{room(path)} imports {top}"


@pytest.mark.parametrize("path", GLUE, ids=lambda p: p.name)
def test_the_glue_to_hydra_imports_nothing_heavy_itself(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path)} & (OWNERS.keys() - {"hydra"})


@pytest.mark.parametrize("path", FILES + GLUE, ids=lambda p: p.name)
def test_a_file_is_a_room(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 250


def test_the_pure_floors_know_no_clock_environment_or_network() -> None:
    for path in FILES:
        if room(path) in {
            "schedule",
            "merging",
            "records",
            "health",
            "config",
            "keys",
            "names",
            "pretrained",
            "sizes",
            "forecast",
            "plan",
            "memory",
            "controls",
            "packing",
            "designs",
            "fraction",
            "bill",
            "table",
            "analysis",
            "page",
        }:
            assert not imports(path) & {"time", "os", "socket", "torch", "random", "pathlib", "datetime"}, path


def test_a_report_needs_no_torch() -> None:
    heavy = "{'torch', 'olmo', 'mlflow', 'lm_eval', 'transformers'}"
    code = f"import sys, sweep.report; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize(
    "door",
    [
        "sweep.cli",
        "sweep.preview",
        "sweep.export",
        "sweep.tracking",
        "sweep.showing",
        "sweep.status",
        "hydra_plugins.sweep_plugin",
        "hydra_plugins.slurm_plugin",
        "sweep.sync",
    ],
)
def test_the_door_is_light(door: str) -> None:
    heavy = "{'torch', 'olmo', 'mlflow', 'lm_eval', 'transformers', 'datasets', 'pandas', 'pyarrow'}"
    code = f"import sys, {door}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
