"""Where to look first: the view of the last sweep that an MLflow has."""

from __future__ import annotations

from mlflow import MlflowClient

from sweep.tracking.view import newest


def newest_view(tracking_uri: str) -> tuple[str, str] | None:
    """(experiment id, view) of the sweep that started last, over all experiments; None: there is no sweep yet."""
    experiments = MlflowClient(tracking_uri).search_experiments()
    found = [(*view, experiment.experiment_id) for experiment in experiments if (view := newest(experiment.tags))]
    if not found:
        return None
    _, name, experiment_id = max(found)
    return experiment_id, name
