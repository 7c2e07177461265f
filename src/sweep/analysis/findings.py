"""The answers in sentences, for the terminal and the top of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from sweep.analysis.answers import Answers, settings_text
from sweep.analysis.effects import MATTERS, UNDER, UNSURE
from sweep.analysis.factors import Axis

MOST_SUGGESTED = 3
CHANCE = 0.025
"""Of comparisons without a difference, the part whose 95 % interval is on one side of none."""
PROMISING = 0.1
"""Least expected improvement on the best setting of a run that is suggested, in deviations between seeds."""


def findings(answers: Answers) -> dict[str, list[str]]:
    """Question -> sentences."""
    made = {
        "What was run?": [*_run(answers)],
        "Did annealing help?": [*_helped(answers)],
        "Which axis matters?": [*_mattering(answers), *_blind(answers)],
        "What is best, and how flat is it?": [*_best(answers)],
        "How good is each checkpoint really?": [*_checkpoints(answers)],
        "Which tasks can be trusted at this size?": [*_trusted(answers)],
        "What would the runs not made give?": [*_not_run(answers)],
    }
    return {question: sentences for question, sentences in made.items() if sentences}


def next_commands(answers: Answers) -> list[tuple[str, str]]:
    """(why, command) of the runs worth making next."""
    anneals = answers.runs[answers.runs["arm"] == "decay"] if "arm" in answers.runs else answers.runs[:0]
    if anneals.empty:
        return []
    made: list[tuple[str, str]] = []
    unfinished = answers.runs[answers.runs["status"] != "finished"]
    unfinished = unfinished[unfinished["status"] != "running"]
    made += [
        (f"{row['name']} is {row['status']}", row["command"]) for _, row in unfinished.head(MOST_SUGGESTED).iterrows()
    ]
    template = str(anneals["command"].dropna().iloc[0]) if anneals["command"].notna().any() else "python -m sweep"
    if answers.noise and all(n.sd is None for n in answers.noise):
        best = next((setting for setting in answers.settings if setting.best), None)
        if best is not None:
            settings = [*_checkpoint_settings(answers, best.checkpoint), *best.settings, ("seed", "1,2")]
            words = with_overrides(template, settings).replace("python -m sweep", "python -m sweep -m", 1)
            made.append(("measures the noise floor, without which no axis can be said to matter", words))
    for outcome in answers.primary:
        verdicts = {e.verdict for e in answers.effects if e.outcome == outcome.name}
        if verdicts == {UNDER}:  # nothing told apart from noise: nothing to go by
            continue
        sd = next((n.sd for n in answers.noise if n.outcome == outcome.name), None) or 0.0
        mine = [f for f in answers.predictions if f.outcome == outcome.name and f.expected_improvement]
        promising = [f for f in mine if (f.expected_improvement or 0.0) >= PROMISING * sd]
        for one in promising[:MOST_SUGGESTED]:
            why = f"{outcome.name}: delta {one.value:+.4g} expected ({one.low:+.4g} to {one.high:+.4g})"
            made.append((why, with_overrides(template, one.settings)))
    return made


def with_overrides(command: str, settings: Sequence[tuple[str, object]]) -> str:
    """The command with these overrides in the place of those of the same keys."""
    values = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in settings}
    words = [word for word in command.split(" ") if word.lstrip("+~").partition("=")[0] not in values]
    return " ".join([*words, *(f"{name}={value}" for name, value in values.items())])


def _checkpoint_settings(answers: Answers, checkpoint: str) -> list[tuple[str, object]]:
    row = answers.runs[answers.runs["checkpoint"] == checkpoint].iloc[0]
    names = [axis.name for axis in answers.axes if axis.name in ("model", "checkpoint.step", "checkpoint.path")]
    return [(name, row[name]) for name in names]


def _run(answers: Answers) -> Iterator[str]:
    runs = answers.runs
    counts = runs["status"].value_counts()
    yield f"{len(runs)} runs: " + ", ".join(f"{count} {status}" for status, count in counts.items())
    for axis in answers.axes:
        yield f"{axis.name}: {_levels(axis)}" + (f" (moves with {', '.join(axis.with_it)})" if axis.with_it else "")
    for _, row in runs[runs["status"].isin(("failed", "interrupted"))].head(10).iterrows():
        why = row["error"].strip().rpartition("\n")[2] if isinstance(row["error"], str) else ""
        yield f"{row['name']} {row['status']}" + (f": {why}" if why else "")
    missing = _missing(answers)
    if missing:
        yield f"{missing} settings of the full grid have no finished run: shares are of the runs there are"


def _levels(axis: Axis) -> str:
    if axis.continuous:
        return f"{len(axis.levels)} values from {axis.levels[0]:g} to {axis.levels[-1]:g}"
    return ", ".join(f"{level:g}" if isinstance(level, float) else str(level) for level in axis.levels)


def _missing(answers: Answers) -> int:
    """Cells of the grid of all levels without a finished anneal; 0 where an axis is continuous."""
    if not answers.axes or any(axis.continuous for axis in answers.axes):
        return 0
    size = 1
    for axis in answers.axes:
        size *= len(axis.levels)
    runs = answers.runs
    there = runs[(runs["status"] == "finished") & (runs["arm"] == "decay")] if "arm" in runs else runs
    return size - len(there[[axis.name for axis in answers.axes]].drop_duplicates())


def _helped(answers: Answers) -> Iterator[str]:
    for outcome in answers.primary:
        for against, words in (
            ("checkpoint", "over the checkpoint"),
            ("constant", "over as many updates at a constant rate"),
        ):
            mine = [g for g in answers.gains if g.outcome == outcome.name and g.against == against and g.arm == "decay"]
            if not mine:
                continue
            better = sum(outcome.sign * g.delta > 0 and (g.low > 0 or g.high < 0) for g in mine)
            worse = sum(outcome.sign * g.delta < 0 and (g.low > 0 or g.high < 0) for g in mine)
            seen = pd.Series([g.detectable for g in mine]).median()
            yield (
                f"{outcome.name} {words}: {better} of {_which(answers, len(mine))} better, {worse} worse, the others"
                f" not told apart (of so many chance alone gives {CHANCE * len(mine):.1f} either way); a run's"
                f" documents show differences from about {seen:.3g}"
            )


def _which(answers: Answers, compared: int) -> str:
    """How many anneals were compared, and which where not all were."""
    runs = answers.runs
    there = int(((runs["status"] == "finished") & (runs["arm"] == "decay")).sum())
    if compared == there:
        return f"{compared} anneals"
    return f"the {compared} compared of {there} anneals, the best by {answers.primary[0].name} first,"


def _mattering(answers: Answers) -> Iterator[str]:
    for outcome in answers.primary:
        mine = [e for e in answers.effects if e.outcome == outcome.name]
        if not mine:
            continue
        if mine[0].floor_percent is None:
            top = max(mine, key=lambda e: e.share_percent)
            yield (
                f"{outcome.name}: no run is repeated with another seed, so no effect can be told from noise; the"
                f" largest share is {top.term}'s, {top.share_percent:.1f} %"
            )
            continue
        there = [
            f"{e.term} ({e.share_percent:.1f} %)"
            for e in sorted(mine, key=lambda e: -e.share_percent)
            if e.verdict == MATTERS
        ]
        noise = next(n for n in answers.noise if n.outcome == outcome.name)
        yield (
            f"{outcome.name}: {', '.join(there) or 'nothing'} above the noise floor (seeds differ by a standard"
            f" deviation of {noise.sd:.3g}, {noise.df} degrees of freedom)"
        )
        if unsure := [e.term for e in mine if e.verdict == UNSURE]:
            yield (
                f"{outcome.name}: can't tell of {', '.join(unsure)}: more than noise, but the drawn values in another"
                " order may explain as much; more settings would tell"
            )


def _blind(answers: Answers) -> Iterator[str]:
    """What the design can't tell, whatever the runs say."""
    terms = {e.term for e in answers.effects}
    if not terms:
        return
    for one in answers.axes:
        if one.with_it:
            yield f"{one.name} moves with {', '.join(one.with_it)}: what is said of it may be theirs"
        if one.name not in terms:
            yield f"{one.name} has no share of its own: in these runs it can't be told apart from the other axes"
    if len(answers.axes) > 1 and not any(":" in term for term in terms):
        yield "interactions can't be told in these runs: what there is of them is in the shares of the axes"


def _best(answers: Answers) -> Iterator[str]:
    for outcome in answers.primary:
        mine = [setting for setting in answers.settings if setting.outcome == outcome.name]
        for checkpoint in dict.fromkeys(setting.checkpoint for setting in mine):
            group = [setting for setting in mine if setting.checkpoint == checkpoint]
            best, alike = group[0], sum(setting.apart is False for setting in group) - 1
            interval = "" if best.low is None else f" ({best.low:+.4g} to {best.high:+.4g})"
            where = settings_text(best.settings) or "its only setting"
            text = f"{outcome.name}, {checkpoint}: {where}, gain {best.gain:+.4g}{interval}"
            if best.apart is not None:
                cheapest = next(setting for setting in group if setting.cheapest)
                text += f"; {alike} of {len(group) - 1} other settings not distinguishable"
                text += "" if cheapest.best or not alike else f", the cheapest {settings_text(cheapest.settings)}"
            yield text


def _checkpoints(answers: Answers) -> Iterator[str]:
    for order in answers.orders:
        if any(order.outcome == outcome.name for outcome in answers.primary):
            yield (
                f"{order.outcome}: rank correlation of raw and annealed order of {order.checkpoints} checkpoints"
                f" {order.tau:+.2f} ({order.low:+.2f} to {order.high:+.2f})"
            )


def _trusted(answers: Answers) -> Iterator[str]:
    known = [t for t in answers.signal_to_noise if t.trusted is not None]
    if known:
        good = [t.outcome for t in known if t.trusted]
        shown = ", ".join(good[:12]) or "none"
        yield f"{len(good)} of {len(known)} outcomes have settings further apart than seeds: {shown}"
    elif answers.signal_to_noise:
        yield "can't tell: no run is repeated with another seed"


def _not_run(answers: Answers) -> Iterator[str]:
    for law in answers.laws:
        yield (
            f"{law.law} law on {law.model}: the losses of settings left out of the fit are predicted within"
            f" {law.cross_validation_error:.3g} nats (root mean square; the losses themselves spread by"
            f" {law.spread:.3g})"
        )
