"""Secrets inside addresses, masked before anything is written (pure)."""

from __future__ import annotations

import re

_USERINFO = re.compile(r'://[^\s"@/:]*(?::(?!\d+/)[^\s"@]*)?@')
_QUERY = re.compile(r'([?&][^=&\s"]*(?:token|password|passwd|pwd|secret|key|sig|signature)=)[^&\s"]+', re.IGNORECASE)


def redact(text: str) -> str:
    """The text with user names, passwords and tokens inside URIs masked."""
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1***", _USERINFO.sub("://***@", text))
