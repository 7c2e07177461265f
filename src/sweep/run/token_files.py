"""The token files that the paths of one data source mean on this machine; text is tokenised on first use."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tokenizers import Tokenizer

from sweep import data
from sweep.domain.errors import Refusal
from sweep.domain.text_rules import TextRules
from sweep.run.checkpoint_folder import resolve
from sweep.system import files
from sweep.system.files import file_digest
from sweep.system.progress import Progress
from sweep.system.store import Store

log = logging.getLogger(__name__)

SHOWN = 3
"""Paths named in a refusal."""
WAY_OUT = "give data.root, the folder or address where these files lie, or other files as data.paths"


@dataclass(frozen=True, kw_only=True)
class TokenFiles:
    """The token files of one source, on disk or behind HTTP."""

    files: tuple[Path | data.RemoteFile, ...]
    identity: list[Any]
    """Names their content: one entry for each file."""
    facts: dict[str, Any]
    """Describes the files for people."""


@dataclass(frozen=True, kw_only=True)
class TokenFileReader:
    """Turns paths into token files."""

    store: Store
    tokenizer: Path
    rules: TextRules
    dtype: str

    def own(self, paths: Sequence[str], root: str | None) -> TokenFiles:
        """The data that a checkpoint's configuration names, looked for under `root` if it is given."""
        if not paths:
            raise Refusal("data.paths=null takes the paths of the checkpoint's config.yaml, which names none")
        if root is not None:
            paths = _below(root, [rooted(path, root) for path in paths])
        absent = [p for p in paths if not p.startswith("store://") and not data.public_url(p) and not Path(p).is_file()]
        if absent:
            first = ", ".join(absent[:SHOWN])
            raise Refusal(
                f"data.paths=null takes the {len(paths)} files of the checkpoint's config.yaml, and {len(absent)} of "
                f"them aren't here: {first}{', ...' if len(absent) > SHOWN else ''}; {WAY_OUT}"
            )
        return self._memmaps(paths)

    def given(self, paths: Sequence[str]) -> TokenFiles:
        """The files that a person named, all memmaps or all text; ValueError if there are none, or both kinds."""
        paths = [found for path in paths for found in _matching(path)]
        text = [data.is_text(path) for path in paths]
        if not any(text):
            return self._memmaps(paths)
        if not all(text):
            raise ValueError(f"{paths[text.index(False)]} is a memmap among text: make it a source of its own")
        if remote := [path for path in paths if "://" in path]:
            raise ValueError(f"text is read from local files alone: download {remote[0]}")
        return self._texts([Path(path) for path in paths])

    def _memmaps(self, paths: Sequence[str]) -> TokenFiles:
        urls = [url for path in paths if (url := data.public_url(path))]
        remote = {file.url: file for file in (data.listing(self.store, urls) if urls else [])}
        found: list[Path | data.RemoteFile] = []
        identity: list[Any] = []
        for path in paths:
            if (url := data.public_url(path)) is not None:
                found.append(remote[url])
                identity.append([url, remote[url].size, remote[url].version])
            elif "://" in path and not path.startswith("store://"):
                raise ValueError(f"{path} has no known public address; {WAY_OUT}")
            else:
                file = resolve(self.store, path)
                found.append(file)
                identity.append(_version(path, file))
        return TokenFiles(files=tuple(found), identity=identity, facts={"files": list(paths)})

    def _texts(self, paths: list[Path]) -> TokenFiles:
        """Text files as one memmap in the store, tokenised on first use."""
        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        if tokenizer.get_vocab_size() > 1 << 16 and self.dtype == "uint16":
            raise ValueError(f"{tokenizer.get_vocab_size()} token ids don't fit data.dtype=uint16: give uint32")
        made_of = [_version(str(path), path) for path in paths]
        tokenizer_digest = file_digest(self.tokenizer)
        key = data.tokens_key(made_of, tokenizer_digest, rules=self.rules, dtype=self.dtype)

        def build(folder: Path) -> None:
            with Progress("tokenising", total=sum(path.stat().st_size for path in paths)) as bar:
                data.write_tokens(
                    folder,
                    paths,
                    data.TokenFormat(tokenizer=tokenizer, rules=self.rules, dtype=self.dtype),
                    scored=data.scored_index(),
                    progress=bar.advance,
                )

        folder = self.store.make("tokens", key, build)
        summary = json.loads((folder / "texts.json").read_text())
        log.info("text: %(documents)d documents, %(tokens)d tokens; %(dropped_as_scored)d left out as scored", summary)
        facts = {"files": [str(path) for path in paths], **summary}
        return TokenFiles(files=(folder / "tokens.npy",), identity=[[f"store://tokens/{key}"]], facts=facts)


def rooted(path: str, root: str) -> str:
    """The path with `root` in place of its scheme and host or bucket; Refusal for a path in the store."""
    if path.startswith("store://"):
        raise Refusal(f"data.root={root}: the data of an embedded model are in the store already")
    inside = path.split("://", 1)[1].split("/", 1)[1] if "://" in path else path.lstrip("/")
    return f"{root.rstrip('/')}/{inside}"


def _below(root: str, paths: Sequence[str]) -> Sequence[str]:
    """The paths below a local root without their first folders, as many as are not there: root/x for root/data/x.

    The paths as they are, where the first one isn't found that way either.
    """
    inside = [PurePosixPath(path).relative_to(root) for path in paths] if "://" not in root else []
    for dropped in range(len(inside[0].parts) if inside else 0):
        found = [str(Path(root, *path.parts[dropped:])) for path in inside]
        if Path(found[0]).is_file():
            return found
    return paths


def _matching(path: str) -> list[str]:
    if not (found := files.expanded(path)):
        raise FileNotFoundError(f"{path} matches no file")
    return found


def _version(path: str, file: Path) -> list[Any]:
    """Names a local file's content: by its key in the store, or by path, size and time of the last change."""
    if path.startswith("store://"):
        return [path]
    return [str(file.absolute()), *files.version(file)]
