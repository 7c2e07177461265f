"""Names outcomes in the glossary's words with their units, and writes numbers for people."""

from __future__ import annotations

import math

from sweep.analysis.outcomes import ALL_TASKS, HELDOUT, Outcome

NAMES = {
    "loss": "loss",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "correct_prob": "probability of the right answer",
    "norm_correct_prob": "probability of the right answer among the choices",
    "margin": "margin of the right answer",
}
"""Metric -> the words for it; accuracies and other metrics are called as they are stored."""
TIMES = ((3600.0, "hours"), (60.0, "minutes"), (0.0, "seconds"))
NUMBERS = ((1e9, " billion"), (1e6, " million"), (0.0, ""))


def words(outcome: Outcome) -> str:
    """The outcome for people: `held-out loss`, `mean of core8`, `bits per byte of core8`."""
    task, _, limit = outcome.task.partition(":")
    if outcome.metric == "loss" and task == HELDOUT:
        text = "held-out loss"
    elif task == ALL_TASKS:
        text = f"{NAMES.get(outcome.metric, outcome.metric)}, mean over all tasks"
    elif outcome.metric == "mean_bits_per_byte":
        text = f"bits per byte of the right answers of {task}"
    elif outcome.metric == "mean":
        text = f"mean score of {task}"
    else:
        text = f"{NAMES.get(outcome.metric, outcome.metric)} of {'held-out text' if task == HELDOUT else task}"
    return f"{text} ({limit} documents a task)" if limit.isdigit() and task != HELDOUT else text


def unit(outcome: Outcome) -> tuple[float, str]:
    """The factor and the unit in which an outcome is written and drawn; no unit if its name has it."""
    if outcome.metric.startswith(("acc", "best", "mean")) and not outcome.metric.endswith("bits_per_byte"):
        return 100.0, "points of %"
    if outcome.metric == "loss":
        return 1.0, "nats per token"
    if "bits_per_byte" in outcome.metric:
        return 1.0, "bits per byte"
    return 1.0, ""


def level_unit(outcome: Outcome) -> str:
    """The unit of the outcome itself, where `unit` has that of a difference."""
    return unit(outcome)[1].replace("points of ", "")


def amount(outcome: Outcome, value: float, half: float | None = None) -> str:
    """A difference in the outcome's unit, with half the width of its interval if that is known: `0.286 ± 0.012 …`."""
    factor, name = unit(outcome)
    return f"{number(factor * value, None if half is None else factor * half)} {name}".rstrip()


def number(value: float, half: float | None = None) -> str:
    """A number, and half the width of its interval, to two digits of the latter; three digits if there is none."""
    if half is None or not 0 < half < math.inf:
        return f"{value:.3g}"
    places = max(0, 1 - math.floor(math.log10(float(f"{half:.1e}"))))
    return f"{value:.{places}f} ± {half:.{places}f}"


def duration(seconds: float) -> str:
    """`25 seconds`, `3.2 minutes`."""
    size, word = next((size, word) for size, word in TIMES if seconds >= 1.5 * size)
    return f"{seconds / (size or 1):.2g} {word}"


def count(value: float) -> str:
    """`3.3 million`."""
    size, word = next((size, word) for size, word in NUMBERS if value >= size)
    return f"{value / size:.3g}{word}" if size else f"{value:,.0f}"


def listed(names: list[str], most: int = 4) -> str:
    """`a, b and c`; of more than `most` names, the first ones and how many more there are."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} others"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def capital(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]
