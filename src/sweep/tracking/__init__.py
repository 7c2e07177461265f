"""Tracking: a run's journal is the truth, and MLflow is made from it, at any time, by `tracking.projection`.

Importing this package does not import MLflow: commands read journals to find out which runs are done.
"""

from sweep.tracking.events import Events, lost_lines, params_of
from sweep.tracking.journal import FILE, Journal, last_update, outcome, read

__all__ = ["FILE", "Events", "Journal", "last_update", "lost_lines", "outcome", "params_of", "read"]
