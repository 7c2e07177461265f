"""What some tests need of the machine: where it is missing they are skipped, and in CI they fail."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """End the test at hand for this reason: skipped, or failed in CI, where everything is to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def chromium() -> str:
    """Path of a browser that has no window."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (path := shutil.which(name)) is not None:
            return path
    missing("there is no chromium, chromium-browser or google-chrome: apt-get install chromium")
