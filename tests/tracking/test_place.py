"""One rule says where MLflow is, for a run and for what later reads its journal."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from sweep.config import Tracking
from sweep.sweeps.opening import warn_of_overruled_uri
from sweep.tracking import read
from sweep.tracking.place import mlflow_place, recorded_tracking

from .conftest import write_run

LAB, OWN = "https://lab.example.org", "https://own.example.org"


@pytest.mark.parametrize(
    ("environment", "configured", "expected"),
    [(LAB, OWN, LAB), (LAB, None, LAB), ("", OWN, OWN), ("", None, "sqlite:////runs/mlflow.db")],
)
def test_the_environment_comes_first_then_the_configuration_then_a_file_beside_the_sweeps(
    monkeypatch: pytest.MonkeyPatch, environment: str, configured: str | None, expected: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    place = mlflow_place(Path("/runs"), configured, "anneal")
    assert (place.tracking_uri, place.experiment) == (expected, "anneal")
    assert place.artifact_root == Path("/runs/mlartifacts")


@pytest.mark.parametrize("flow", [False, None])
@pytest.mark.parametrize("last", [True, False])
def test_a_journal_tells_what_the_run_was_configured_with(tmp_path: Path, flow: bool | None, last: bool) -> None:
    """However the configuration was written, in older journals too."""
    tracking = {"enabled": True, "uri": OWN, "experiment": "a: 'quoted' # name"}
    parts = {"name": "main", "tracking": tracking, "anneal": {"steps": 20, "tracking": "no section"}}
    chosen = {name: parts[name] for name in (parts if not last else ("name", "anneal", "tracking"))}
    folder = write_run(tmp_path / "run", config_yaml=yaml.safe_dump(chosen, sort_keys=False, default_flow_style=flow))
    assert recorded_tracking(read(folder)) == tracking


def test_a_run_that_goes_elsewhere_than_configured_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trackings = [Tracking(name="server", uri=uri, experiment="sweep", enabled=True) for uri in (OWN, None, LAB)]
    with caplog.at_level(logging.WARNING):
        for uri, warnings in (("", 0), (LAB, 1)):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            warn_of_overruled_uri(trackings)
            assert len(caplog.records) == warnings
    assert f"not at tracking.uri={OWN}" in caplog.text
