"""Python processes that are there at once: forked from one that has imported torch and OLMo and does nothing else.

For tests that need a process of its own (to kill it, to give it another environment), and not what starts it.
"""

from __future__ import annotations

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


class Script:
    """Python code that runs in a process of its own, with what it prints as it comes, much as a subprocess.Popen."""

    def __init__(self, code: str, *arguments: str, **environment: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        paths = [str(Path(self._folder.name) / name) for name in ("stdout", "stderr")]
        os.mkfifo(paths[0])
        environment = {**os.environ, **environment}
        path = [str(Path.cwd()), *sys.path]
        self._process = _context.Process(target=_run, args=(code, arguments, environment, path, *paths))
        self._process.start()
        self.stdout: IO[str] = open(paths[0])  # noqa: SIM115, PTH123 - waits until the process has opened it as well
        self._stderr = Path(paths[1])

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


def _run(
    code: str, arguments: tuple[str, ...], environment: Mapping[str, str], path: list[str], stdout: str, stderr: str
) -> None:
    for number, file in ((2, stderr), (1, stdout)):
        flags = os.O_WRONLY | os.O_CREAT
        descriptor = os.open(file, flags)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    sys.argv[:] = ["-c", *arguments]
    for name in list(sys.modules):
        if name.split(".")[0] in AFRESH:
            del sys.modules[name]
    exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
    sys.stdout.flush()
