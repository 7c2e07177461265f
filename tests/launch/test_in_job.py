"""Inside a job: how it goes back into the queue."""

from __future__ import annotations

import pytest

from sweep.launch import cluster, in_job
from sweep.launch.cluster import Unreachable


def test_a_busy_controller_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, asked = [Unreachable("scontrol: Socket timed out"), Unreachable("scontrol: Unable to contact")], []

    def ask(*words: str) -> str:
        asked.append(words)
        if answers:
            raise answers.pop()
        return ""

    monkeypatch.setattr(in_job, "ask", ask)
    monkeypatch.setattr(in_job, "ASK_AGAIN_S", 0.0)
    in_job._requeue("12")
    assert asked == 3 * [("scontrol", "requeue", "12")]


def test_a_controller_that_never_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*words: str) -> str:
        raise Unreachable("scontrol: Unable to contact slurm controller")

    monkeypatch.setattr(in_job, "ask", ask)
    monkeypatch.setattr(in_job, "REQUEUE_S", -1.0)
    with pytest.raises(Unreachable, match="Unable to contact"):
        in_job._requeue("12")


@pytest.mark.parametrize(
    ("answer", "forgotten"), [("slurm_load_jobs error: Invalid job id specified", True), ("Socket timed out", False)]
)
def test_only_a_job_that_the_controller_does_not_know_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, answer: str, forgotten: bool
) -> None:
    def ask(*words: str) -> str:
        raise Unreachable(f"{words[0]}: {answer}")

    monkeypatch.setattr(cluster, "ask", ask)
    if forgotten:
        assert cluster.last_states(["12"]) == {}
    else:
        with pytest.raises(Unreachable, match="timed out"):
            cluster.last_states(["12"])
