"""The house stands on its floors: a folder imports folders below it alone, and nothing runs in circles."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "sweep"
FLOORS = (
    ("domain",),
    ("system",),
    ("config",),
    ("planning",),
    ("analysis",),
    ("checkpoints", "data", "training", "evaluate", "tracking", "launch", "page"),
    ("run",),
    ("sweeps",),
    ("commands",),
)
"""The folders, lowest first; those of one floor don't know each other."""
PURE = ("domain", "config", "planning", "analysis")
"""Folders without a clock, environment, network or GPU."""
OWNERS = {
    "mlflow": {"tracking"},
    "lm_eval": {"evaluate", "commands"},
    "olmo": {"checkpoints", "data", "training", "evaluate", "run"},
    "hydra": {"commands", "sweeps"},
    "rich": {"system", "sweeps", "commands"},
    "submitit": {"launch"},
    "huggingface_hub": {"checkpoints"},
    "matplotlib": {"page"},
    "scipy": {"analysis", "page", "planning"},
    "sklearn": {"analysis"},
    "torch": {"checkpoints", "training", "evaluate", "run", "system", "commands"},
    "transformers": set(),
    "datasets": {"evaluate"},
    "pyarrow": {"data", "evaluate", "sweeps"},
    "requests": {"checkpoints", "data"},
    "psutil": {"system"},
    "pynvml": {"system"},
}
"""Heavy package -> the folders that import it."""
FILES = sorted(SRC.rglob("*.py"))
GLUE = sorted((SRC.parent / "hydra_plugins").glob("*.py"))


def module(path: Path) -> str:
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def folder(name: str) -> str:
    return name.split(".")[1] if name.count(".") else ""


def floor(name: str) -> int:
    return next(i for i, folders in enumerate(FLOORS) if name in folders)


def imports(path: Path) -> set[str]:
    """Modules that a file imports, at its top or in a function; a type checker's alone are left out."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    unseen = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found


def test_the_root_holds_the_entrance_and_folders_alone() -> None:
    assert {path.name for path in SRC.glob("*.py")} == {"__init__.py", "__main__.py"}
    folders = {path.name for path in SRC.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {name for floor in FLOORS for name in floor}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_a_folder_imports_folders_below_it(path: Path) -> None:
    mine = folder(module(path))
    if mine in ("", "__main__"):
        return
    for name in imports(path):
        if name.startswith("sweep.") and folder(name) != mine:
            assert floor(folder(name)) < floor(mine), f"{module(path)} imports {name}"


def test_no_imports_run_in_circles() -> None:
    graph = {name: imports(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_heavy_packages_have_few_owners(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        if top in OWNERS:
            assert folder(module(path)) in OWNERS[top], f"{module(path)} imports {top}"


@pytest.mark.parametrize("path", GLUE, ids=lambda p: p.name)
def test_the_glue_to_hydra_imports_nothing_heavy_itself(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & (OWNERS.keys() - {"hydra"})


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_the_pure_folders_know_no_clock_environment_or_network(path: Path) -> None:
    if folder(module(path)) in PURE:
        assert not imports(path) & {"time", "os", "socket", "torch", "random", "pathlib", "datetime"}


def test_a_report_needs_no_torch() -> None:
    heavy = "{'torch', 'olmo', 'mlflow', 'lm_eval', 'transformers'}"
    code = f"import sys, sweep.commands.report; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize(
    "door",
    [
        "sweep.commands.main",
        "sweep.commands.preview",
        "sweep.commands.export",
        "sweep.tracking",
        "sweep.sweeps.closing",
        "sweep.commands.status",
        "hydra_plugins.sweep_plugin",
        "hydra_plugins.slurm_plugin",
        "sweep.commands.sync",
    ],
)
def test_the_door_is_light(door: str) -> None:
    heavy = "{'torch', 'olmo', 'mlflow', 'lm_eval', 'transformers', 'datasets', 'pandas', 'pyarrow'}"
    code = f"import sys, {door}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
