"""In CI a skipped test has failed, as everything that tests need is to be there; a few reasons are no fault of CI's."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

NO_GPU = "there is no CUDA device"
HAS_GPU = "this machine has a CUDA device"
NO_SHARED_DATA = "no public data in ../shared/data"
NO_OLMO_CORE = "no folders of OLMo-core in ../shared/olmo_core"
ALLOWED = (NO_GPU, HAS_GPU, NO_SHARED_DATA, NO_OLMO_CORE)
"""The reasons for which a test may be skipped in CI; they are given word for word."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return failed_where_skipped_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return failed_where_skipped_in_ci((yield))


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def failed_where_skipped_in_ci(report: Report) -> Report:
    """The report; with CI=true a skip for a reason that is not allowed is a failure. An expected failure is no skip."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        assert isinstance(report.longrepr, tuple)
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason not in ALLOWED:
            report.outcome = "failed"
            report.longrepr = f"{reason}\nIn CI (CI=true) a test is skipped for no reason but: {'; '.join(ALLOWED)}"
    return report
