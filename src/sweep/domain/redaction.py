"""Knows secrets in addresses: finds them, so that a configuration with one is refused, and masks them in what is said.

One rule holds for the whole project. A configuration with a secret is refused, because it is written down in many
places. What the environment says (a mirror, a tracker, a proxy) is masked wherever text leaves the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_USERINFO = re.compile(r'://[^\s"@/:]*(?::(?!\d+/)[^\s"@]*(?:@[^\s"@/]*)*)?@')
_QUERY = re.compile(
    r"([?&;][^=&;\s\"]*(?:token|password|passwd|pwd|secret|key|keyid|sig|signature|credential|credentials|auth)=)"
    r"(?!\*\*\*)[^&\s\"']+",
    re.IGNORECASE,
)
SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
"""Environment variables whose values an error may quote."""
REMEDY = (
    "a configuration is written into files, logs and MLflow. Give user and password in ~/.netrc (machine HOST login "
    "USER password PASSWORD), or download files that only a signed address gives"
)
REMEDIES = {
    "tracking.uri": "give it in the environment, MLFLOW_TRACKING_URI, or MLFLOW_TRACKING_TOKEN or _USERNAME and "
    "_PASSWORD; a configuration is written into files, logs and MLflow"
}
"""Dotted key -> another way out than REMEDY."""


def redact(text: str, *, secrets: Iterable[str | None] = ()) -> str:
    """The text with user names, passwords and tokens in URIs masked, and `secrets` masked everywhere."""
    for secret in filter(None, (secret and secret.strip() for secret in secrets)):
        text = text.replace(secret, "***").replace(repr(secret)[1:-1], "***")  # an error may quote it
    return _QUERY.sub(r"\1***", _USERINFO.sub("://***@", text) if "://" in text else text)


def holds_secret(text: str) -> bool:
    """Whether an address in the text holds a password or a token; of an HTTP server a user's name alone may be one."""
    if "=" in text and _QUERY.search(text):
        return True
    if "://" not in text:
        return False
    names = (match for match in _USERINFO.finditer(text) if match[0] != "://***@")
    return any(":" in match[0][3:] or text[: match.start()].endswith(("http", "https")) for match in names)


def secret_refused(tree: Any) -> str | None:
    """Why a plain tree of choices is refused, by its dotted key and without the secret; None if it holds none."""
    for key, text in _texts(tree, ()):
        if holds_secret(text):
            return f"{key}={redact(text)} holds a password or token: {REMEDIES.get(key, REMEDY)}"
    return None


def _texts(tree: Any, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Dotted key and value of every text in the tree, the names of keys included."""
    if isinstance(tree, str):
        yield ".".join(above), tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield ".".join(above), str(key)
            yield from _texts(value, (*above, str(key)))
    elif isinstance(tree, Sequence):
        for value in tree:
            yield from _texts(value, above)
