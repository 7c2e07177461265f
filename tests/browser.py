"""The browser without a window that some tests look at pages with."""

from __future__ import annotations

import shutil

import pytest


def chromium() -> str:
    """Path of the browser; without one the test is skipped."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (path := shutil.which(name)) is not None:
            return path
    pytest.skip("there is no chromium, chromium-browser or google-chrome: apt-get install chromium")
