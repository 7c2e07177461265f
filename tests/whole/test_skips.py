"""A skip in CI is a failure, but for the few reasons that are allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.skips import ALLOWED

ROOT = Path(__file__).parents[2]
TESTS = f"""
import pytest

@pytest.mark.parametrize("reason", {ALLOWED!r})
def test_allowed(reason):
    pytest.skip(reason)

@pytest.fixture
def server():
    pytest.skip("no server")

def test_in_a_fixture(server):
    pass

@pytest.mark.skipif(True, reason="by a mark")
def test_by_a_mark():
    pass

@pytest.mark.xfail(reason="known")
def test_expected_failure():
    assert False
"""


def run_tests(folder: Path, *, ci: bool) -> str:
    """What pytest says of the folder's tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.skips", "--continue-on-collection-errors"]
    own = {"CI": "true" if ci else "", "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **own}, text=True, capture_output=True, check=False
    ).stdout


def test_what_is_skipped_in_ci_has_failed_but_for_the_allowed_reasons(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_whole.py").write_text("import pytest\n\npytest.importorskip('a_package_that_nobody_has')\n")
    assert f"{len(ALLOWED) + 3} skipped, 1 xfailed" in run_tests(tmp_path, ci=False)
    said = run_tests(tmp_path, ci=True)
    assert f"{len(ALLOWED)} skipped, 1 xfailed, 3 errors" in said, said
    assert all(reason in said for reason in ("no server", "by a mark", "a_package_that_nobody_has"))
