"""The answers in sentences, and the runs worth making next as commands."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from sweep.analysis.answers import Answers
from sweep.analysis.effects import MATTERS, UNDER, UNSURE
from sweep.analysis.factors import Axis
from sweep.analysis.gains import BETTER, WORSE, Gain
from sweep.analysis.outcomes import Outcome
from sweep.analysis.ranking_findings import ranking_sentences
from sweep.analysis.settings import SettingGain, settings_text
from sweep.analysis.wording import amount, capital, listed, number, unit, words
from sweep.planning.commands import command, key_of, override, replaced, words_of

MOST_SUGGESTED = 3
CHANCE = 0.025
"""The part of comparisons without a true difference that a test at 5 % calls better, or worse."""
PROMISING = 0.1
"""Least expected improvement of a suggested run on the best setting, in standard deviations between seeds."""
MOST_NAMED = 5
"""Outcomes that a sentence names."""
LENGTH = "anneal.steps"
STRETCHED = (LENGTH, "anneal.peak_lr", "anneal.peak_scale")
"""Axes that may go on beyond their levels: twice the highest, half the lowest."""
HELPED, MATTERING, BEST = "Did annealing help?", "Which axis matters?", "What is best, and how flat is it?"
CHECKPOINTS, TASKS = "How good is each checkpoint really?", "Which tasks tell settings apart at this size?"
OTHERS, RUNS = "What would other runs give?", "What was run?"
TABLES_OF = {
    HELPED: ("gains",),
    MATTERING: ("effects", "levels", "noise", "importances"),
    BEST: ("settings",),
    CHECKPOINTS: ("checkpoints", "places", "orders"),
    TASKS: ("tasks",),
    OTHERS: ("laws", "predictions"),
    RUNS: ("runs",),
}
"""Question -> the tables from which it is answered; the questions are in the order of the report."""
GROUPS = ("model", "data")
"""Axes whose levels are options of a group."""
MATCHED_CONTROL = "the matched control (the same updates at the constant current LR)"
ENDED = {"failed": "failed", "interrupted": "was interrupted"}


def findings(answers: Answers) -> dict[str, list[str]]:
    """The sentences that answer each question, without questions that have none."""
    sentences = {
        HELPED: _helped(answers),
        MATTERING: (s for part in (_mattering(answers), _not_separable(answers)) for s in part),
        BEST: _best(answers),
        CHECKPOINTS: _checkpoints(answers),
        TASKS: _separating(answers),
        OTHERS: _law_errors(answers),
        RUNS: _runs(answers),
    }
    answered = {question: list(answer) for question, answer in sentences.items()}
    return {question: answer for question, answer in answered.items() if answer}


def next_commands(answers: Answers) -> list[tuple[str, str]]:
    """The runs worth making next, the most urgent first: why, and the command."""
    anneals = answers.runs[answers.runs["arm"] == "decay"] if "arm" in answers.runs else answers.runs[:0]
    anneals = anneals.dropna(subset=["command"])
    if anneals.empty:
        return []
    unfinished = _unfinished(answers).head(MOST_SUGGESTED)
    suggested = [(f"{row['name']} {ENDED[row['status']]}. It goes on with:", row["command"])
                 for _, row in unfinished.iterrows()]  # fmt: skip
    suggested += _for_noise(answers, anneals)
    suggested += _beyond_the_levels(answers, anneals)
    suggested += _for_control(answers, anneals)
    return [*suggested, *_predicted(answers, anneals)]


def _for_noise(answers: Answers, anneals: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The best setting with other seeds, if none is repeated."""
    best = next(_best_first(answers), None)
    if best is not None and answers.noise and all(noise.sd is None for noise in answers.noise):
        chosen = _words_of_best(anneals, best)
        yield "This measures the noise between seeds:", command(replaced(chosen, ["seed"], ["seed=1,2"]), multirun=True)


def _beyond_the_levels(answers: Answers, anneals: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The best setting with the next value of an axis that matters and whose best level is at the end of its levels."""
    matter = {(e.outcome, e.term) for e in answers.effects if e.verdict == MATTERS}
    suggested: dict[str, tuple[str, str]] = {}
    for best in (s for s in _best_first(answers) if s.gain > 0):
        levels = dict(best.settings)
        for axis in (a for a in answers.axes if a.name in STRETCHED and a.numeric and a.levels[0] > 0):
            if (best.outcome, axis.name) not in matter or axis.name in suggested or axis.moves_with:
                continue
            if levels.get(axis.name) == axis.levels[-1]:
                end, value = "highest", axis.levels[-1] * 2
            elif levels.get(axis.name) == axis.levels[0] and axis.name != LENGTH:
                end, value = "lowest", axis.levels[0] / 2
            else:
                continue
            chosen = replaced(_words_of_best(anneals, best), [axis.name], [override(axis.name, _value(_whole(value)))])
            why = f"The best {axis.name} is the {end} that was tried, so the best may lie beyond it:"
            suggested[axis.name] = why, command(chosen)
    yield from suggested.values()


def _whole(value: float) -> float:
    """A whole number as such: steps are counted."""
    return int(value) if value == int(value) else value


def _for_control(answers: Answers, anneals: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The best setting with its matched control, if no anneal has one."""
    best = next(_best_first(answers), None)
    if best is not None and not any(gain.against == "constant" for gain in answers.gains):
        chosen = replaced(_words_of_best(anneals, best), ["controls"], ["controls=[constant]"])
        why = (
            "No anneal has a matched control, so it isn't known how much of the gain is due to the falling learning"
            " rate and how much to more training. This tells:"
        )
        yield why, command(chosen, multirun=True)


def _predicted(answers: Answers, anneals: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The most promising settings that were not run."""
    for outcome in answers.primary:
        if {e.verdict for e in answers.effects if e.outcome == outcome.name} == {UNDER}:
            continue  # all differences may be noise, so no prediction is of use
        sd = next((noise.sd for noise in answers.noise if noise.outcome == outcome.name), None) or 0.0
        improvements = [(p, p.expected_improvement or 0.0) for p in answers.predictions if p.outcome == outcome.name]
        promising = [p for p, improvement in improvements if improvement and improvement >= PROMISING * sd]
        for p in promising[:MOST_SUGGESTED]:
            gained = amount(outcome, outcome.sign * p.value, (p.high - p.low) / 2)
            why = f"Between the settings that were run, a gain of {gained} in {words(outcome)} is expected of:"
            yield why, command(suggested_words(anneals, answers.axes, dict(p.settings)))


def _best_first(answers: Answers) -> Iterator[SettingGain]:
    """The best setting of each primary outcome and checkpoint, the first outcome's first, and of these the best."""
    for outcome in answers.primary:
        best = [s for s in answers.settings if s.best and s.outcome == outcome.name]
        yield from sorted(best, key=lambda setting: -setting.gain)


def _words_of_best(anneals: pd.DataFrame, best: SettingGain) -> list[str]:
    """The overrides of a run of this setting."""
    alike = anneals[anneals["checkpoint"] == best.checkpoint_digest]
    return words_of(_nearest(alike if len(alike) else anneals, best.settings)["command"])


def suggested_words(anneals: pd.DataFrame, axes: Sequence[Axis], settings: Mapping[str, object]) -> list[str]:
    """The overrides of a setting that was not run: those of the run nearest to it, and what it has otherwise.

    A level that some run has is taken from that run, with the choices that move with it.
    """
    nearest = _nearest(anneals, tuple(settings.items()))
    chosen = words_of(nearest["command"])
    for axis in sorted(axes, key=lambda axis: axis.name not in GROUPS):
        if axis.name not in settings or nearest[axis.name] == settings[axis.name]:
            continue
        same = anneals[anneals[axis.name] == settings[axis.name]]
        together = (axis.name, *axis.moves_with) if len(same) else (axis.name,)
        groups = [name for name in together if name in GROUPS]
        for name in groups:  # an option brings many leaves, so all its words are the other run's
            theirs = [w for w in words_of(same.iloc[0]["command"]) if f"{key_of(w)}.".startswith(f"{name}.")]
            chosen = replaced(chosen, [name], theirs)
        for name in together:
            if name.partition(".")[0] in groups or name.endswith(".digest"):  # a digest is no choice: what a file held
                continue
            level = same.iloc[0][name] if len(same) else settings[name]
            chosen = replaced(chosen, [name], [override(name, _value(level))])
    return chosen


def of_setting(anneals: pd.DataFrame, setting: SettingGain) -> pd.DataFrame:
    """The anneals that have a setting."""
    rows = anneals["checkpoint"] == setting.checkpoint_digest
    for name, level in setting.settings:
        rows &= anneals[name] == level
    return anneals[rows]


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


def run_counts(runs: pd.DataFrame) -> str:
    """`5 runs: 3 finished, 2 failed`."""
    counts = runs["status"].value_counts().items()
    return f"{len(runs)} runs: {', '.join(f'{count} {status}' for status, count in counts)}"


def _runs(answers: Answers) -> Iterator[str]:
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
    yield from (lead.why for lead in answers.leads)
    for outcome in answers.primary:
        of_outcome = [g for g in answers.helped if g.outcome == outcome.name and g.arm == "decay"]
        for against, name in (("checkpoint", "the checkpoint"), ("constant", MATCHED_CONTROL)):
            if gains := [g for g in of_outcome if g.against == against]:
                yield f"{capital(words(outcome))}, against {name}: {_compared(answers, outcome, gains)}"


def _compared(answers: Answers, outcome: Outcome, gains: Sequence[Gain]) -> str:
    better, worse = (sum(g.verdict == verdict for g in gains) for verdict in (BETTER, WORSE))
    finished, compared = len(answers.finished_anneals()), sum(g.seeds for g in gains)
    over_seeds = compared > len(gains)
    what = "settings, each over its seeds and documents," if over_seeds else "anneals"
    shows = "This shows" if over_seeds else "One run's documents show"
    note = f" The best {compared} of {finished} anneals by {words(answers.primary[0])} were compared."
    detectable = amount(outcome, float(pd.Series([g.detectable for g in gains]).median()))
    return (
        f"{better} of {len(gains)} {what} are better and {worse} worse (by chance alone about"
        f" {CHANCE * len(gains):.2g} each). {shows} a difference of {detectable} or more."
        f"{note if compared < finished else ''}"
    )


def _mattering(answers: Answers) -> Iterator[str]:
    for outcome in answers.primary:
        effects = sorted((e for e in answers.effects if e.outcome == outcome.name), key=lambda e: -e.share_percent)
        if not effects:
            continue
        name = capital(words(outcome))
        noise = next(noise for noise in answers.noise if noise.outcome == outcome.name)
        if noise.sd is None:
            yield (
                f"{name}: no run is repeated with another seed, so effects can't be told apart from noise. The"
                f" largest share is that of {effects[0].term}, {effects[0].share_percent:.1f} %."
            )
            continue
        matter = [
            f"{e.term.replace(':', ' × ')} ({_percent(e.share_percent)})" for e in effects if e.verdict == MATTERS
        ]
        yield (
            f"{name}: {', '.join(matter) or 'nothing'} {'are' if len(matter) > 1 else 'is'} above the noise"
            f" floor. Equal settings differ by {amount(outcome, noise.sd)} from seed to seed (standard deviation,"
            f" {noise.df} degrees of freedom)."
        )
        if unsure := [e.term for e in answers.effects if e.outcome == outcome.name and e.verdict == UNSURE]:
            yield (
                f"{name}: {', '.join(unsure)} can't be judged. The effect is more than noise, but the drawn"
                " values in another order may explain as much. More settings would decide it."
            )


def _percent(share: float) -> str:
    return f"{share:.1f} %" if share >= 0.1 else "under 0.1 %"


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
    """For each outcome the best setting of each checkpoint; checkpoints with the same one share a sentence."""
    for outcome in answers.primary:
        of_setting: dict[str, list[SettingGain]] = {}
        for best in (s for s in answers.settings if s.best and s.outcome == outcome.name):
            of_setting.setdefault(settings_text(best.settings) or "the only setting", []).append(best)
        for where, bests in of_setting.items():
            names = listed([best.checkpoint for best in bests], MOST_NAMED)
            text = f"{capital(words(outcome))}, {names}: the best is {where}, which gains {_gained(outcome, bests)}."
            yield f"{text} {_alike(answers, bests[0])}".strip() if len(bests) == 1 else text


def _gained(outcome: Outcome, bests: Sequence[SettingGain]) -> str:
    """What these settings gained, as a range if they are several."""
    most = max(bests, key=lambda best: best.gain)
    text = amount(outcome, most.gain, None if most.low is None else most.gain - most.low)
    if len(bests) == 1:
        return text
    return f"{number(unit(outcome)[0] * min(best.gain for best in bests))} to {text}"


def _alike(answers: Answers, best: SettingGain) -> str:
    """How many other settings of its checkpoint can't be told from the best one."""
    group = [s for s in answers.settings if (s.outcome, s.checkpoint_digest) == (best.outcome, best.checkpoint_digest)]
    if best.apart is None or len(group) == 1:
        return ""
    alike = sum(setting.apart is False for setting in group) - 1
    cheapest = next(setting for setting in group if setting.cheapest)
    end = "" if cheapest.best or not alike else f"; the cheapest is {settings_text(cheapest.settings)}"
    return f"{alike} of {len(group) - 1} other settings can't be told apart from it{end}."


def _checkpoints(answers: Answers) -> Iterator[str]:
    return ranking_sentences(answers.ranking, {outcome.name: outcome for outcome in answers.outcomes})


def _separating(answers: Answers) -> Iterator[str]:
    known = [task for task in answers.tasks if task.separates is not None]
    named = {outcome.name: words(outcome) for outcome in answers.outcomes}
    if known:
        names = [named[task.outcome] for task in known if task.separates]
        few = "; ".join(names[:MOST_NAMED]) or "none"
        more = f"; and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        yield f"{len(names)} of {len(known)} outcomes have settings further apart than seeds: {few}{more}."
    elif answers.tasks:
        yield "No run is repeated with another seed, so this can't be said."


def _law_errors(answers: Answers) -> Iterator[str]:
    for law in answers.laws:
        yield (
            f"The {law.law} law on {law.model} predicts settings left out of its fit within"
            f" {law.cross_validation_error:.2g} nats (root mean square); the losses themselves spread by"
            f" {law.spread:.2g} nats."
        )
