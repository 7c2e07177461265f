"""A lease has one living holder: whatever the path is spelt like, whoever asks, in whichever container."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from sweep.system import lease as lease_module
from sweep.system.lease import FILE, Holder, Lease, is_alive, run_lease
from sweep.system.processes import Process, born, parse_process, place, this_process
from sweep.system.store import Store

NOBODY = 2**22 + 1
"""No process of this host: above the largest pid that Linux gives."""


def written(path: Path, **changed: object) -> Holder:
    """The file of a lease as another process would write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    other = Lease(path)
    other._write()
    holder = other.named()
    assert holder is not None
    fields = {**vars(holder), **changed}
    holder = Holder(**fields)
    path.write_text(lease_module.json.dumps({**fields, "sum": lease_module._sum(holder)}))
    return holder


def test_a_lease_is_taken_or_its_holder_is_told_without_waiting(tmp_path: Path) -> None:
    first, second = run_lease(tmp_path), run_lease(tmp_path)
    assert first.take() is None
    holder = second.take()
    assert holder is not None and (holder.pid, holder.token) == (os.getpid(), first.token)
    first.release()
    assert second.take() is None
    second.release()
    assert list(tmp_path.iterdir()) == [], "neither the lease nor its lock stays"


def test_a_run_has_one_lease_however_its_folder_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, link = tmp_path / "lustre" / "run", tmp_path / "scratch"
    folder.mkdir(parents=True)
    link.symlink_to(folder.parent)
    with run_lease(folder).waited_for("it"):
        assert is_alive(link / "run")
        monkeypatch.chdir(folder.parent)
        assert is_alive(Path("run")), "also by a relative path"


def test_whoever_asks_a_run_is_alive_by_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_lease(tmp_path).waited_for("it"):
        monkeypatch.setenv("SWEEP_STORE", str(tmp_path / "elsewhere"))
        assert is_alive(tmp_path)
    assert not is_alive(tmp_path)


def test_a_process_of_another_container_with_this_hosts_name_may_live(tmp_path: Path) -> None:
    lease = run_lease(tmp_path)
    stranger = written(tmp_path / FILE, place="elsewhere", pid=NOBODY)
    assert lease.take() == stranger, "its number says nothing here: only its heartbeat does"
    os.utime(tmp_path / FILE, (0, time.time() - 2 * lease_module.EXPIRY_S))
    assert lease.take() is None
    lease.release()


@pytest.mark.parametrize("who", [{"pid": NOBODY}, {"born": "1"}], ids=["ended", "its number used again"])
def test_a_process_that_is_gone_from_here_holds_nothing(tmp_path: Path, who: dict[str, object]) -> None:
    written(tmp_path / FILE, **who)
    assert not is_alive(tmp_path)
    assert run_lease(tmp_path).named() is not None, "who it was is still told"


def test_a_process_that_proc_hides_from_this_user_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Process(place=place(), pid=NOBODY, born="1")
    assert other.is_gone

    def not_yours(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr("sweep.system.processes.os.kill", not_yours)
    assert not other.is_gone


def test_a_process_is_known_by_its_start_and_its_place_too() -> None:
    me = this_process()
    assert parse_process(str(me)) == me and not me.is_gone
    assert Process(place=place(), pid=me.pid, born="1").is_gone
    assert not Process(place="elsewhere", pid=NOBODY, born=born(me.pid)).is_gone
    with pytest.raises(ValueError, match="unpack"):
        parse_process("12")


def test_of_any_bit_that_flips_in_a_lease_none_names_another_holder(tmp_path: Path) -> None:
    sound = written(tmp_path / FILE)
    content = (tmp_path / FILE).read_bytes()
    for bit in range(0, 8 * len(content), 7):  # each place in a byte comes
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / FILE).write_bytes(flipped)
        assert run_lease(tmp_path).named() in (None, sound)


def test_a_living_holder_writes_its_damaged_lease_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.02)
    with run_lease(tmp_path).waited_for("it") as lease:
        (tmp_path / FILE).write_bytes(b"\xff")
        deadline = time.monotonic() + 30
        while not is_alive(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        lease.check()


def test_one_at_a_time_though_each_takes_the_locks_file_away(tmp_path: Path) -> None:
    inside, most = [], []

    def work() -> None:
        for _ in range(20):
            with run_lease(tmp_path).waited_for("it", poll_s=0.001):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80 and max(most) == 1
    assert list(tmp_path.iterdir()) == []


def test_leases_of_dead_holders_do_not_pile_up(store: Store) -> None:
    written(store.root / "leases" / "states-dead", pid=NOBODY)
    (store.root / "leases" / "states-released.lock").touch()
    with store.lease("states", "living"):
        store.tidy()
        assert store.leased("states", "living")
        assert {path.name for path in (store.root / "leases").iterdir()} == {"states-living", "states-living.lock"}


@pytest.mark.parametrize("writer", [f"elsewhere-{NOBODY}-1", f"{os.uname().nodename}.{NOBODY}"])
def test_an_unfinished_folder_of_another_container_is_left_alone_for_a_day(store: Store, writer: str) -> None:
    part = store.root / "states" / f".k.{writer}.0123.part"
    part.mkdir(parents=True)
    (part / "half").write_text("12345")
    assert store.tidy() == 0 and part.is_dir()
    for path in (part / "half", part):
        os.utime(path, (0, 0))
    assert store.tidy() == 5 and not part.exists()
