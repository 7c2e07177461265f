"""Figures of the whole sweep: checkpoints as saved and annealed, which axis matters, which task separates settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep.analysis.answers import Answers
from sweep.analysis.effects import MATTERS, Effect
from sweep.analysis.gains import Z
from sweep.analysis.outcomes import Outcome
from sweep.analysis.signal_to_noise import THRESHOLD
from sweep.page.style import COLORS, GREY, LIGHT, panels, tokens_unit, unit

MOST_TERMS, MOST_TASKS = 12, 24
REFERENCES: dict[str, dict[str, float]] = {
    "OLMo-1B": {"arc_challenge": 34.5, "arc_easy": 58.1, "boolq": 60.7, "hellaswag": 62.5, "openbookqa": 46.4}
    | {"piqa": 73.7, "sciq": 88.1, "winogrande": 58.9, "mean": 60.4},
    "OLMo-7B annealed": {"arc_challenge": 48.5, "arc_easy": 65.4, "boolq": 73.4, "hellaswag": 76.4}
    | {"openbookqa": 50.4, "piqa": 78.4, "sciq": 93.8, "winogrande": 67.9, "mean": 69.3},
}
"""Scores in % by the protocol of core8-olmo1: Table 3 of the OLMo paper (arXiv 2402.00838)."""


def checkpoints(answers: Answers) -> Figure | None:
    """Scores over tokens seen, with an arrow from as saved to annealed: Figure 1 of the OLMo paper with intervals."""
    outcomes = [o for o in answers.outcomes if any(scores.outcome == o.name for scores in answers.checkpoints)]
    if not outcomes:
        return None
    order = list(dict.fromkeys(scores.outcome for scores in answers.checkpoints))
    outcomes.sort(key=lambda o: order.index(o.name))
    figure, grid = panels(outcomes, width=3.2, height=2.9, across=4)
    for axes, outcome in grid:
        scores = [s for s in answers.checkpoints if s.outcome == outcome.name]
        factor, word = unit(outcome)
        size, size_word = tokens_unit(max(s.tokens for s in scores))
        tokens = np.array([s.tokens for s in scores]) / size
        beside = tokens + 0.05 * (float(np.ptp(tokens)) or float(tokens.max()))
        raw, annealed = factor * np.array([s.raw for s in scores]), factor * np.array([s.annealed for s in scores])
        raw_half = factor * Z * np.array([s.raw_stderr for s in scores])
        annealed_half = factor * Z * np.array([s.annealed_stderr for s in scores])
        axes.errorbar(tokens, raw, raw_half, linestyle="--", linewidth=1, color=GREY, marker="o", label="as saved")
        axes.errorbar(beside, annealed, annealed_half, linestyle="", color=COLORS[1], marker="^", label="annealed")
        for x, y, u, v in zip(tokens, raw, beside, annealed, strict=True):
            axes.annotate("", (u, v), (x, y), arrowprops={"arrowstyle": "->", "color": COLORS[1]})
        _references(axes, answers, outcome)
        axes.set(title=outcome.name, xlabel=f"tokens seen ({size_word})", ylabel=word if factor == 1 else "%")
        if len(scores) == 1:
            axes.set_xlim(0.9 * tokens[0], 1.15 * tokens[0])
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def effects(answers: Answers) -> Figure | None:
    """The share of each axis and interaction in the variance of the gain, with the noise floor on each bar."""
    by_outcome = {o.name: [e for e in answers.effects if e.outcome == o.name] for o in answers.primary}
    return effect_bars(by_outcome, of="the gain")


def effect_bars(by_outcome: Mapping[str, Sequence[Effect]], *, of: str) -> Figure | None:
    """The same for any effects on `of`, a panel for each outcome."""
    largest = {
        name: sorted(effects, key=lambda e: e.share_percent)[-MOST_TERMS:]
        for name, effects in by_outcome.items()
        if effects
    }
    if not largest:
        return None
    figure, grid = panels(list(largest), width=5.2, height=0.9 + 0.36 * max(map(len, largest.values())))
    for axes, name in grid:
        bars, places = largest[name], np.arange(len(largest[name]))
        colors = [COLORS[0] if e.verdict == MATTERS else LIGHT for e in bars]
        axes.barh(places, [e.share_percent for e in bars], color=colors)
        floors = [e.floor_percent for e in bars if e.floor_percent is not None]
        note = "no run is repeated, so the noise is unknown"
        if floors:
            axes.plot(floors, places, linestyle="", marker="|", markersize=14, markeredgewidth=2.2, color=COLORS[1])
            note = "blue: matters; mark: noise stays below, 95 %"
        axes.set_yticks(places, [e.term.replace("anneal.", "").replace(":", " × ") for e in bars])
        axes.set_xlim(0, 100)
        axes.set(xlabel=f"share of the variance of {of} (%)", title=f"{name}\n{note}")
        axes.grid(axis="y", visible=False)
    return figure


def signal_to_noise(answers: Answers) -> Figure | None:
    """The signal-to-noise ratio of every outcome, with the line above which ranks mean something."""
    known = [(task.ratio, task) for task in answers.tasks if task.ratio is not None and np.isfinite(task.ratio)]
    if not known:
        return None
    best = sorted(known, key=lambda pair: pair[0])[-MOST_TASKS:]
    number = f"the best {len(best)} of {len(known)} outcomes; " if len(best) < len(known) else ""
    title = f"{number}ranks mean something right of {THRESHOLD:g}"
    figure, ((axes, _),) = panels([title], width=7.0, height=0.9 + 0.22 * len(best))
    colors = [COLORS[0] if task.separates else LIGHT for _, task in best]
    axes.barh(range(len(best)), [ratio for ratio, _ in best], color=colors)
    axes.axvline(THRESHOLD, color=COLORS[1], linewidth=2)
    axes.set_yticks(range(len(best)), [task.outcome for _, task in best], fontsize=8)
    axes.set_ylim(-0.6, len(best) - 0.4)
    axes.set(xlabel="signal-to-noise: spread of the settings / spread between seeds (of the gain)", title=title)
    axes.grid(axis="y", visible=False)
    return figure


def _references(axes: Axes, answers: Answers, outcome: Outcome) -> None:
    """Draw the scores of the paper if the task's scores are of its protocol."""
    if "tasks.suites.core8-olmo1.protocol" not in answers.runs or outcome.metric == "mean_above_chance":
        return
    if outcome.metric.startswith(("acc", "mean")):
        for (name, scores), style in zip(REFERENCES.items(), (":", "-."), strict=True):
            score = scores.get("mean" if outcome.metric == "mean" else outcome.task)
            if score is not None:
                axes.axhline(score, color=COLORS[2], linestyle=style, linewidth=1.2, label=name)
