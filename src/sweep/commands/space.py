"""`sweep space [--free KIND ...]`: shows the size of each kind of entry in the store, and deletes kinds."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sweep.commands.command_line import command_parser
from sweep.system import stop_signals
from sweep.system.store import Entry, Store, store_at

EXAMPLES = """\
sweep space                        show what the store holds
sweep space --free packs scores    drop these kinds first
sweep space --free damaged         delete the entries that were set aside as damaged
"""
DAMAGED, INTERIM = "damaged", "interim"
POLL_S = 1.0
KINDS = {
    "builds": "names of the versions of torch and kinds of processors that made the rest",
    "checkpoints": "published checkpoints: downloaded again when needed",
    "corpus": "embedded corpora: rebuilt in half a minute",
    "examined": "that a checkpoint or data were found sound: examined again when needed",
    INTERIM: "states that an interrupted run goes on from, and anneals that are not kept; --free leaves those in use",
    "listings": "sizes and versions of files behind HTTP: asked for again",
    "packs": "tokenised tasks: rebuilt in seconds",
    "scores": "per-document records: rescoring needs the weights",
    "states": "checkpoints of embedded models, annealed and averaged states: made again when needed",
    "tokens": "your own text, tokenised: done again when needed",
    "windows": "batches fetched over HTTP: fetched again when needed",
}


def main() -> None:
    """Print the sizes; with --free, delete all entries of these kinds first."""
    parser = command_parser("space", __doc__, EXAMPLES)
    parser.add_argument(
        "--free", nargs="+", choices=[*KINDS, DAMAGED], default=[], help="delete all entries of these kinds"
    )
    store = store_at(Path("multirun"))
    free = parser.parse_args().free
    if not store.root.is_dir():
        sys.stdout.write(f"there is no store at {store.root} yet: the first run makes it\n")
        return
    freed = store.tidy() + (store.delete_damaged() if DAMAGED in free else 0)
    for entry in store.usage():
        if entry.kind in free:
            freed += _free(store, entry)
    for parts in store.root.glob("*/.*.download"):  # parts of a checkpoint whose download was cut short
        if parts.parent.name in free:
            with store.lease(parts.parent.name, parts.name.removesuffix(".download").removeprefix(".")):
                freed += sum(file.stat().st_size for file in parts.glob("*"))
                shutil.rmtree(parts, ignore_errors=True)
    _show(store)
    sys.stdout.write(f"freed {freed / 1e6:.1f} MB\n")


def _free(store: Store, entry: Entry) -> int:
    """Drop an entry, whatever works on it or starts from it having ended first; the bytes freed.

    An interim state that a run needs is left to that run, which drops it itself.
    """
    waits = False
    while True:
        with store.lease(entry.kind, entry.key):
            if store.drop(entry.kind, entry.key):
                return entry.bytes
        if entry.kind == INTERIM:
            return 0
        if not waits:
            users = ", ".join(map(str, store.claims.holders(entry.key)))
            sys.stdout.write(f"waiting for {users}, which needs {entry.kind}/{entry.key}\n")
            sys.stdout.flush()
            waits = True
        stop_signals.pause(POLL_S)


def _show(store: Store) -> None:
    """Print the size of each kind, and what nobody needs any more."""
    sys.stdout.write(f"{store.root}\n")
    usage = store.usage()
    for kind, meaning in KINDS.items():
        sizes = [entry.bytes for entry in usage if entry.kind == kind]
        sys.stdout.write(f"{kind:11} {len(sizes):6} entries {sum(sizes) / 1e6:10.1f} MB   {meaning}\n")
    if damaged := store.damaged():
        size = sum(entry.bytes for entry in damaged) / 1e6
        sys.stdout.write(f"{DAMAGED:11} {len(damaged):6} entries {size:10.1f} MB   set aside; --free deletes them\n")
    if unneeded := [entry for entry in usage if entry.kind == INTERIM and not store.claims.holders(entry.key)]:
        size = sum(entry.bytes for entry in unneeded) / 1e6
        sys.stdout.write(
            f"{len(unneeded)} of the interim states, {size:.1f} MB, are of runs that no process works on\n"
        )
