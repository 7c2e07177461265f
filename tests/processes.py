"""Python processes that are there at once: forked from one that has imported torch and OLMo and does nothing else.

For tests that need a process of its own (to kill it, to give it another environment), and not what starts it.
"""

from __future__ import annotations

import atexit
import dataclasses
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

HEAVY = ["numpy", "torch", "olmo.config", "olmo.model"]
AFRESH = ("huggingface_hub", "sweep")
"""Packages that each process imports itself: the first reads the environment as it is imported."""
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(HEAVY)


SWEEP = "import runpy; runpy.run_module('sweep', run_name='__main__', alter_sys=True)"
"""The code of `python -m sweep`."""


@dataclasses.dataclass(frozen=True)
class Start:
    """What a process begins with."""

    code: str
    arguments: tuple[str, ...]
    cwd: str
    environment: Mapping[str, str]
    path: tuple[str, ...]


class Script:
    """Python code that runs in a process of its own, with what it prints as it comes, much as a subprocess.Popen."""

    def __init__(self, code: str, *arguments: str, cwd: Path | None = None, **environment: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        stdout, stderr = (str(Path(self._folder.name) / name) for name in ("stdout", "stderr"))
        os.mkfifo(stdout)
        start = Start(code, arguments, str(cwd or Path.cwd()), {**os.environ, **environment}, tuple(sys.path))
        self._process = _context.Process(target=_run, args=(start, stdout, stderr))
        self._process.start()
        self.stdout: IO[str] = open(stdout)  # noqa: SIM115, PTH123 - waits until the process has opened it as well
        self._stderr = Path(stderr)

    def __enter__(self) -> Script:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self._process.kill()
        self.communicate()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        self._process.join(0)
        return self._process.exitcode

    poll = returncode.fget

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """The rest of its standard output, and its standard error, once it has ended."""
        printed = "" if self.stdout.closed else self.stdout.read()
        self.stdout.close()
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout} s"
        errors = self._stderr.read_text() if self._stderr.exists() else ""
        self._folder.cleanup()
        return printed, errors


def _run(start: Start, stdout: str, stderr: str) -> None:
    for number, file in ((2, stderr), (1, stdout)):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(start.cwd)
    os.environ.clear()
    os.environ.update(start.environment)
    sys.path[:] = start.path
    sys.argv[:] = ["-c", *start.arguments]
    for name in list(sys.modules):
        if name.split(".")[0] in AFRESH:
            del sys.modules[name]
    try:
        exec(compile(start.code, "<script>", "exec"), {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()  # as Python's own end does, which multiprocessing leaves out
        sys.stdout.flush()
