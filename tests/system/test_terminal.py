"""What is printed at the end of a sweep can't make it fail."""

from __future__ import annotations

import os
import subprocess
import sys

SHOW = """
import sys, time
from sweep.system.terminal import accept_any_encoding, show
accept_any_encoding()
sys.stdin.read()
show("a table ┃ " * 10000)
show("and its end")
sys.stderr.write("done")
"""


def shown(encoding: str) -> str:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", SHOW]
    return subprocess.run(command, input="", env=environment, text=True, capture_output=True, check=True).stdout


def test_text_is_printed_in_the_characters_that_the_terminal_has() -> None:
    whole = shown("utf-8")
    assert whole.startswith("a table ┃ ") and whole.endswith("and its end")
    assert shown("ascii").startswith("a table ? ")


def test_text_that_nobody_reads_is_dropped() -> None:
    command = [sys.executable, "-c", SHOW]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b"done"
    assert process.returncode == 0
