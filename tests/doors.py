"""The command line in a process of its own that has imported Hydra and our light modules already.

It does what `python -m sweep …` does, without the second that one takes to start. The process that the others are
forked from has neither torch nor MLflow.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str
    packages: frozenset[str]
    """All packages that it had imported."""


def sweep(*words: str, cwd: Path, **environment: str) -> Ended:
    """`python -m sweep WORDS` in `cwd`, to its end."""
    server = _server()
    assert server.stdin and server.stdout
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, name) for name in ("out", "err", "packages")}
        request = {"words": words, "cwd": str(cwd), "environment": {**os.environ, **environment}, "folder": folder}
        server.stdin.write(f"{json.dumps(request)}\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        out, err, packages = (file.read_text() for file in files.values())
        return Ended(code, out, err, frozenset(packages.split()))


@functools.cache
def _server() -> subprocess.Popen[str]:
    """It ends with this process, when its input is closed."""
    command = [sys.executable, "-m", "tests.doors"]
    root = Path(__file__).parents[1]
    return subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def serve() -> None:
    """Answer each request with the exit code of a child that is the command."""
    from hydra.core.plugins import Plugins

    import sweep.commands.preview
    import sweep.commands.status
    import sweep.commands.sync  # noqa: F401

    Plugins.instance()  # imports all that it finds
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if (child := os.fork()) == 0:
            code = _run(**request)
            Path(request["folder"], "packages").write_text("\n".join(name for name in sys.modules if "." not in name))
            os._exit(code)  # taking the interpreter down would take longer than all the rest
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, flush=True)  # noqa: T201


def _run(words: list[str], cwd: str, environment: dict[str, str], folder: str) -> int:
    """The exit code of the command; an exception is printed as the interpreter prints it."""
    for number, path in ((0, os.devnull), (1, f"{folder}/out"), (2, f"{folder}/err")):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["sweep", *words]
    try:
        runpy.run_module("sweep", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, str):
            return int(end.code or 0)
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    else:
        return 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    serve()
