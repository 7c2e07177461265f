"""Runs, checkpoints, data and tasks are told apart by digests in the report, whatever their names say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sweep.analysis.answers import Answers, answer
from sweep.page.figures import report_figures
from sweep.sweeps.outcome_table import PARAM, read_outcomes
from sweep.sweeps.outcomes import digest_axes, frame
from sweep.sweeps.paired_documents import paired_documents
from tests.journals import TASKS, write_run


def inputs(checkpoint: str, data: str = "d", **more: Any) -> dict[str, Any]:
    """What a run recorded of the checkpoint and the data with these digests."""
    at = {"name": "toy@100", "digest": checkpoint, "uri": "/x", "step": 100, "tokens": 100_000, "lr": 1e-3}
    source = {"name": "original", "digest": data, "uri": "/x.npy", "num_files": 1}
    return {"checkpoint": at, "peak_lr": 1e-3, "data": [source], "heldout": None, **more}


def answered(*sweeps: Path) -> Answers:
    """What the report of these sweeps is made from."""
    table = read_outcomes(sweeps)
    runs = frame(table)
    params = [name.removeprefix(PARAM) for name in table.schema.names if name.startswith(PARAM)]
    return answer(runs, [*params, *digest_axes(runs, params)], paired_documents)


AXES = {
    "two folders of one name": ("checkpoint.path", "/a/step1000-unsharded", "/b/step1000-unsharded"),
    "folders with equal beginnings": ("checkpoint.path", "/a/step1000-unsharded-one", "/a/step1000-unsharded-two"),
    "recipes": ("model.published.recipe", "c4", "dclm-baseline"),
    "a leaf of the pretraining": ("model.pretraining.peak_lr", 2e-3, 4e-3),
    "a leaf of the architecture": ("model.architecture.d_model", 64, 128),
    "threads": ("compute.threads", 1, 8),
    "files of data": ("data.paths", ["/a.npy"], ["/b.npy"]),
    "the type of token files": ("data.dtype", "uint16", "uint32"),
}
"""Axes whose levels the runs' names don't show."""


@pytest.mark.parametrize(("axis", "one", "other"), AXES.values(), ids=AXES)
def test_levels_that_the_names_don_t_show_are_never_pooled(tmp_path: Path, axis: str, one: Any, other: Any) -> None:
    for level, gain in ((one, 0.1), (other, 0.3)):
        pretraining = {"model.pretraining.peak_lr": 1e-3, "model.pretraining.warmup_steps": 10}
        start = {"model.source": "embedded", **pretraining, axis: level}
        other_checkpoint = axis.startswith(("model", "checkpoint"))
        for steps in (10, 20):
            given = inputs(f"checkpoint {level}" if other_checkpoint else "one", data=f"data {level}")
            write_run(tmp_path / "s", gain=gain, records=True, inputs=given, **{"anneal.steps": steps}, **start)
    answers = answered(tmp_path / "s")
    assert axis in {axis.name for axis in answers.axes}
    assert {setting.seeds for setting in answers.settings} == {1} and {noise.sd for noise in answers.noise} == {None}
    loss = {(g.key, g.run): g.delta for g in answers.gains if (g.outcome, g.against) == ("loss/heldout", "checkpoint")}
    assert len(loss) == len({run for _, run in loss}) == 4
    assert sorted(round(delta, 3) for delta in loss.values()) == [-0.3, -0.3, -0.1, -0.1]
    accuracies = [g for g in answers.gains if g.outcome == "acc/piqa" and g.against == "checkpoint"]
    assert {g.test for g in accuracies} == {"McNemar"}
    assert sorted(round(g.delta, 3) for g in accuracies) == [0.1, 0.1, 0.3, 0.3]
    of_checkpoints = [scores for scores in answers.checkpoints if scores.outcome == "loss/heldout"]
    assert len({scores.checkpoint for scores in of_checkpoints}) == (2 if other_checkpoint else 1)
    assert all(str(level).strip("[]'") in " ".join(run for _, run in loss) for level in (one, other))


def test_another_content_under_the_same_name_is_another_checkpoint_and_no_seed(tmp_path: Path) -> None:
    for checkpoint, data, seed in (("a", "x", 0), ("a", "y", 1), ("b", "x", 2)):
        write_run(tmp_path / "s", gain=0.1, inputs=inputs(checkpoint, data), seed=seed)
    answers = answered(tmp_path / "s")
    assert {axis.name for axis in answers.axes} == {"checkpoint.digest", "data.digest"}
    assert {setting.seeds for setting in answers.settings} == {1}
    assert len({setting.checkpoint for setting in answers.settings}) == 2


def test_an_outcome_that_only_a_control_has_is_no_figure_of_anneals(tmp_path: Path) -> None:
    """Five anneals scored on held-out text alone, and an untrained run scored on tasks alone."""
    from tests import journals

    of_all = journals._scores
    anneals = [("decay", steps, True) for steps in (10, 20, 40, 80, 160)]
    for arm, steps, is_heldout in (*anneals, ("none", 0, False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                journals,
                "_scores",
                lambda gain, of=is_heldout: [s for s in of_all(gain) if (s["task"] == "heldout") is of],
            )
            write_run(tmp_path / "r", gain=0.1, arm=arm, **{"anneal.steps": steps})
    figures = report_figures(answered(tmp_path / "r"), {})
    assert [chart.title for chart in figures["gain_by_steps"].charts] == ["Held-out loss"]


def test_one_checkpoint_has_one_name_and_one_place_in_the_order(tmp_path: Path) -> None:
    for path in ("/a/step1", "/link/step1"):
        write_run(tmp_path / "s", gain=0.1, inputs=inputs("same"), **{"checkpoint.path": path})
    runs = answered(tmp_path / "s").runs
    assert set(runs["checkpoint_name"]) == {"toy@100"} and runs["name"].is_unique


@pytest.mark.parametrize("digests", [True, False], ids=["with digests", "older journals"])
def test_one_task_asked_in_two_ways_is_two_outcomes(tmp_path: Path, digests: bool) -> None:
    for shots, gain in ((0, 0.1), (5, 0.3)):
        told = {task: f"{task} {shots}" for task in TASKS} if digests else None
        chosen = {"tasks.suites.core8.num_fewshot": shots}
        write_run(tmp_path / "s", gain=gain, inputs=inputs("c", tasks=told), **chosen)
    runs = answered(tmp_path / "s").runs
    assert runs["after/acc/piqa:num_fewshot=0"].dropna().round(3).tolist() == [0.4]
    assert runs["after/acc/piqa:num_fewshot=5"].dropna().round(3).tolist() == [0.6]
    assert "after/mean/core8:num_fewshot=5" in runs and "after/acc/piqa" not in runs


def test_a_corrected_file_of_a_task_makes_another_task(tmp_path: Path) -> None:
    for content, seed in (("old", 0), ("new", 1)):
        write_run(tmp_path / "s", gain=0.1, inputs=inputs("c", tasks={"piqa": content, "arc_easy": "same"}), seed=seed)
    runs = answered(tmp_path / "s").runs
    assert runs["after/acc/arc_easy"].notna().all() and "after/acc/piqa" not in runs
    assert {"after/acc/piqa:old", "after/acc/piqa:new"} <= {str(c)[: len("after/acc/piqa:old")] for c in runs}


def test_older_journals_are_read_by_the_keys_of_today(tmp_path: Path) -> None:
    """The leaves of the model are in their config_yaml, and the recipe has another name."""
    from tests import journals

    tree = "model:\n  name: toy\n  source: published\n  architecture: {d_model: 64}\n"
    old = {**journals.MACHINE, "config_yaml": journals.MACHINE["config_yaml"] + tree}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journals, "MACHINE", old)
        write_run(tmp_path / "s", gain=0.1, **{"model.recipe": "c4", "model.run": "r1"})
    new = {"model.source": "published", "model.architecture.d_model": 64, "model.published.run": "r1"}
    write_run(tmp_path / "s", gain=0.1, **new, **{"model.published.recipe": "dclm"})
    answers = answered(tmp_path / "s")
    assert [axis.name for axis in answers.axes] == ["model.published.recipe"]
    assert "model.recipe" not in answers.runs


def test_means_over_all_tasks_exist_where_a_run_has_all_tasks(tmp_path: Path) -> None:
    from sweep.analysis.outcomes import with_task_means

    runs = pd.DataFrame({f"after/margin/{task}": [1.0, 2.0] for task in ("a", "b", "c-olmes-mc", "c-olmes-rc")})
    runs = runs.assign(**{f"stderr/{name}": [0.3, 0.3] for name in runs})
    runs.loc[1, ["after/margin/b", "stderr/after/margin/b"]] = None
    runs["after/margin/c-olmes-rc"] = 4.0
    means = with_task_means(runs)
    assert means["after/margin/tasks"].tolist()[0] == pytest.approx((1 + 1 + 4) / 3)
    assert means["stderr/after/margin/tasks"].tolist()[0] == pytest.approx(0.3 * 3**0.5 / 3)
    assert means.loc[1, ["after/margin/tasks", "stderr/after/margin/tasks"]].isna().all()
