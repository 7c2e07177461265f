"""No tracker may stop a run: whatever it does wrong is one line of warning."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import ParamSpec

from sweep.tracking.journal import redact

log = logging.getLogger(__name__)
P = ParamSpec("P")


def safely(act: Callable[P, str], *args: P.args, **kwargs: P.kwargs) -> str | None:
    """What `act` gives; None, and one line of warning, where the tracker fails it in whatever way.

    The one place that catches everything: no tracker may stop a run, and the journal has it all.
    """
    try:
        with _silent("mlflow", "urllib3.connectionpool"):
            return act(*args, **kwargs)
    except Exception as error:
        words = redact(str(error).partition("\n")[0])[:200]
        log.warning("MLflow is behind (%s: %s); the journal has everything", type(error).__name__, words)
        return None


@contextlib.contextmanager
def _silent(*names: str) -> Iterator[None]:
    """Loggers that print tracebacks and retries of what is told in one line here."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
