"""The store: entries are whole or absent, damage is noticed, leases outlive neither their holder nor its host's pid."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweep.commands import space
from sweep.domain.digests import digest
from sweep.system import files
from sweep.system import lease as lease_module
from sweep.system import store as store_module
from sweep.system.files import file_digest
from sweep.system.lease import Lease, LeaseLost
from sweep.system.store import Store

HOLD = """
import sys, time
from sweep.system.store import Store
with Store(sys.argv[1]).lease("states", "k"):
    print("held", flush=True)
    time.sleep(60)
"""


def fill(text: str):
    def build(folder: Path) -> None:
        (folder / "data.txt").write_text(text)

    return build


def test_an_entry_is_built_once_and_read_ever_after(store: Store) -> None:
    first = store.make("scores", "k", fill("one"))
    second = store.make("scores", "k", fill("two"))
    assert (second / "data.txt").read_text() == "one"
    assert first == second
    assert store.keys("scores") == {"k"}


def test_a_failed_build_leaves_nothing(store: Store) -> None:
    def broken(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        store.make("scores", "k", broken)
    assert store.get("scores", "k") is None
    assert list((store.root / "scores").iterdir()) == []
    assert store.make("scores", "k", fill("whole"))


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "manifest", "bytes", "list"])
def test_a_damaged_entry_is_set_aside_and_made_again(store: Store, damage: str) -> None:
    folder = store.make("states", "k", fill("sound"))
    match damage:
        case "changed":
            (folder / "data.txt").write_text("soumd")
        case "cut":
            (folder / "data.txt").write_text("so")
        case "missing":
            (folder / "data.txt").unlink()
        case "manifest":
            (folder / "entry.json").write_text("{")
        case "bytes":
            (folder / "entry.json").write_bytes(b"\xff" + (folder / "entry.json").read_bytes())
        case "list":
            (folder / "entry.json").write_text("[]")
    fresh = Store(store.root)
    assert fresh.get("states", "k") is None
    fresh.tidy()
    assert len(fresh.damaged()) == 1, "what was set aside stays until somebody asks for its place"
    assert fresh.delete_damaged() > 0 and not fresh.damaged()
    assert (fresh.make("states", "k", fill("sound")) / "data.txt").read_text() == "sound"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES])
def test_an_error_of_the_file_system_is_no_damage(store: Store, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store.make("states", "k", fill("sound"))
    monkeypatch.setattr(files, "READ_AGAIN_S", (0.0, 0.0))
    failures = [OSError(number, "no")] * 2

    def digest_of(path: Path) -> str:
        if failures:
            raise failures.pop()
        return file_digest(path)

    monkeypatch.setattr(store_module, "file_digest", digest_of)
    assert Store(store.root).get("states", "k") is not None, "it passes"
    failures += [OSError(number, "no")] * 3
    with pytest.raises(OSError, match="no"):
        Store(store.root).get("states", "k")
    assert Store(store.root).get("states", "k") is not None, "and nothing is lost"
    assert not store.damaged()


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"{}", b'{"token":"x"}', b"[1]", b'{"token":"x","host":"h","pid":"?"}']
)
def test_a_damaged_lease_is_nobodys(store: Store, content: bytes) -> None:
    with store.lease("states", "k") as lease:
        path = lease.path
    path.write_bytes(content)
    assert not store.leased("states", "k")
    with store.lease("states", "k"):
        assert store.leased("states", "k")


def test_two_writers_of_one_entry_both_end_well(store: Store) -> None:
    with store.writing("states", "k") as one, store.writing("states", "k") as two:
        fill("same")(one)
        fill("same")(two)
    assert (store.get("states", "k") / "data.txt").read_text() == "same"
    assert [p.name for p in (store.root / "states").iterdir()] == ["k"]


def _count_build(root: str, log: str) -> None:
    def build(folder: Path) -> None:
        with Path(log).open("a") as f:
            f.write("built\n")
        time.sleep(0.3)
        fill("x")(folder)

    Store(root).make("corpus", "k", build)


def test_of_several_processes_one_builds(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count_build, args=(str(store.root), str(log))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert log.read_text() == "built\n"


def test_a_killed_holders_lease_is_free_at_once(store: Store) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(store.root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lease = Lease(store.root / "leases" / "states-k")
    assert lease.take() is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert lease.take() is None
    lease.release()


def test_a_lease_of_another_host_expires_without_a_heartbeat(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.root / "leases" / "states-k"
    path.parent.mkdir(parents=True)
    path.write_text('{"token": "x", "host": "elsewhere", "pid": 1, "born": "1"}')
    lease = Lease(path)
    assert lease.take() is not None
    monkeypatch.setattr(lease_module, "EXPIRY_S", 0.0)
    assert lease.take() is None
    lease.release()


def test_the_late_writer_learns_that_it_lost_its_lease(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.05)
    with store.lease("states", "k") as lease:
        lease.check()
        lease.path.write_text('{"token": "thief", "host": "elsewhere", "pid": 1, "born": "1"}')
        lease._beat.join(timeout=5)
        with pytest.raises(LeaseLost, match="process 1 on elsewhere"):
            lease.check()
    assert "thief" in lease.path.read_text(), "somebody else's lease is left alone"


def test_a_writer_that_slept_looks_at_its_lease_before_the_heartbeat_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.lease("states", "k") as lease:
        lease.path.write_text('{"token": "thief", "host": "elsewhere", "pid": 1, "born": "1"}')
        lease.check()
        now = lease_module.time.time()
        monkeypatch.setattr(lease_module.time, "time", lambda: now + 11)
        with pytest.raises(LeaseLost, match="process 1 on elsewhere"):
            lease.check()


def test_dropped_and_linked_entries(store: Store) -> None:
    store.make("interim", "k", fill("x"))
    store.link("interim", "k", "states")
    assert (store.keys("interim"), store.keys("states")) == ({"k"}, {"k"})
    assert store.drop("interim", "k")
    assert [(e.kind, e.key) for e in store.usage()] == [("states", "k")]
    linked = Store(store.root).get("states", "k")
    assert linked is not None and (linked / "data.txt").read_text() == "x", "whole by its digests"
    assert store.drop("states", "k") and store.drop("states", "k")
    assert store.usage() == ()


def test_what_a_living_process_claims_is_not_dropped(store: Store) -> None:
    store.make("interim", "k", fill("x"))
    first, second = Store(store.root), Store(store.root)
    first.claims.claim("k")
    with second.claims.within():
        second.claims.claim("k")
        first.claims.unclaim("k")
        assert not store.drop("interim", "k") and store.has("interim", "k")
        assert [holder.pid for holder in store.claims.holders("k")] == [os.getpid()]
    assert store.drop("interim", "k") and not store.has("interim", "k")
    assert list((store.root / "leases").iterdir()) == []


def test_a_killed_process_claims_nothing(store: Store) -> None:
    store.make("interim", "k", fill("x"))
    code = (
        "import os, signal, sys; from sweep.system.store import Store\n"
        "Store(sys.argv[1]).claims.claim('k'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    assert store.drop("interim", "k")


def test_a_digest_depends_on_every_part_and_no_order_of_keys() -> None:
    assert digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1})
    assert digest("a", 1) != digest("a", 1.5) != digest("b", 1.5)
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


def test_what_a_killed_writer_left_is_tidied_and_a_living_ones_work_is_not(store: Store) -> None:
    code = (
        "import os, signal, sys; from sweep.system.store import Store\n"
        "with Store(sys.argv[1]).writing('states', 'dead') as part:\n"
        "    (part / 'half').write_text('12345'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    with store.writing("states", "alive") as part:
        assert store.tidy() == 5
        assert part.is_dir()
        fill("x")(part)
    assert [path.name for path in (store.root / "states").iterdir()] == ["alive"]


def test_space_shows_and_frees(store: Store, tmp_path: Path) -> None:
    store.make("packs", "a", fill("x" * 2_000_000))
    store.make("states", "b", fill("y"))
    shown = subprocess.run(
        [sys.executable, "-m", "sweep", "space", "--free", "packs"],
        cwd=tmp_path,
        env={**os.environ, "SWEEP_STORE": str(store.root)},
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    assert "freed 2.0 MB" in shown
    assert (store.keys("packs"), store.keys("states")) == (set(), {"b"})


def test_space_leaves_an_interim_state_to_the_run_that_needs_it_and_tells_of_others(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("used", "abandoned"):
        store.make("interim", key, fill("x" * 1_000_000))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWEEP_STORE", str(store.root))
    with store.claims.within():
        store.claims.claim("used")
        monkeypatch.setattr(sys, "argv", ["sweep space"])
        space.main()
        assert "1 of the interim states, 1.0 MB, are of runs that no process works on" in capsys.readouterr().out
        monkeypatch.setattr(sys, "argv", ["sweep space", "--free", "interim"])
        space.main()
        assert "freed 1.0 MB" in capsys.readouterr().out
    assert store.keys("interim") == {"used"}


def test_space_waits_for_a_run_that_starts_from_a_state(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store.make("states", "k", fill("x"))
    store.claims.claim("k")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWEEP_STORE", str(store.root))
    monkeypatch.setattr(sys, "argv", ["sweep space", "--free", "states"])
    waited = []

    def ended(seconds: float) -> None:
        waited.append(store.has("states", "k"))
        store.claims.unclaim("k")

    monkeypatch.setattr(space.stop_signals, "pause", ended)
    space.main()
    assert waited == [True] and not store.has("states", "k")
    assert f"waiting for process {os.getpid()} on " in capsys.readouterr().out


def test_space_frees_what_a_download_cut_short_has_kept(store: Store, tmp_path: Path) -> None:
    parts = store.path("checkpoints", ".k.download")
    parts.mkdir(parents=True)
    (parts / "model.safetensors").write_bytes(bytes(2_000_000))
    command = [sys.executable, "-m", "sweep", "space", "--free", "checkpoints"]
    environment = {**os.environ, "SWEEP_STORE": str(store.root)}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=True).stdout
    assert "freed 2.0 MB" in shown and not parts.exists()


def test_a_heartbeat_outlives_a_file_system_that_is_away_for_a_while(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.05)
    with store.lease("states", "k") as lease:
        stamp = lease.path.stat().st_mtime_ns
        with monkeypatch.context() as away:
            away.setattr(lease_module.os, "utime", _away)
            time.sleep(0.3)
        deadline = time.monotonic() + 30
        while lease.path.stat().st_mtime_ns <= stamp:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        lease.check()


def _away(path: Path) -> None:
    raise OSError("Stale file handle")


def test_an_entry_without_files_is_our_mistake_and_is_never_made(store: Store) -> None:
    with pytest.raises(AssertionError, match="has no file"):
        store.make("states", "k", lambda folder: None)
    assert not store.has("states", "k")
