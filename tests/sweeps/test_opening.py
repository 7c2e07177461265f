"""Before a sweep starts: whether the disk takes what its runs will write."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.commands.main import explain
from sweep.config import RunConfig
from sweep.domain.errors import Refusal
from sweep.planning.names import run_identity
from sweep.sweeps.opening import check_disk
from sweep.sweeps.run_folders import expected_folder
from sweep.system import disk
from sweep.tracking import Journal
from tests.composing import composed

Runs = dict[Path, RunConfig]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Two anneals of tiny-s, whose states take 3.1 MB each, and a disk with 4 MB."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWEEP_STORE", raising=False)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=4e6))
    return placed(*(composed("tasks=loss", f"anneal.steps={steps}") for steps in (100, 200)))


def placed(*configs: RunConfig) -> Runs:
    return {expected_folder(run_identity(config)): config for config in configs}


def test_a_sweep_that_has_no_room_is_refused_before_it_starts(runs: Runs) -> None:
    with pytest.raises(Refusal, match=r"this sweep needs about 6\.3 MB of disk, and 4\.0 MB are free at .*SWEEP_STORE"):
        check_disk(runs)
    check_disk(dict([*runs.items()][:1]))
    check_disk({})


def test_a_run_whose_anneal_is_made_needs_no_room_for_it(runs: Runs) -> None:
    with Journal([*runs][1]) as journal:
        for update in range(1, 201):
            journal.write("step", update=update)
    check_disk(runs)


def test_a_checkpoint_on_disk_says_how_large_a_state_is(runs: Runs, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "model.pt").write_bytes(bytes(5_000_000))
    config = next(iter(runs.values()))
    model = replace(config.model, source="local", parameters=None, architecture=None, pretraining=None)
    checkpoint = replace(config.checkpoint, path=str(tmp_path), step=None)
    with pytest.raises(Refusal, match=r"this run needs about 5\.0 MB"):
        check_disk(placed(replace(config, model=model, checkpoint=checkpoint)))


def test_a_full_disk_is_one_line_without_a_traceback() -> None:
    message = explain(OSError(28, "No space left on device", "/store/states/x"))
    assert message is not None and message.startswith("/store/states/x: no space is left on this disk: free some")
    assert explain(OSError(5, "Input/output error", "/x")) is None, "not a matter of what a person chose"
