"""Settings of launchers and of the sweeper are choices like all others: refused by key, value and what is allowed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml

from sweep.commands.main import CONF
from sweep.config.launcher import OURS, Jobs, Points, Workers, check_settings, settings
from sweep.domain.errors import Refusal

ODD_WORDS = ("a\nb", "a\0b", "a\u202eb", "a\udcffb", "", "x" * 5000)


@pytest.mark.parametrize(
    ("kind", "field", "bad", "complaint"),
    [
        (Workers, "workers", ("abc", 0, -1, True, 2.5, 10**9, "4", []), "hydra.launcher.workers="),
        (Jobs, "nodes", ("two", 0, -1, True, 1.5, 10**9), "hydra.launcher.nodes="),
        (Jobs, "tasks_per_node", (0, False), "hydra.launcher.tasks_per_node="),
        (Jobs, "gpus_per_node", (-1, "a100"), "hydra.launcher.gpus_per_node="),
        (Jobs, "cpus_per_task", (0, None, "x")[:1], "hydra.launcher.cpus_per_task=0: must be at least 1"),
        (Jobs, "mem_gb", (-1, 0, float("nan"), float("inf"), "8G"), "hydra.launcher.mem_gb="),
        (Jobs, "timeout_min", ("abc", 0, 10**12, True), "hydra.launcher.timeout_min="),
        (Jobs, "array_parallelism", (0, None), "hydra.launcher.array_parallelism="),
        (Jobs, "max_num_timeout", (-1, None, 0.5), "hydra.launcher.max_num_timeout="),
        (Jobs, "signal_delay_s", (-1, None), "hydra.launcher.signal_delay_s="),
        (Jobs, "poll_s", (-1, 0, True, "soon", float("nan")), "hydra.launcher.poll_s="),
        (Jobs, "workers", (0, "all", True, 1.5), "hydra.launcher.workers="),
        (Jobs, "detach", ("foo", 1, 0, None), "hydra.launcher.detach=.*: must be true or false"),
        (Jobs, "use_srun", ("maybe", 1), "hydra.launcher.use_srun=.*: must be true or false"),
        (Jobs, "stderr_to_stdout", ("no way",), "hydra.launcher.stderr_to_stdout="),
        (Jobs, "on_interrupt", ("stop", 1), "hydra.launcher.on_interrupt=.*'leave' or 'cancel'"),
        (Jobs, "exclusive", ("alone", 3), "hydra.launcher.exclusive=.*: must be true, false, user"),
        (Jobs, "srun_args", ("abc", [1], [""]), r"hydra.launcher.srun_args"),
        (Jobs, "setup", ("abc", {"a": 1}, ["a\nb"]), r"hydra.launcher.setup"),
        (Jobs, "teardown", ("abc",), "hydra.launcher.teardown=abc: must be a list"),
        (Jobs, "name", ("", 5, None, *ODD_WORDS), "hydra.launcher.name="),
        *((Jobs, field, ODD_WORDS, f"hydra.launcher.{field}=") for field in ("partition", "gres", "qos", "comment")),
        (Jobs, "mem_per_cpu", ("lots", "0", -1), "hydra.launcher.mem_per_cpu=.*such as 4G"),
        (Jobs, "additional_parameters", ("abc", [1], {"a b": 1}, {"x": {}}), "hydra.launcher.additional_parameters"),
        (Points, "runs", ("abc", 0, True, 10**9), "hydra.sweeper.runs="),
        (Points, "seed", (-1, "x", 2**64), "hydra.sweeper.seed="),
        (Points, "design", ("soboll", 3, None), "hydra.sweeper.design="),
        (Points, "max_batch_size", (0, "abc"), "hydra.sweeper.max_batch_size="),
        (Points, "params", ("abc", [1]), "hydra.sweeper.params="),
    ],
)
def test_a_senseless_setting_is_refused(kind: type[Any], field: str, bad: tuple[Any, ...], complaint: str) -> None:
    for value in bad:
        with pytest.raises(Refusal, match=complaint) as refusal:
            settings(kind, {field: value})
        assert len(str(refusal.value).splitlines()) == 1 and str(refusal.value).isprintable()


def test_an_unknown_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refusal, match=r"hydra\.launcher\.partitoin: .*did you mean partition"):
        settings(Jobs, {"partitoin": "gpu"})


def test_numbers_are_fine_as_names_of_the_clusters() -> None:
    jobs = settings(Jobs, {"account": 12345, "dependency": 77, "workers": 3, "setup": ["module load cuda"]})
    assert (jobs.account, jobs.dependency, jobs.setup) == ("12345", "77", ("module load cuda",))


@pytest.mark.parametrize("option", sorted((CONF / "hydra").glob("[ls]*r/*.yaml")), ids=lambda file: file.stem)
def test_the_options_of_conf_are_what_the_settings_say(option: Any) -> None:
    written: dict[str, Any] = dict(yaml.safe_load(option.read_text(encoding="utf-8")))
    written.pop("defaults", None)
    if (target := written.pop("_target_", None)) is None:
        return
    kind = OURS[target][1]
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    assert written | {"name": fields.get("name")} == fields | {"name": fields.get("name")}


def test_plugins_of_others_are_left_to_their_authors() -> None:
    check_settings({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}, {"_target_": "x.Y"})
    with pytest.raises(Refusal, match=r"hydra\.launcher\.workers=0"):
        check_settings({"_target_": "hydra_plugins.sweep_plugin.WorkersLauncher", "workers": 0}, {})
