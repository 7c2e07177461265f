"""Tracking: a run's journal is the truth, MLflow (`tracking.projection`) its projection, rebuilt at any time.

Light on purpose: the door reads journals to skip what is done; MLflow is imported by `projection` alone.
"""

from sweep.tracking.events import Events
from sweep.tracking.journal import FILE, Journal, outcome, read
from sweep.tracking.redaction import redact

__all__ = ["FILE", "Events", "Journal", "outcome", "read", "redact"]
