"""Masks secrets in addresses before anything is written."""

from __future__ import annotations

import re
from collections.abc import Iterable

_USERINFO = re.compile(r'://[^\s"@/:]*(?::(?!\d+/)[^\s"@]*(?:@[^\s"@/]*)*)?@')
_QUERY = re.compile(r'([?&][^=&\s"]*(?:token|password|passwd|pwd|secret|key|sig|signature)=)[^&\s"]+', re.IGNORECASE)


SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
"""Environment variables whose values an error may quote."""


def redact(text: str, *, secrets: Iterable[str | None] = ()) -> str:
    """The text with user names, passwords and tokens in URIs masked, and `secrets` masked everywhere."""
    for secret in filter(None, (secret and secret.strip() for secret in secrets)):
        text = text.replace(secret, "***").replace(repr(secret)[1:-1], "***")  # an error may quote it
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1***", _USERINFO.sub("://***@", text))
