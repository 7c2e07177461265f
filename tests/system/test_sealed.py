"""Sealed lines: what is read is what was written, or nothing."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from sweep.system import files
from sweep.system.sealed import append, is_sound, opened, read_sealed, sealed, whole_lines, write_sealed
from tests.damage import HOW, damage, flipped

FIELDS = {"update": 250, "loss": 3.25, "run_id": "abc", "more": [1, None, "ü"]}


def test_with_any_bit_flipped_a_line_is_damaged_or_says_the_same() -> None:
    line = sealed('{"update":250,"loss":3.25,"run_id":"abc"}')
    for bit in range(8 * len(line)):
        fields = opened(flipped(line, bit))
        assert fields is None or {name: fields[name] for name in ("update", "loss", "run_id")} == opened(line)
        assert is_sound(flipped(line, bit)) == (fields is not None)


def test_lines_of_before_there_were_checksums_are_read() -> None:
    assert opened(b'{"update": 1}') == {"update": 1} and is_sound(b'{"update": 1}')
    assert opened(b"[1]") is None and not is_sound(b"[1]")


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_file_is_none_and_is_written_again(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state.json"
    write_sealed(file, FIELDS)
    assert read_sealed(file, remedy="asked again") == FIELDS
    damage(file, how)
    with caplog.at_level(logging.WARNING):
        assert read_sealed(file, remedy="asked again") is None
    assert caplog.messages == ([] if how == "removed" else [f"{file} is damaged: asked again"])
    write_sealed(file, FIELDS)
    assert read_sealed(file, remedy="asked again") == FIELDS
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES])
def test_a_passing_error_is_tried_again_and_then_raised_and_is_no_damage(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state.json"
    write_sealed(file, FIELDS)
    monkeypatch.setattr(files, "READ_AGAIN_S", (0.0, 0.0))
    failures, read = [OSError(number, "no")] * 2, Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if failures:
            raise failures.pop()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert read_sealed(file, remedy="") == FIELDS
    failures += [OSError(number, "no")] * 3
    with pytest.raises(OSError, match="no"):
        read_sealed(file, remedy="")
    assert read_sealed(file, remedy="") == FIELDS


@pytest.mark.parametrize("torn", [b"", b'{"job":"1', b"\0" * 50, b"\0" * 50 + b"\n"])
def test_a_line_is_added_behind_a_whole_last_line(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "list.jsonl"
    append(file, ['{"job":1}', '{"job":2}'])
    file.write_bytes(file.read_bytes() + torn)
    append(file, ['{"job":3}'])
    assert [opened(line) for line in whole_lines(file)] == [{"job": 1}, {"job": 2}, {"job": 3}]
