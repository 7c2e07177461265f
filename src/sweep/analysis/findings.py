"""The answers in sentences, and the runs worth making next as commands."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from sweep.analysis.answers import Answers, settings_text
from sweep.analysis.effects import MATTERS, UNDER, UNSURE
from sweep.analysis.factors import Axis
from sweep.analysis.gains import BETTER, WORSE, Gain
from sweep.planning.commands import command, key_of, override, replaced, words_of

MOST_SUGGESTED = 3
CHANCE = 0.025
"""The part of comparisons without a true difference that a test at 5 % calls better, or worse."""
PROMISING = 0.1
"""Least expected improvement of a suggested run on the best setting, in standard deviations between seeds."""
GROUPS = ("model", "data")
"""Axes whose levels are options of a group."""
MATCHED_CONTROL = "the matched control (the same updates at the constant current LR)"
ENDED = {"failed": "failed", "interrupted": "was interrupted"}


def findings(answers: Answers) -> dict[str, list[str]]:
    """The sentences that answer each question, without questions that have none."""
    sentences = {
        "What was run?": _runs(answers),
        "Did annealing help?": _helped(answers),
        "Which axis matters?": (s for part in (_mattering(answers), _not_separable(answers)) for s in part),
        "What is best, and how flat is it?": _best(answers),
        "How good is each checkpoint really?": _checkpoints(answers),
        "Which tasks tell settings apart at this size?": _separating(answers),
        "What would other runs give?": _law_errors(answers),
    }
    listed = {question: list(answer) for question, answer in sentences.items()}
    return {question: answer for question, answer in listed.items() if answer}


def next_commands(answers: Answers) -> list[tuple[str, str]]:
    """The runs worth making next: why, and the command."""
    anneals = answers.runs[answers.runs["arm"] == "decay"] if "arm" in answers.runs else answers.runs[:0]
    anneals = anneals.dropna(subset=["command"])
    if anneals.empty:
        return []
    unfinished = _unfinished(answers).head(MOST_SUGGESTED)
    suggested = [(f"{row['name']} {ENDED[row['status']]}.", row["command"]) for _, row in unfinished.iterrows()]
    best = next((setting for setting in answers.settings if setting.best), None)
    if best is not None and answers.noise and all(noise.sd is None for noise in answers.noise):
        alike = anneals[anneals["checkpoint"] == best.checkpoint_digest]
        words = words_of(_nearest(alike if len(alike) else anneals, best.settings)["command"])
        why = "This measures the noise between seeds, without which no axis can be said to matter."
        suggested.append((why, command(replaced(words, ["seed"], ["seed=1,2"]), multirun=True)))
    for outcome in answers.primary:
        if {e.verdict for e in answers.effects if e.outcome == outcome.name} == {UNDER}:
            continue  # all differences may be noise, so no prediction is of use
        sd = next((noise.sd for noise in answers.noise if noise.outcome == outcome.name), None) or 0.0
        improvements = [(p, p.expected_improvement or 0.0) for p in answers.predictions if p.outcome == outcome.name]
        promising = [p for p, improvement in improvements if improvement and improvement >= PROMISING * sd]
        for p in promising[:MOST_SUGGESTED]:
            why = f"{outcome.name}: the expected delta is {p.value:+.4g} (95 % interval {p.low:+.4g} to {p.high:+.4g})."
            suggested.append((why, command(suggested_words(anneals, answers.axes, dict(p.settings)))))
    return suggested


def suggested_words(anneals: pd.DataFrame, axes: Sequence[Axis], settings: Mapping[str, object]) -> list[str]:
    """The overrides of a setting that was not run: those of the run nearest to it, and what it has otherwise.

    A level that some run has is taken from that run, with the choices that move with it.
    """
    nearest = _nearest(anneals, tuple(settings.items()))
    words = words_of(nearest["command"])
    for axis in sorted(axes, key=lambda axis: axis.name not in GROUPS):
        if axis.name not in settings or nearest[axis.name] == settings[axis.name]:
            continue
        same = anneals[anneals[axis.name] == settings[axis.name]]
        together = (axis.name, *axis.moves_with) if len(same) else (axis.name,)
        groups = [name for name in together if name in GROUPS]
        for name in groups:  # an option brings many leaves, so all its words are the other run's
            theirs = [w for w in words_of(same.iloc[0]["command"]) if f"{key_of(w)}.".startswith(f"{name}.")]
            words = replaced(words, [name], theirs)
        for name in together:
            if name.partition(".")[0] in groups or name.endswith(".digest"):  # a digest is no choice: what a file held
                continue
            level = same.iloc[0][name] if len(same) else settings[name]
            words = replaced(words, [name], [override(name, _value(level))])
    return words


def _nearest(anneals: pd.DataFrame, settings: Sequence[tuple[str, object]]) -> pd.Series:
    """The run with the most of these levels; options of groups count before all else."""
    shared = [sum((2 * len(settings) if name in GROUPS else 1) * (row[name] == level) for name, level in settings)
              for _, row in anneals.iterrows()]  # fmt: skip
    return anneals.iloc[int(np.argmax(shared))]


def _value(level: object) -> object:
    """A level of the table as a plain value: the table has null, and lists, as text, and numbers as numpy has them."""
    if isinstance(level, np.generic):
        return level.item()
    if isinstance(level, str) and (level == "null" or level.startswith(("[", "{"))):
        with contextlib.suppress(ValueError):
            return json.loads(level)
    return level


def _unfinished(answers: Answers) -> pd.DataFrame:
    return answers.runs[answers.runs["status"].isin(list(ENDED))]


def _runs(answers: Answers) -> Iterator[str]:
    counts = answers.runs["status"].value_counts()
    yield f"{len(answers.runs)} runs: " + ", ".join(f"{count} {status}" for status, count in counts.items()) + "."
    for axis in answers.axes:
        together = f" (moves with {', '.join(axis.moves_with)})" if axis.moves_with else ""
        yield f"{axis.name}: {_levels(axis)}{together}."
    for _, row in _unfinished(answers).head(10).iterrows():
        error = f": {row['error'].strip().rpartition(chr(10))[2]}" if isinstance(row["error"], str) else "."
        yield f"{row['name']} {ENDED[row['status']]}{error}"
    if not any(axis.continuous for axis in answers.axes):
        grid = math.prod(len(axis.levels) for axis in answers.axes)
        finished = answers.finished_anneals()[[axis.name for axis in answers.axes]].drop_duplicates()
        if answers.axes and grid > len(finished):
            yield (
                f"{grid - len(finished)} settings of the full grid have no finished run, so all shares are those of"
                " the settings that were run."
            )


def _levels(axis: Axis) -> str:
    if axis.continuous:
        return f"{len(axis.levels)} values from {axis.levels[0]:g} to {axis.levels[-1]:g}"
    return ", ".join(f"{level:g}" if isinstance(level, float) else str(level) for level in axis.levels)


def _helped(answers: Answers) -> Iterator[str]:
    for outcome in answers.primary:
        for against, name in (("checkpoint", "the checkpoint"), ("constant", MATCHED_CONTROL)):
            of_outcome = [g for g in answers.gains if g.outcome == outcome.name and g.arm == "decay"]
            if gains := [g for g in of_outcome if g.against == against]:
                yield f"{outcome.name} against {name}: {_compared(answers, gains)}"


def _compared(answers: Answers, gains: Sequence[Gain]) -> str:
    better, worse = (sum(g.verdict == verdict for g in gains) for verdict in (BETTER, WORSE))
    by_chance = f"{CHANCE * len(gains):.1f}"
    finished = len(answers.finished_anneals())
    note = f" {len(gains)} of {finished} anneals were compared, the best by {answers.primary[0].name} first."
    return (
        f"{better} of {len(gains)} anneals are better, {worse} are worse, and the others can't be told apart from it."
        f"{note if len(gains) < finished else ''} If no anneal had an effect, about {by_chance} would be better"
        f" and {by_chance} worse by chance. The documents of a run show differences from about"
        f" {pd.Series([g.detectable for g in gains]).median():.3g}."
    )


def _mattering(answers: Answers) -> Iterator[str]:
    for outcome in answers.primary:
        effects = sorted((e for e in answers.effects if e.outcome == outcome.name), key=lambda e: -e.share_percent)
        if not effects:
            continue
        noise = next(noise for noise in answers.noise if noise.outcome == outcome.name)
        if noise.sd is None:
            yield (
                f"{outcome.name}: no run is repeated with another seed, so effects can't be told apart from noise. The"
                f" largest share is that of {effects[0].term}, {effects[0].share_percent:.1f} %."
            )
            continue
        matter = [f"{e.term} ({e.share_percent:.1f} %)" for e in effects if e.verdict == MATTERS]
        yield (
            f"{outcome.name}: {', '.join(matter) or 'nothing'} {'are' if len(matter) > 1 else 'is'} above the noise"
            f" floor. Seeds differ by a standard deviation of {noise.sd:.3g} ({noise.df} degrees of freedom)."
        )
        if unsure := [e.term for e in answers.effects if e.outcome == outcome.name and e.verdict == UNSURE]:
            yield (
                f"{outcome.name}: {', '.join(unsure)} can't be judged. The effect is more than noise, but the drawn"
                " values in another order may explain as much. More settings would decide it."
            )


def _not_separable(answers: Answers) -> Iterator[str]:
    """What the design of the sweep can't show, whatever the outcomes are."""
    terms = {e.term for e in answers.effects}
    for axis in answers.axes if terms else ():
        if axis.moves_with:
            yield f"{axis.name} moves with {', '.join(axis.moves_with)}: what is said of it may be their effect."
        if axis.name not in terms:
            yield f"{axis.name} has no share of its own: in these runs it can't be told apart from the other axes."
    if terms and len(answers.axes) > 1 and not any(":" in term for term in terms):
        yield "Interactions can't be estimated from these runs; their effects are part of the shares of the axes."


def _best(answers: Answers) -> Iterator[str]:
    for best in (setting for setting in answers.settings if setting.best):
        group = [
            s for s in answers.settings if (s.outcome, s.checkpoint_digest) == (best.outcome, best.checkpoint_digest)
        ]
        interval = "" if best.low is None else f" (95 % interval {best.low:+.4g} to {best.high:+.4g})"
        where = settings_text(best.settings) or "its only setting"
        text = f"{best.outcome}, {best.checkpoint}: the best is {where}, with a gain of {best.gain:+.4g}{interval}."
        if best.apart is not None:
            alike = sum(setting.apart is False for setting in group) - 1
            text += f" {alike} of {len(group) - 1} other settings can't be told apart from it"
            cheapest = next(setting for setting in group if setting.cheapest)
            text += "." if cheapest.best or not alike else f"; the cheapest is {settings_text(cheapest.settings)}."
        yield text


def _checkpoints(answers: Answers) -> Iterator[str]:
    primary = {outcome.name for outcome in answers.primary}
    for order in (order for order in answers.orders if order.outcome in primary):
        yield (
            f"{order.outcome}: the orders of {order.checkpoints} checkpoints as saved and as annealed have a rank"
            f" correlation of {order.tau:+.2f} (95 % interval {order.low:+.2f} to {order.high:+.2f})."
        )


def _separating(answers: Answers) -> Iterator[str]:
    known = [task for task in answers.tasks if task.separates is not None]
    if known:
        names = [task.outcome for task in known if task.separates]
        listed = ", ".join(names[:12]) or "none"
        yield f"{len(names)} of {len(known)} outcomes have settings further apart than seeds: {listed}."
    elif answers.tasks:
        yield "No run is repeated with another seed, so this can't be said."


def _law_errors(answers: Answers) -> Iterator[str]:
    for law in answers.laws:
        yield (
            f"The {law.law} law on {law.model} predicts settings left out of its fit with a root mean square error of"
            f" {law.cross_validation_error:.3g} nats; the losses themselves spread by {law.spread:.3g} nats."
        )
