"""The answer of a report in three to five sentences: the gain, what it cost, what matters, and what can't be said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweep.analysis.answers import Answers
from sweep.analysis.effects import MATTERS, UNDER, UNKNOWN, Effect
from sweep.analysis.findings import next_commands, of_setting, run_counts
from sweep.analysis.gains import BETTER, WORSE, Gain
from sweep.analysis.outcomes import Outcome
from sweep.analysis.over_seeds import OVER_SEEDS
from sweep.analysis.ranking_findings import FEWEST_PAIRS, recommended
from sweep.analysis.settings import SettingGain, settings_text
from sweep.analysis.wording import amount, count, duration, level_unit, listed, number, unit, words

LEAST_SHARE = 1.0
"""An effect other than the largest is named if it explains at least so many percent of the variance."""
MUCH_LESS = 0.95
"""A setting is cheaper if it needs less than this part of the tokens."""


@dataclass(frozen=True)
class Opening:
    """What a report says first."""

    sentences: tuple[str, ...]
    command: str | None
    """The command that would settle what the last sentence says is not known."""

    def text(self) -> str:
        """The sentences and the command, each on a line of its own."""
        return "\n".join([*self.sentences, *([] if self.command is None else [f"    {self.command}"])])


def opening(answers: Answers) -> Opening:
    """The answer in a few sentences, by the outcome that can tell settings apart."""
    suggested = next(iter(next_commands(answers)), None)
    unknown = () if suggested is None else (suggested[0],)
    lead = leading(answers)
    if lead is None:
        return Opening((_nothing(answers), *unknown), suggested and suggested[1])
    best = max((s for s in answers.settings if s.best and s.outcome == lead.name), key=lambda s: s.gain)
    said = (
        _gain(answers, lead, best),
        " ".join(_cost(answers, lead, best)),
        " ".join(_choices(answers, lead)),
        " ".join(_order(answers, lead)),
        " ".join((*_other_outcomes(answers, lead), *unknown)),
    )
    return Opening(tuple(sentence for sentence in said if sentence), suggested and suggested[1])


def leading(answers: Answers) -> Outcome | None:
    """The outcome that a report opens with: the first primary one that tells settings apart, else the first one.

    None if no anneal has a primary outcome.
    """
    telling = {task.outcome for task in answers.tasks if task.separates}
    gained = answers.gained()
    return next((outcome for outcome in gained if outcome.name in telling), next(iter(gained), None))


def leading_first(answers: Answers) -> list[Outcome]:
    """The primary outcomes that anneals have, the leading one first."""
    lead = leading(answers)
    return sorted(answers.gained(), key=lambda outcome: outcome != lead)


def _nothing(answers: Answers) -> str:
    return (
        f"No finished anneal has scores before and after it, so nothing can be said yet ({run_counts(answers.runs)})."
    )


def _gain(answers: Answers, lead: Outcome, best: SettingGain) -> str:
    """What the best setting gained over its checkpoint, how sure that is, and how many anneals did."""
    own = of_setting(answers.finished_anneals(), best)
    before = float(own[lead.column("before")].mean())
    low, half, basis = _interval(answers, lead, best)
    start, end = (number(unit(lead)[0] * v) for v in (before, before + lead.sign * best.gain))
    of_outcome = [
        g for g in answers.helped if g.outcome == lead.name and g.arm == "decay" and g.against == "checkpoint"
    ]
    better, worse = (sum(g.verdict == verdict for g in of_outcome) for verdict in (BETTER, WORSE))
    does = ("lowers" if lead.sign < 0 else "raises") if best.gain >= 0 else ("raises" if lead.sign < 0 else "lowers")
    change = f"{does} the {words(lead)} by {_by(lead, abs(best.gain), half)}{basis}"
    values = f"from {start} to {end} {'' if _names_its_unit(lead) else level_unit(lead)}".rstrip()
    where = f"{best.checkpoint}{_setting(best, ' with ')}"
    what = "settings" if any(g.seeds > 1 for g in of_outcome) else "anneals"
    counts = f"{better} of {len(of_outcome)} {what} are better than their checkpoint, and {worse} worse."
    if low is not None and low > 0:
        return f"Annealing helps: the best anneal, {where}, {change}, {values}. {counts}"
    if worse > better:
        return f"Annealing does harm: even the best anneal, {where}, {change}, {values}. {counts}"
    return f"No anneal is surely better than its checkpoint: the best, {where}, {change}, {values}. {counts}"


def _by(outcome: Outcome, change: float, half: float | None) -> str:
    """The change, with its unit if the outcome's name is not that of its unit."""
    text = amount(outcome, change, half)
    return text.removesuffix(f" {unit(outcome)[1]}") if _names_its_unit(outcome) else text


def _names_its_unit(outcome: Outcome) -> bool:
    return bool(unit(outcome)[1]) and unit(outcome)[1] in words(outcome)


def _interval(answers: Answers, lead: Outcome, best: SettingGain) -> tuple[float | None, float | None, str]:
    """The lower end of the gain's 95 % interval, half its width, and over what it is."""
    gain = next(_gains_of(answers, lead, best, "checkpoint"), None)
    if gain is None:
        return None, None, ""
    half, over = (gain.high - gain.low) / 2, "seeds and documents" if gain.test == OVER_SEEDS else "documents"
    return min(lead.sign * gain.low, lead.sign * gain.high), half, f" (95 % interval over {over})"


def _gains_of(answers: Answers, lead: Outcome, setting: SettingGain, against: str) -> Iterator[Gain]:
    """The comparisons of the runs of one setting."""
    runs = set(of_setting(answers.finished_anneals(), setting)["run"])
    return (g for g in answers.helped if (g.outcome, g.against) == (lead.name, against) and g.key in runs)


def _setting(setting: SettingGain, before: str = "") -> str:
    text = settings_text(setting.settings)
    return f"{before}{text}" if text else ""


def _cost(answers: Answers, lead: Outcome, best: SettingGain) -> Iterator[str]:
    """What the anneal cost, how much of the gain is that of the learning rate, and which cheaper setting is as good."""
    if best.tokens > 0:
        took = f" and {duration(best.seconds)}" if best.seconds > 0 else ""
        yield f"It trains on {count(best.tokens)} tokens{took}."
    if controlled := list(_gains_of(answers, lead, best, "constant")):
        yield _beyond_control(lead, controlled)
    if best.apart is None:
        return
    same = [s for s in answers.settings if (s.outcome, s.checkpoint_digest) == (lead.name, best.checkpoint_digest)]
    alike, cheapest = [s for s in same if s.apart is False], next(s for s in same if s.cheapest)
    if len(same) > 1 and cheapest.tokens < MUCH_LESS * best.tokens:
        share = f"{100 * cheapest.tokens / best.tokens:.2g} % of the tokens"
        yield f"The cheapest that can't be told from it is {_setting(cheapest)}, with {share}."
    elif len(alike) > 1:
        yield f"{len(alike) - 1} of {len(same) - 1} other settings can't be told from it, and none is much cheaper."
    elif len(same) > 1:
        yield "Every other setting gains less."


def _beyond_control(lead: Outcome, gains: Sequence[Gain]) -> str:
    """What a setting gained over its matched control, as the mean over its seeds; the documents are the same."""
    beyond = lead.sign * sum(gain.delta for gain in gains) / len(gains)
    half = sum(gain.high - gain.low for gain in gains) / len(gains) / 2
    control = "its matched control, which trains as long at the current LR"
    if abs(beyond) <= half:
        return f"It can't be told from {control}: the difference is {amount(lead, beyond, half)}."
    return f"It gains {amount(lead, abs(beyond), half)} {'more' if beyond > 0 else 'less'} than {control}."


def _choices(answers: Answers, lead: Outcome) -> Iterator[str]:
    """Which axis matters, and which doesn't."""
    effects = sorted((e for e in answers.effects if e.outcome == lead.name), key=lambda e: -e.share_percent)
    matter, under = ([e for e in effects if e.verdict == verdict] for verdict in (MATTERS, UNDER))
    if effects and effects[0].verdict == UNKNOWN:
        largest = f"the largest share of the variance is that of {_term(effects[0].term)}, {_share(effects[0])}"
        yield f"No setting was run with two seeds, so no choice can be said to matter; {largest}."
    if matter:
        rest = [effect for effect in matter[1:] if effect.share_percent >= LEAST_SHARE]
        first, others = matter[0], [_term(e.term) for e in rest]
        text = f"What matters is {_term(first.term)}, with {_share(first)} of the variance of the gain"
        yield f"{text}; {listed(others)} {_matters(rest)}." if others else f"{text}."
    if alone := [_term(e.term) for e in under if ":" not in e.term]:
        yield f"No effect of {listed(alone)} is above the noise between seeds."


def _matters(effects: Sequence[Effect]) -> str:
    """How much the lesser effects explain together."""
    return f"{'has' if len(effects) == 1 else 'have'} {sum(e.share_percent for e in effects):.2g} %"


def _share(effect: Effect) -> str:
    return f"{effect.share_percent:.0f} %" if effect.share_percent < 99.5 else "nearly all"


def _term(term: str) -> str:
    return term.replace(":", " × ")


def _order(answers: Answers, lead: Outcome) -> Iterator[str]:
    """The cheapest score that gives the order of the checkpoints."""
    outcomes = {outcome.name: outcome for outcome in answers.outcomes}
    for recommendation in answers.ranking.recommendations:
        if recommendation.chosen.reference == lead.name and recommendation.chosen.pairs >= FEWEST_PAIRS:
            yield recommended(recommendation, outcomes)


def _other_outcomes(answers: Answers, lead: Outcome) -> Iterator[str]:
    """The primary outcomes that can't tell the settings apart."""
    silent = {task.outcome for task in answers.tasks if task.separates is False}
    if names := [words(o) for o in answers.gained() if o.name in silent and o != lead]:
        yield f"The {listed(names)} can't tell these settings apart: seeds differ as much as settings."
