"""The questions of a sweep: which runs one command made to compare. A report answers each by itself.

A command leaves a file in `.questions` of its sweep's folder, named by the digest of its content. Runs of older
commands are put together by the keys that their recorded commands set.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sweep.analysis.comparisons import NOT_SHARED, WARMED
from sweep.domain.digests import digest
from sweep.planning.commands import key_of
from sweep.sweeps.asking import FOLDER, asks, is_below, varied

log = logging.getLogger(__name__)

CONTROL_OPTIONS = ("anneal=none", "anneal=constant", "anneal=merge")


@dataclass(frozen=True)
class Question:
    """What one command, or several alike, varied."""

    axes: tuple[str, ...]
    """The params that differ between its anneals."""
    runs: frozenset[str]
    """Keys of its runs, controls too."""


@dataclass(frozen=True)
class Part:
    """The runs that answer one question."""

    title: str
    rows: pd.DataFrame


def recorded_questions(sweep: Path) -> list[Question]:
    """The questions of the commands that ran in this sweep; a damaged file is named and left out."""
    questions = []
    for path in sorted((sweep / FOLDER).glob("*.json")):
        try:
            content = json.loads(path.read_bytes())
            whole = digest(content) == path.stem
        except ValueError:
            whole = False
        if whole:
            questions.append(Question(tuple(content["axes"]), frozenset(content["runs"])))
        else:
            log.warning("%s is damaged and left out; the same command again records it anew", path)
    return questions


def parts(runs: pd.DataFrame, names: Sequence[str], questions: Sequence[Question]) -> list[Part]:
    """The runs of each question, the largest first, then those that belong to none; one part if all belong together.

    `runs` are as `outcomes.frame` gives them, and `names` are their params. A run belongs to a question also if it
    differs from the question's runs in its axes and its seed alone, whoever made it, and has numbers where they do. A
    question whose runs all belong to another one is part of that.
    """
    asked = [question for question in questions if _listed(runs, question).any()]
    asked += _from_commands(runs[~_any(runs, [_members(runs, names, question) for question in asked])])
    members = [(question, _members(runs, names, question)) for question in asked]
    members.sort(key=lambda member: -int(member[1].sum()))
    kept: list[tuple[Question, pd.Series]] = []
    for question, rows in members:
        if not any((rows <= others).all() for _, others in kept):
            kept.append((question, rows))
    rest = runs[~_any(runs, [rows for _, rows in kept])]
    found = [Part(_title(question), runs[rows]) for question, rows in kept]
    if len(rest) and not (found and (rest["status"] == "unreadable").all()):
        found.append(Part("other runs" if found else "", rest))
    return found if len(found) > 1 else [Part("", runs)]


def _title(question: Question) -> str:
    """The axes, without those that lie in the group of another one."""
    axes = [axis for axis in question.axes if not any(axis.startswith(f"{group}.") for group in question.axes)]
    return ", ".join(axes) or "seed"


def _from_commands(runs: pd.DataFrame) -> list[Question]:
    """The questions of runs that no record names, one for each set of keys that their commands set."""
    anneals = runs[runs["arm"] == "decay"] if "arm" in runs else runs[:0]
    if anneals.empty:
        return []
    questions = []
    for keys, group in anneals.groupby(anneals["command"].map(_keys), sort=False):
        axes = tuple(key for key in sorted(keys) if key in group and group[key].nunique(dropna=False) > 1)
        if axes:
            follow = varied(group[[name for name in group if is_below(str(name), axes)]].to_dict("records"))
            questions.append(Question(tuple(dict.fromkeys((*axes, *follow))), frozenset(group["run"])))
    return questions


def _keys(command: str | None) -> frozenset[str]:
    """The keys that a recorded command sets, without those that ask nothing."""
    try:
        words = shlex.split(command or "")
    except ValueError:  # recorded before quotes were right
        words = (command or "").split()
    set_keys = (key_of(word) for word in words if "=" in word and word not in CONTROL_OPTIONS)
    return frozenset(key for key in set_keys if asks(key))


def _listed(runs: pd.DataFrame, question: Question) -> pd.Series:
    return runs["keys"].map(lambda keys: not question.runs.isdisjoint(keys.split()))


def _members(runs: pd.DataFrame, names: Sequence[str], question: Question) -> pd.Series:
    """Whether each run belongs to the question."""
    listed = _listed(runs, question)
    if "arm" not in runs:
        return listed
    own = runs[listed & (runs["arm"] == "decay")]
    fixed = [name for name in names if name in runs and asks(name) and not is_below(name, question.axes)]
    same = [name for name in fixed if runs[name].nunique(dropna=False) > 1]
    fits = {name: runs[name].map(repr).isin(set(own[name].map(repr))) for name in same}
    trained = _all(runs, [fits[name] for name in same])
    control = _all(runs, [fits[name] for name in same if name not in (*NOT_SHARED, *WARMED)])
    untrained = _all(runs, [fits[name] for name in same if not is_below(name, ("anneal", "data", "compute"))])
    for axis in (axis for axis in question.axes if axis in runs):
        if own[axis].map(_is_number).all():  # null among the levels would make them words
            trained &= runs[axis].map(_is_number)
    by_arm = {"decay": trained, "constant": control, "none": untrained, "merge": untrained}
    fitting = pd.Series(False, index=runs.index)
    for arm, fit in by_arm.items():
        fitting |= fit & (runs["arm"] == arm)
    return listed | (fitting if len(own) else False)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _any(runs: pd.DataFrame, masks: Iterable[pd.Series]) -> pd.Series:
    found = pd.Series(False, index=runs.index)
    for mask in masks:
        found |= mask
    return found


def _all(runs: pd.DataFrame, masks: Iterable[pd.Series]) -> pd.Series:
    found = pd.Series(True, index=runs.index)
    for mask in masks:
        found &= mask
    return found
