"""A full disk and a store of other users: it works, or one line says what to do."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.domain.errors import Refusal
from sweep.system import disk
from sweep.system.disk import check_room, check_writable, explained
from sweep.system.lease import is_alive, run_lease
from sweep.system.store import Store
from sweep.tracking import Journal

ANN, BEN, GROUP = 1001, 1002, 1003


def test_too_little_room_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=12e9))
    check_room(tmp_path / "store", 12e9, "this sweep")
    with pytest.raises(
        Refusal, match=r"^this sweep needs about 83\.1 GB of disk, and 12\.0 GB are free at .*store: .*"
    ):
        check_room(tmp_path / "store", 83.1e9, "this sweep")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/x"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_becomes_full_leaves_nothing_half_and_is_named(store: Store, error: Exception) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise error

    with pytest.raises(OSError, match="No space left") as raised:
        store.make("states", "k", build)
    assert not store.has("states", "k") and list((store.root / "states").iterdir()) == []
    message = explained(raised.value)
    assert message is not None and str(store.root) in message and "\n" not in message
    whole = store.make("states", "k", lambda folder: (folder / "whole").write_text("whole") and None)
    assert (whole / "whole").is_file()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that members of GROUP share; pytest's own are closed to other users."""
    if os.geteuid() != 0:
        pytest.skip("only root can be other users")
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, ANN, GROUP)
    folder.chmod(0o2775)
    yield folder
    shutil.rmtree(folder)


def as_user(user: int, umask: int, work: Callable[[], None]) -> str:
    """Do the work in a process of this user; "" or what it raised."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def child() -> None:
        os.setgroups([])
        os.setgid(GROUP)
        os.setuid(user)
        os.umask(umask)
        try:
            work()
        except Exception as error:
            answers.put(f"{type(error).__name__}: {error}")
        else:
            answers.put("")

    process = context.Process(target=child)
    process.start()
    answer: str = answers.get()
    process.join()
    return answer


def use(root: Path, key: str) -> None:
    """Everything that a run does with a store."""
    store = Store(root)
    check_writable([root, *root.iterdir()])
    for each in (key, "shared"):
        folder = store.make("states", each, lambda folder: (folder / "data").write_text("x") and None)
        assert (folder / "data").read_text() == "x"
    store.claims.claim("shared")
    store.claims.unclaim("shared")
    with store.lease("states", "shared"):
        assert store.leased("states", "shared")
    assert store.drop("states", "shared")
    store.tidy()


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_store_that_a_group_shares_works_for_each_of_them_whatever_their_umask(shared: Path, umask: int) -> None:
    assert as_user(ANN, umask, lambda: use(shared, "ann")) == ""
    assert as_user(BEN, umask, lambda: use(shared, "ben")) == ""
    assert as_user(ANN, umask, lambda: use(shared, "again")) == ""
    assert [path.name for path in (shared / "states").glob(".*")] == [], "what one has dropped, the other has not left"
    assert list((shared / "leases").iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o555])
def test_a_store_that_others_may_not_write_is_refused_in_one_line_with_the_remedy(shared: Path, mode: int) -> None:
    shared.chmod(mode)
    answer = as_user(BEN, 0o022, lambda: use(shared, "ben"))
    assert answer.startswith(("Refusal: ", "PermissionError: ")) and "\n" not in answer
    refusal = as_user(BEN, 0o022, lambda: check_writable([shared / "states"]))
    assert refusal.startswith(f"Refusal: {shared} belongs to user {ANN} and is drwx") or mode == 0o555
    assert "SWEEP_STORE" in refusal and "chmod -R g+rwX" in refusal


def test_a_run_of_another_user_is_seen_to_live_and_its_journal_is_not_harmed(shared: Path) -> None:
    """Ann's run is under way with umask 022; Ben may look and not write."""
    run = shared / "main" / "run"

    def begin() -> None:
        with Journal(run) as journal:
            journal.write("attempt", key="k")
        lease = run_lease(run)
        assert lease.take() is None
        os._exit(0)  # as killed, with its heartbeat

    context = multiprocessing.get_context("fork")

    def ann() -> None:
        os.setgid(GROUP)
        os.setuid(ANN)
        os.umask(0o022)
        begin()

    process = context.Process(target=ann)
    process.start()
    process.join()
    before = (run / "journal.jsonl").read_bytes()

    def ben() -> None:
        assert not is_alive(run), "the process is gone"
        with pytest.raises(Refusal, match=f"belongs to user {ANN}"):
            check_writable([run / "journal.jsonl"])
        with pytest.raises(PermissionError):
            run_lease(run).take()

    assert as_user(BEN, 0o022, ben) == ""
    assert (run / "journal.jsonl").read_bytes() == before
