"""Digests: the store's names of things, made of everything that decides their content."""

from __future__ import annotations

import hashlib
import json


def digest(*parts: object) -> str:
    """A key: SHA-256 (first 32 hex digits) of the canonical JSON of `parts`."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
