"""Turns the logs of OLMo's constant-rate trainings into the table that `sweep report --table` reads.

The logs are allenai/OLMo, branch ladder-1xC, scripts/scaling/data/peteish-moreeval* (Apache-2.0): models of 190M, 370M
and 1B parameters along a constant learning rate, and annealed from it to a tenth of the rate over the last tenth of
0.5, 1, 2, 5 and 10 times Chinchilla's tokens.

    python bench/olmo_wsd_table.py ../shared/data/olmo_wsd olmo_wsd.csv
    sweep report --table olmo_wsd.csv --outcome loss/c4,bits_per_byte/tasks9,acc_norm/tasks8 --out olmo_wsd
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

SIZES = ("190M", "370M", "1B")
LENGTHS = ("0.5", "1", "2", "5", "10")
"""In times Chinchilla's tokens."""
KIND = "the last tenth"
TASKS = ("hellaswag", "arc_easy", "arc_challenge", "boolq", "csqa", "openbookqa", "piqa", "socialiqa", "winogrande")
MMLU = ("stem", "humanities", "social_sciences", "other")
LR, STEP, TOKENS = "optim/learning_rate_group0", "_step", "throughput/total_tokens"


def outcomes() -> dict[str, list[str]]:
    """Each outcome of the table, and the columns of a log that it is the mean of; validation splits, 5 shots."""
    likelihood, accuracy = "eval/downstream_bpb/{}_val_rc_5shot_bpb", "eval/downstream/{}_val_rc_5shot_len_norm"
    groups, right = [f"mmlu_{group}" for group in MMLU], [task for task in TASKS if task != "boolq"]
    means = {
        "loss/c4": ["eval/c4_en-validation/CrossEntropyLoss"],
        "bits_per_byte/tasks9": [likelihood.format(task) for task in TASKS],
        "bits_per_byte/mmlu": [likelihood.format(group) for group in groups],
        "acc_norm/tasks8": [accuracy.format(task) for task in right],
        "acc_norm/mmlu": [accuracy.format(group) for group in groups],
    }
    sets = ("dolma_books", "dolma_common-crawl", "dolma_pes2o", "dolma_reddit", "dolma_stack", "dolma_wiki", "ice")
    sets = (*sets, "m2d2_s2orc", "pile", "wikitext_103")
    means |= {f"loss/{name}": [f"eval/{name}-validation/CrossEntropyLoss"] for name in sets}
    means |= {f"bits_per_byte/{task}": [likelihood.format(task)] for task in TASKS}
    return means | {f"acc_norm/{task}": [accuracy.format(task)] for task in right}


def rows(log: Path, of: Mapping[str, Sequence[str]], **identity: str) -> pd.DataFrame:
    """The evaluations of one log."""
    logged = pd.read_csv(log)
    means = {name: logged[list(columns)].mean(axis=1, skipna=False) for name, columns in of.items()}
    steps = {"step": logged[STEP].astype(int), "tokens": logged[TOKENS], "lr": logged[LR]}
    return pd.DataFrame({**steps, **means}).assign(**identity)


def fork(anneal: pd.DataFrame) -> dict[str, float]:
    """Where an anneal began: the line of its falling rates, followed back to the constant one."""
    peak = anneal["lr"].max()
    falling = anneal[anneal["lr"] < 0.9999 * peak].iloc[:-1]  # the last rate was logged a few updates late
    first, last = falling.iloc[0], falling.iloc[-1]
    step = first["step"] + (peak - first["lr"]) * (last["step"] - first["step"]) / (last["lr"] - first["lr"])
    return {"step": round(step), "tokens": first["tokens"] * step / first["step"], "lr": peak}


def olmo_wsd(folder: Path) -> pd.DataFrame:
    """The whole table. An anneal begins with a row without outcomes, which says where its learning rate bends."""
    parts, of = [], outcomes()
    for size in SIZES:
        parts.append(rows(folder / "constant" / f"{size}.csv", of, training=size, arm="none", anneal=""))
        parts[-1]["checkpoint"] = [f"step{step}" for step in parts[-1]["step"]]
        for length in LENGTHS:
            identity = {"training": size, "arm": "decay", "anneal": KIND, "checkpoint": f"{length}xC"}
            anneal = rows(folder / "decay" / f"{size}-{length}xC.csv", of, **identity)
            begun = fork(anneal)
            parts += [pd.DataFrame([begun | identity]), anneal[anneal["step"] > begun["step"]]]
    table = pd.concat(parts, ignore_index=True)
    return table[["training", "checkpoint", "arm", "anneal", "step", "tokens", "lr", *of]]


if __name__ == "__main__":
    folder, file = (Path(word) for word in sys.argv[1:3])
    olmo_wsd(folder).to_csv(file, index=False)
