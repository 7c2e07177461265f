"""`sweep export RUN OUT`: write an annealed model as a Hugging Face folder that transformers loads.

RUN is one of
  a run          its folder multirun/NAME/RUN, or the last part of that
  a checkpoint   an OLMo unsharded folder (config.yaml, model.safetensors or .pt)
  a state        its key in the store (results list it as final_state), or the beginning of its key

OUT gets config.json, model.safetensors (fp32), generation_config.json and the tokenizer. Then this loads it:
  from transformers import AutoModelForCausalLM, AutoTokenizer
  model, tokenizer = AutoModelForCausalLM.from_pretrained(OUT), AutoTokenizer.from_pretrained(OUT)
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from pathlib import Path

from sweep.commands.command_line import command_parser, refusals
from sweep.domain.errors import Refusal
from sweep.planning.commands import command, replaced, words_of
from sweep.sweeps.run_folders import MULTIRUN
from sweep.system.store import Store, store_at
from sweep.tracking import outcome, read

STATES = "states"
EXAMPLES = """\
sweep export tiny-s-step2000_linear_1000-1a2b3c4d out/tiny-s-annealed
sweep export multirun/store/states/1a2b3c4d5e6f out/model --tokenizer tokenizer.json
"""


@refusals()
def main() -> None:
    """Write the folder and print the call that loads it."""
    parser = command_parser("export", __doc__, EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="what to export; see above")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write; new or empty")
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json; default: the one the training names")
    chosen = parser.parse_args()
    export(chosen.run, chosen.out, multirun=MULTIRUN, tokenizer=chosen.tokenizer)
    sys.stdout.write(f"{chosen.out}: AutoModelForCausalLM.from_pretrained({str(chosen.out)!r}) loads it\n")


def export(run: str, out: Path, *, multirun: Path, tokenizer: str | None = None) -> None:
    """Write `out`, whole or not at all; Refusal if there is nothing to export, or transformers has no class for it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refusal(f"OUT={out} is there already; allowed: a new or an empty folder")
    store = store_at(multirun)
    folder = checkpoint_folder(run, multirun=multirun, store=store)

    from sweep.checkpoints import export_folder, read_config
    from sweep.run.text_rules import model_tokenizer

    try:
        config = read_config(folder, optimizer=False)
    except (OSError, ValueError) as error:
        raise Refusal(f"RUN={run}: {error}") from error
    named = tokenizer or config.tokenizer.identifier
    words = model_tokenizer(store, named, config.model, key=f"--tokenizer={tokenizer}")
    part = out.absolute().parent / f".{out.name}.{uuid.uuid4().hex}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        export_folder(folder, config, part, tokenizer=words.file, rules=words.rules)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def checkpoint_folder(run: str, *, multirun: Path, store: Store) -> Path:
    """The checkpoint folder that RUN names; Refusal, which lists the runs, if it names none."""
    path = Path(run)
    if (path / "journal.jsonl").is_file():
        return _annealed(path, store)
    if (path / "config.yaml").is_file():
        return path
    if not path.is_absolute() and (runs := sorted(multirun.glob(f"*/{path.name}/journal.jsonl"))):
        return _annealed(_preferred([file.parent for file in runs]), store)
    keys = sorted(key for key in store.keys(STATES) if run and key.startswith(run))
    if len(keys) == 1 and (folder := store.get(STATES, keys[0])) is not None:
        return folder
    if len(keys) > 1:
        raise Refusal(f"RUN={run} begins {len(keys)} keys of the store: {', '.join(keys[:4])}")
    raise Refusal(
        f"RUN={run} is no run under {multirun}, no OLMo unsharded checkpoint folder and no state in {store.root}; "
        f"runs there: {', '.join(_runs(multirun)) or 'none'}"
    )


def _annealed(run: Path, store: Store) -> Path:
    """The annealed state of a finished run; Refusal if it has none, or if the state was not kept."""
    last = outcome(run)
    if last is None or last["status"] != "finished":
        raise Refusal(f"{run} has no result: {'it has not ended' if last is None else last['status']}")
    key = last["result"]["final_state"]
    if (folder := store.get(STATES, key)) is not None:
        return folder
    attempt = read(run, steps=False).attempts[-1]
    if attempt["params"].get("arm") == "none":  # journals of before there were controls have no such param
        raise Refusal(f"nothing was annealed in {run.name}: export its checkpoint, which the run only scored")
    again = replaced(words_of(attempt["command"]), ("name", "anneal.keep"), ("name=kept", "anneal.keep=true"))
    raise Refusal(
        f"the annealed state {key} of {run.name} is not in {store.root}: it was not kept, or it was freed. "
        f"To have it again:\n  {command(again)}"
    )


def _preferred(runs: list[Path]) -> Path:
    """The first finished one of these runs, which have one name in several sweeps; the first one if none finished."""
    return next((run for run in runs if (last := outcome(run)) and last["status"] == "finished"), runs[0])


def _runs(multirun: Path, most: int = 5) -> list[str]:
    """Names of the runs that were active last."""
    journals = sorted(multirun.glob("*/*/journal.jsonl"), key=lambda file: -file.stat().st_mtime)
    return [file.parent.name for file in journals[:most]]
