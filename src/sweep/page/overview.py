"""Figures of the whole: checkpoints raw and annealed, which axis matters, which task can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep.analysis.answers import Answers
from sweep.analysis.effects import Effect
from sweep.analysis.gains import Z
from sweep.analysis.outcomes import Outcome
from sweep.analysis.signal_to_noise import LINE
from sweep.page.style import COLORS, GREY, panels, tokens_unit, unit

MOST_TERMS, MOST_TASKS = 12, 24
REFERENCES: dict[str, dict[str, float]] = {
    "OLMo-1B": {"arc_challenge": 34.5, "arc_easy": 58.1, "boolq": 60.7, "hellaswag": 62.5, "openbookqa": 46.4}
    | {"piqa": 73.7, "sciq": 88.1, "winogrande": 58.9, "mean": 60.4},
    "OLMo-7B annealed": {"arc_challenge": 48.5, "arc_easy": 65.4, "boolq": 73.4, "hellaswag": 76.4}
    | {"openbookqa": 50.4, "piqa": 78.4, "sciq": 93.8, "winogrande": 67.9, "mean": 69.3},
}
"""Table 3 of the OLMo paper (arXiv 2402.00838), in %: core8-olmo1's protocol."""


def arrows(answers: Answers) -> Figure | None:
    """Score against tokens seen, raw and annealed points joined: Figure 1 of the OLMo paper with intervals."""
    names = list(dict.fromkeys(point.outcome for point in answers.ranked))
    if not names:
        return None
    outcomes = {o.name: o for o in answers.outcomes}
    figure, grid = panels(len(names), width=3.2, height=2.9, across=4)
    for axes, name in zip(grid, names, strict=True):
        outcome = outcomes[name]
        factor, word = unit(outcome)
        points = [p for p in answers.ranked if p.outcome == name]
        size, word_of_tokens = tokens_unit(max(p.tokens for p in points))
        tokens = np.array([p.tokens for p in points]) / size
        raw, annealed = (factor * np.array([getattr(p, w) for p in points]) for w in ("raw", "annealed"))
        errors = [factor * Z * np.array([getattr(p, f"{w}_stderr") for p in points]) for w in ("raw", "annealed")]
        beside = tokens + 0.05 * (float(np.ptp(tokens)) or float(tokens.max()))
        axes.errorbar(tokens, raw, errors[0], linestyle="--", linewidth=1, color=GREY, marker="o", label="as saved")
        axes.errorbar(beside, annealed, errors[1], linestyle="", color=COLORS[1], marker="^", label="annealed")
        for x, y, u, v in zip(tokens, raw, beside, annealed, strict=True):
            axes.annotate("", (u, v), (x, y), arrowprops={"arrowstyle": "->", "color": COLORS[1]})
        _references(axes, answers, outcome)
        axes.set(title=name, xlabel=f"tokens seen ({word_of_tokens})", ylabel=word if factor == 1 else "%")
        if len(points) == 1:
            axes.set_xlim(0.9 * tokens[0], 1.15 * tokens[0])
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def effects(answers: Answers) -> Figure | None:
    """Share of the variance of each axis and interaction, the noise floor on each bar."""
    by_outcome = {o.name: [e for e in answers.effects if e.outcome == o.name] for o in answers.primary}
    return effect_bars(by_outcome, of="the gain")


def effect_bars(by_outcome: Mapping[str, Sequence[Effect]], *, of: str) -> Figure | None:
    """The same of any effects on `of`, a panel an outcome."""
    shown = {name: mine for name, mine in by_outcome.items() if mine}
    if not shown:
        return None
    figure, grid = panels(len(shown), width=5.2, height=0.9 + 0.36 * min(MOST_TERMS, max(map(len, shown.values()))))
    for axes, (name, mine) in zip(grid, shown.items(), strict=True):
        mine = sorted(mine, key=lambda e: e.share_percent)[-MOST_TERMS:]
        colors = [COLORS[0] if e.verdict == "matters" else "#c8c8c8" for e in mine]
        places = np.arange(len(mine))
        axes.barh(places, [e.share_percent for e in mine], color=colors)
        floors: list[Any] = [e.floor_percent for e in mine]
        if None not in floors:
            axes.plot(floors, places, linestyle="", marker="|", markersize=14, markeredgewidth=2.2, color=COLORS[1])
        axes.set_yticks(places, [e.term.replace("anneal.", "").replace(":", " × ") for e in mine])
        axes.set_xlim(0, 100)
        note = "no run repeated: can't tell noise" if None in floors else "blue: matters; bar: noise stays below, 95 %"
        axes.set(xlabel=f"share of the variance of {of} (%)", title=f"{name}\n{note}")
        axes.grid(axis="y", visible=False)
    return figure


def trusted(answers: Answers) -> Figure | None:
    """Signal over noise of every outcome, the line from which ranks are shown."""
    known = [t for t in answers.signal_to_noise if t.ratio is not None and np.isfinite(t.ratio)]
    if not known:
        return None
    mine = sorted(known, key=lambda t: t.ratio or 0.0)[-MOST_TASKS:]
    shown = f"the best {len(mine)} of {len(known)} outcomes; " if len(mine) < len(known) else ""
    figure, (axes,) = panels(1, width=7.0, height=0.9 + 0.22 * len(mine))
    colors = [COLORS[0] if t.trusted else "#c8c8c8" for t in mine]
    axes.barh(range(len(mine)), [t.ratio or 0.0 for t in mine], color=colors)
    axes.axvline(LINE, color=COLORS[1], linewidth=2)
    axes.set_yticks(range(len(mine)), [t.outcome for t in mine], fontsize=8)
    axes.set_ylim(-0.6, len(mine) - 0.4)
    axes.set(
        xlabel="spread of the settings / spread between seeds (of the gain)",
        title=f"{shown}ranks count right of {LINE:g}",
    )
    axes.grid(axis="y", visible=False)
    return figure


def _references(axes: Axes, answers: Answers, outcome: Outcome) -> None:
    """The paper's rows, where the scores are of its protocol."""
    task, suite = outcome.task, "tasks.suites.core8-olmo1.protocol"
    if (
        suite not in answers.runs
        or not outcome.metric.startswith(("acc", "mean"))
        or outcome.metric == "mean_above_chance"
    ):
        return
    for (name, row), style in zip(REFERENCES.items(), (":", "-."), strict=True):
        value = row.get("mean" if outcome.metric == "mean" else task)
        if value is not None:
            axes.axhline(value, color=COLORS[2], linestyle=style, linewidth=1.2, label=name)
