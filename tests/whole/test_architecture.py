"""The house stands on its floors: a folder imports folders below it alone, and nothing runs in circles."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections import Counter
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
    ("models",),
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
    "olmo": {"checkpoints", "data", "evaluate", "models", "run"},
    "hydra": {"commands", "sweeps"},
    "rich": {"system", "sweeps", "commands"},
    "submitit": {"launch"},
    "huggingface_hub": {"checkpoints"},
    "scipy": {"analysis", "page", "planning"},
    "sklearn": {"analysis"},
    "torch": {"checkpoints", "training", "evaluate", "models", "run", "system", "commands"},
    "transformers": {"models"},
    "datasets": {"evaluate"},
    "pyarrow": {"data", "evaluate", "sweeps"},
    "requests": {"system"},
    "urllib3": {"system"},
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


@functools.cache
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


def test_tests_have_the_folders_of_what_they_test() -> None:
    """And two more: the whole program through its door, and a real cluster."""
    tests = {path.parent.name for path in Path(__file__).parents[1].glob("*/test_*.py")}
    assert tests <= {name for floor in FLOORS for name in floor} | {"whole", "slurm"}


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


DOORS = (
    "sweep.commands.main",
    "sweep.commands.preview",
    "sweep.commands.export",
    "sweep.tracking",
    "sweep.sweeps.closing",
    "sweep.commands.status",
    "hydra_plugins.sweep_plugin",
    "hydra_plugins.slurm_plugin",
    "sweep.commands.sync",
)


def test_the_doors_are_light() -> None:
    """One after another in one process: the first one that is not light is named."""
    heavy = "{'torch', 'olmo', 'mlflow', 'lm_eval', 'transformers', 'datasets', 'pandas', 'pyarrow'}"
    code = (
        f"import sys, importlib\nfor door in {DOORS!r}:\n    importlib.import_module(door)\n"
        f"    print(door, *sorted({heavy} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).splitlines() == list(DOORS)


FUNCTIONS = [
    (path, node)
    for path in (*FILES, *GLUE)
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]
MOST_LINES, MOST_PARAMETERS = 40, 6


def name_of(path: Path, function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return f"{path.relative_to(SRC.parent)}:{function.lineno} {function.name}"


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many things a caller may have to know; a method's own object is none of them."""
    arguments = function.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    others = [*arguments.kwonlyargs, *filter(None, (arguments.vararg, arguments.kwarg))]
    return len(positional) + len(others) - (positional[:1] in (["self"], ["cls"]))


def test_a_function_fits_on_a_screen() -> None:
    lines = {name_of(path, f): (f.end_lineno or f.lineno) - f.lineno + 1 for path, f in FUNCTIONS}
    assert {name: number for name, number in lines.items() if number > MOST_LINES} == {}


def test_a_function_has_few_parameters() -> None:
    parameters = {name_of(path, f): parameters_of(f) for path, f in FUNCTIONS}
    assert {name: number for name, number in parameters.items() if number > MOST_PARAMETERS} == {}


@pytest.mark.parametrize("path", [*FILES, *GLUE], ids=lambda p: str(p.relative_to(SRC.parent)))
def test_a_modules_names_are_bound_once(path: Path) -> None:
    """No `global`, and no second value for a name of the module: what changes is an object that is passed on."""
    tree = ast.parse(path.read_text())
    assert not [node.names for node in ast.walk(tree) if isinstance(node, ast.Global)]
    bound = Counter(name for node in tree.body for name in names_bound(node))
    assert [name for name, times in bound.items() if times > 1] == []


def names_bound(statement: ast.stmt) -> list[str]:
    """Names that one statement of a module binds; branches of one `if` or `try` bind a name once."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        overload = any(ast.unparse(decorator).endswith("overload") for decorator in statement.decorator_list)
        return [] if overload else [statement.name]
    if isinstance(statement, ast.If | ast.Try):
        inner = [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)]
        return sorted({name for child in inner for name in names_bound(child)})
    stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    in_comprehensions = {
        id(name)
        for node in ast.walk(statement)
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
    }
    return [node.id for node in stored if id(node) not in in_comprehensions]


def test_nothing_of_another_module_is_rebound() -> None:
    """`module.name = value` for a module of ours is a global by another door; a test may do it, the code may not."""
    rebound = []
    for path in (*FILES, *GLUE):
        tree = ast.parse(path.read_text())
        modules = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
            if f"{node.module}.{alias.name}" in MODULES
        }
        rebound += [
            f"{path.relative_to(SRC.parent)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if isinstance(node.value, ast.Name) and node.value.id in modules
        ]
    assert rebound == []
