"""Revisions on the Hugging Face Hub, through its own client: its cache, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from sweep.domain.errors import Refusal

UNREACHABLE = (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, TimeoutError, HTTPError)
"""What the client raises without a network. HTTPError is that of its own HTTP library, by the name it has there."""
OFFLINE = (
    "no Hub could be reached: fetch it once where there is a network (the cache is at HF_HOME), name a mirror in "
    "HF_ENDPOINT, or take an OLMo unsharded folder on disk with model=local checkpoint.path=FOLDER"
)


def snapshot(repo: str, revision: str, optimizer: str | None = None) -> Path:
    """The folder of a revision in the Hub's cache, downloaded if it is not there yet, with one format of the weights.

    `revision` may contain * for a part that only the Hub knows; `optimizer` is one more file to download. Raises
    Refusal if a file can't be had, or does not have the digest that the Hub gives.
    """
    place = f"{repo}@{revision}"
    try:
        name = _resolved(repo, revision)
        place = f"{repo}@{name}"
        patterns = ["*.json", "tokenizer*", "*.safetensors"] + [optimizer] * (optimizer is not None)
        if not constants.HF_HUB_OFFLINE:
            files = HfApi().list_repo_files(repo, revision=name)
            if not any(file.endswith(".safetensors") for file in files):
                patterns[2] = "*.bin"
            if optimizer is not None and optimizer not in files:
                raise _without(optimizer, place)
        folder = _verified(place, lambda: Path(snapshot_download(repo, revision=name, allow_patterns=patterns)))
        if optimizer is not None and not (folder / optimizer).is_file():
            raise _without(optimizer, place)
        return folder
    except RevisionNotFoundError as error:
        raise Refusal(f"{place} is not on the Hub: there is no such revision") from error
    except RepositoryNotFoundError as error:
        raise Refusal(f"{place} is not on the Hub: no such repository, or not for this token") from error
    except HfHubHTTPError as error:
        raise Refusal(f"{place}: the Hub answered {error}") from error
    except UNREACHABLE as error:
        raise Refusal(f"{place}: {OFFLINE} ({type(error).__name__})") from error


def _without(optimizer: str, place: str) -> Refusal:
    return Refusal(
        f"{place} has no {optimizer}, the optimizer state that anneal.optimizer=keep goes on with: some revisions of a "
        "run have it; take another checkpoint.step, or start a new one with anneal.optimizer=fresh, "
        "anneal.warmup_steps and anneal.peak_lr"
    )


def _verified(place: str, fetch: Callable[[], Path]) -> Path:
    """The folder that `fetch` gives, its files checked against the digests that name them in the cache.

    Wrong files are fetched once more. The client itself compares sizes alone, and its `verify_repo_checksums` asks the
    Hub for the digests, so that it can't check a cache offline.
    """
    for _ in range(2):
        folder = fetch()
        wrong = [file for file in sorted(folder.rglob("*")) if file.is_symlink() and not _sound(file.resolve())]
        if not wrong:
            return folder
        for file in wrong:
            file.resolve().unlink()
            file.unlink()
    raise Refusal(f"{place}: {wrong[0].name} is not of the digest that the Hub says, twice; nothing of it was kept")


def _sound(blob: Path) -> bool:
    """Whether a cached file is of the digest it is named by: SHA-256 of large files, git's SHA-1 of others."""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return True
    content_hash = hashlib.sha256() if len(blob.name) == 64 else hashlib.sha1(b"blob %d\0" % blob.stat().st_size)
    with blob.open("rb") as file:
        return hashlib.file_digest(file, lambda: content_hash).hexdigest() == blob.name


def _resolved(repo: str, pattern: str) -> str:
    """The revision that matches `pattern`, among those of the Hub, or without a network among those in the cache."""
    if "*" not in pattern:
        return pattern
    if constants.HF_HUB_OFFLINE:
        refs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "refs"
        names = sorted(path.name for path in refs.glob("*"))
        where = f"in the cache at {constants.HF_HUB_CACHE} (HF_HUB_OFFLINE is set)"
    else:
        listed = HfApi().list_repo_refs(repo)
        names = sorted(ref.name for ref in (*listed.branches, *listed.tags))
        where = "on the Hub"
    if matches := fnmatch.filter(names, pattern):
        return matches[0]
    raise Refusal(f"{repo}@{pattern} is not {where}; nearest: {', '.join(_nearest(names, pattern)) or 'none'}")


def _nearest(names: list[str], pattern: str) -> list[str]:
    """The two revisions with the same spelling whose steps are closest to that of `pattern`."""

    def step(name: str) -> int | None:
        match = re.search(r"step(\d+)", name)
        return int(match[1]) if match else None

    alike = [name for name in names if step(name) is not None and name.split("step")[0] == pattern.split("step")[0]]
    return sorted(alike, key=lambda name: abs((step(name) or 0) - (step(pattern) or 0)))[:2]
