"""The journal: whole lines only, whatever happens to the writer or to the disk."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.domain.redaction import redact
from sweep.tracking import Journal, outcome, read
from sweep.tracking.journal import damage as journal_damage
from sweep.tracking.journal import has_ended, last_records
from tests.damage import flipped
from tests.tracking.conftest import RESULT, SCORES

Run = Callable[..., Path]


def file(folder: Path) -> Path:
    return folder / "journal.jsonl"


def test_what_is_written_is_read(run: Run) -> None:
    events = read(run(steps=3))
    assert [event["key"] for event in events.attempts] == ["0123456789abcdef"]
    assert [record["update"] for record in events.steps] == [1, 2, 3]
    assert set(events.scores) == {"before", "after", "delta"}
    assert events.artifacts == {"records/before.parquet": "before.parquet"}
    assert events.outcome is not None
    assert events.outcome["status"] == "finished"
    assert events.damaged == ()


@pytest.mark.parametrize("tail", [b'{"event":"st', b"\0" * 300, b"not json\n", b'"text"\n'])
def test_a_torn_tail_is_cut_on_opening_and_nothing_else(run: Run, tail: bytes) -> None:
    folder = run(status=None)
    whole = file(folder).read_bytes()
    file(folder).write_bytes(whole + tail)
    with Journal(folder):
        pass
    assert file(folder).read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"torn", b"torn\n", b"\n", b"x" * 600_000])
def test_a_journal_of_nothing_but_a_torn_tail_is_emptied(tmp_path: Path, content: bytes) -> None:
    file(tmp_path).write_bytes(content)
    with Journal(tmp_path):
        pass
    assert file(tmp_path).read_bytes() == b""


def test_a_torn_line_longer_than_a_block_is_cut(run: Run) -> None:
    folder = run(status=None)
    whole = file(folder).read_bytes()
    file(folder).write_bytes(whole + b"y" * 700_000)
    with Journal(folder) as journal:
        journal.write("outcome", status="failed", error=None, result=None)
    assert file(folder).read_bytes().startswith(whole + b'{"event":"outcome"')


def test_a_line_still_being_written_is_neither_read_nor_damage(run: Run) -> None:
    folder = run(status=None, steps=2)
    with file(folder).open("ab") as f:
        f.write(b'{"event":"step","update":3')
    events = read(folder)
    assert len(events.steps) == 2
    assert events.damaged == ()


def test_a_damaged_line_is_named_and_skipped(run: Run) -> None:
    folder = run(steps=5)
    lines = file(folder).read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b'"event"', b'\xff"event')
    file(folder).write_bytes(b"\n".join(lines))
    events = read(folder)
    assert events.damaged == (4,)
    assert [record["update"] for record in events.steps] == [1, 3, 4, 5]


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_damage_wherever_it_is(run: Run, bit: int) -> None:
    folder = run(steps=5)
    lines = file(folder).read_bytes().split(b"\n")
    told = [(record["update"], record["loss"], record["lr"]) for record in read(folder).steps]
    for at in range(bit, len(lines[3]), 8):
        flipped = bytearray(lines[3])
        flipped[at] ^= 1 << bit
        if flipped[at] != ord("\n"):
            file(folder).write_bytes(b"\n".join([*lines[:3], bytes(flipped), *lines[4:]]))
            events = read(folder)
            found = [(record["update"], record["loss"], record["lr"]) for record in events.steps]
            assert events.damaged == (4,) or found == told


def test_the_last_line_says_whether_the_attempt_has_ended(run: Run) -> None:
    assert not has_ended(run("going", status=None))
    for status in ("finished", "failed", "interrupted"):
        folder = run(status, status=status)
        assert has_ended(folder)
        with Journal(folder) as journal:
            journal.write("attempt", key="again")
        assert not has_ended(folder)


def test_non_finite_numbers_come_back_as_floats(run: Run) -> None:
    odd = {1: {"loss": math.nan}, 2: {"loss": math.inf}, 3: {"loss": -math.inf}}
    losses = [record["loss"] for record in read(run(steps=3, changed=odd)).steps]
    assert math.isnan(losses[0])
    assert losses[1:] == [math.inf, -math.inf]


def test_floats_come_back_to_the_bit(tmp_path: Path) -> None:
    values = [random.Random(1).uniform(-1, 1) * 10.0**power for power in range(-300, 300, 7)]
    with Journal(tmp_path) as journal:
        for update, value in enumerate(values):
            journal.write("step", update=update, lr=value)
    assert [record["lr"] for record in read(tmp_path).steps] == values


def test_redone_updates_are_one_each_and_the_last_wins(run: Run) -> None:
    folder = run(status=None, steps=6)
    with Journal(folder) as journal:
        for update in (5, 6, 7):
            journal.write("step", update=update, loss=-1.0)
    events = read(folder)
    assert [record["update"] for record in events.redone] == [5, 6]
    assert [(record["update"], record["loss"] == -1.0) for record in events.steps] == [
        *((update, False) for update in (1, 2, 3, 4)),
        *((update, True) for update in (5, 6, 7)),
    ]


def test_scores_that_come_out_the_same_keep_their_time_and_others_supersede_them(run: Run) -> None:
    folder = run()
    first = read(folder)
    run()
    again = read(folder)
    assert (again.scores, again.scored_ms) == (first.scores, first.scored_ms)
    assert [event["event"] for event in again.superseded] == ["outcome"]
    with Journal(folder) as journal:
        journal.write("scores", when="after", scores=[])
    changed = read(folder)
    assert changed.scores["after"] == []
    assert changed.scored_ms["after"] > first.scored_ms["after"]
    assert changed.superseded[1]["scores"] == first.scores["after"]


def test_reading_without_steps_gives_the_rest(run: Run) -> None:
    folder = run()
    with_steps, without = read(folder), read(folder, steps=False)
    assert without.steps == ()
    assert (without.attempts, without.scores, without.outcome) == (
        with_steps.attempts,
        with_steps.scores,
        with_steps.outcome,
    )


def test_no_journal_and_no_outcome_are_none(tmp_path: Path, run: Run) -> None:
    assert outcome(tmp_path / "absent") is None
    assert outcome(run(status=None)) is None


@pytest.mark.parametrize("status", ["finished", "failed", "interrupted"])
def test_the_outcome_is_the_last_event_of_its_kind(run: Run, status: str) -> None:
    found = outcome(run(status=status))
    assert found is not None
    assert found["status"] == status


@pytest.mark.parametrize("steps", [3, 3000])
def test_a_new_attempt_takes_the_outcome_back(run: Run, steps: int) -> None:
    folder = run(status="failed")
    run(status=None, steps=steps)
    assert outcome(folder) is None
    assert read(folder).outcome is None
    run(status="finished")
    found = outcome(folder)
    assert found is not None
    assert found["status"] == "finished"
    assert len(read(folder).attempts) == 3


def test_a_damaged_outcome_is_none(run: Run) -> None:
    folder = run()
    file(folder).write_bytes(file(folder).read_bytes()[:-3] + b"\n")
    assert outcome(folder) is None


def test_secrets_inside_uris_are_masked(tmp_path: Path) -> None:
    uri = "postgresql://me:hun/ter2@db:5432/mlflow"
    with Journal(tmp_path) as journal:
        journal.write("attempt", command=f"sweep tracking.uri={uri}", params={"tracking.uri": uri})
        journal.write("outcome", error=f"no route to https://tok3n@host/x?api_token=abc&x=1 ({uri})")
    text = file(tmp_path).read_text()
    assert not any(secret in text for secret in ("hun", "ter2", "tok3n", "abc"))
    assert redact("http://me:p@ss@host/x@y") == "http://***@host/x@y"
    assert "***@db:5432/mlflow" in text


@pytest.mark.parametrize("text", ["sqlite:////tmp/a@b.db", "s3://bucket/a@b", "http://host:80/a@b?x=1", "a@b", ""])
def test_what_holds_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_a_slow_disk_is_asked_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fsync takes half a second, one in 100 seconds is 0.5 %; an outcome waits for the disk all the same."""
    clock, synced = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Journal(tmp_path) as journal:
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(clock[0]) or clock.__setitem__(0, clock[0] + 0.5))
        for update in range(200):
            clock[0] += 1.0
            journal.write("step", update=update)
        assert synced == [1.0, 101.5]
        journal.write("outcome", status="finished", error=None, result=None)
        assert len(synced) == 3


def test_a_disk_that_takes_half_a_line_leaves_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with Journal(tmp_path) as journal:
        journal.write("step", update=1)
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
        with pytest.raises(OSError, match="written whole"):
            journal.write("step", update=2)
        monkeypatch.undo()
        journal.write("step", update=3)
    assert [json.loads(line)["update"] for line in file(tmp_path).read_text().splitlines()] == [1, 3]


WRITER = """
import sys
from pathlib import Path
from sweep.tracking import Journal
with Journal(Path(sys.argv[1])) as journal:
    print("on", flush=True)
    for update in range(10_000_000):
        journal.write("step", update=update, loss=1.0, more="x" * (update % 3000))
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_writer_killed_at_any_moment_leaves_whole_lines(tmp_path: Path, seed: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"on\n"
        deadline = time.monotonic() + 60
        while file(tmp_path).read_bytes().count(b"\n") <= 10:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(random.Random(seed).uniform(0, 0.4))
        writer.send_signal(signal.SIGKILL)
    with Journal(tmp_path):
        pass
    lines = file(tmp_path).read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["update"] for line in lines] == list(range(len(lines)))
    assert len(lines) > 10
    assert read(tmp_path).damaged == ()


def test_reading_journals_imports_nothing_heavy() -> None:
    code = (
        "import sys, sweep.tracking; print([m for m in ('mlflow', 'torch', 'numpy', 'filelock') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def damage_line(folder: Path, start: str, *, number: int = 0) -> int:
    """Change a bit in a line that begins so, the first one being number 0; the line's number in the file, from 1."""
    lines = file(folder).read_bytes().split(b"\n")
    at = [at for at, line in enumerate(lines) if line.startswith(start.encode())][number]
    lines[at] = flipped(lines[at], 8 * 40)
    file(folder).write_bytes(b"\n".join(lines))
    return at + 1


def test_an_outcome_that_a_damaged_line_follows_is_none(run: Run) -> None:
    """The line may have begun another attempt."""
    folder = run()
    file(folder).write_bytes(file(folder).read_bytes() + b'{"event":"attempt"\xff}\n')
    assert outcome(folder) is None and read(folder).outcome is None


def test_samples_of_the_load_after_an_outcome_leave_it_the_last(run: Run) -> None:
    folder = run()
    with Journal(folder) as journal:
        journal.write("system", values={})
    assert has_ended(folder) and outcome(folder) == read(folder).outcome != None  # noqa: E711


@pytest.mark.parametrize("number", range(3))
def test_scores_whose_line_is_damaged_are_those_of_the_outcome(run: Run, number: int) -> None:
    folder = run(result=RESULT | SCORES)
    whole = read(folder)
    at = damage_line(folder, '{"event":"scores"', number=number)
    assert read(folder).scores == whole.scores and read(folder).lost == (at,)


def test_a_damaged_line_is_lost_until_a_later_attempt_is_finished(run: Run) -> None:
    folder = run()
    number = damage_line(folder, '{"event":"step"')
    assert read(folder).lost == journal_damage(folder) == (number,)
    run(status=None)
    assert read(folder).lost == (number,), "the later attempt may not have come so far"
    run()
    assert read(folder).damaged == (number,) and read(folder).lost == journal_damage(folder) == ()


def test_a_damaged_attempt_makes_all_of_the_journal_the_last_attempt(run: Run) -> None:
    folder = run()
    assert journal_damage(folder) == ()
    damage_line(folder, '{"event":"attempt"')
    assert journal_damage(folder) == (1,)


def test_a_folder_in_the_place_of_a_journal_is_set_aside(tmp_path: Path) -> None:
    file(tmp_path).mkdir()
    assert outcome(tmp_path) is None and read(tmp_path).attempts == ()
    with Journal(tmp_path) as journal:
        journal.write("attempt", key="k")
    assert len(read(tmp_path).attempts) == 1 and len([*tmp_path.glob(".journal*.damaged")]) == 1


def test_the_files_that_the_last_attempt_recorded(run: Run) -> None:
    folder = run()
    assert last_records(folder) == read(folder).artifacts
