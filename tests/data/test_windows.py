import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from sweep.data import Continued, FetchedWindow, Instances, RemoteFile, Window, listing
from sweep.data import windows as rooms
from sweep.data.windows import read_ahead
from sweep.domain.errors import Refusal
from sweep.system.store import Store
from tests.data.test_order import SEQUENCE_LENGTH, _olmo_batches, _position
from tests.processes import Script

CHUNK = rooms.CHUNK
COUNT = 150


def _local(folder: Path) -> list[Path]:
    files = [folder / "a.npy", folder / "b.npy"]
    for seed, (file, count) in enumerate(zip(files, (90, 60), strict=True)):
        np.random.default_rng(seed).integers(0, 2048, count * SEQUENCE_LENGTH + 3).astype(np.uint16).tofile(file)
    return files


def _fetched(store: Store, served, *, seed: int = 0, key: str = "key") -> FetchedWindow:
    instances = Instances(listing(store, [f"{served.url}/{n}.npy" for n in "ab"]), sequence_length=SEQUENCE_LENGTH)
    order = Continued(num_instances=COUNT, position=_position(instances=20), batch_size=4, shuffle_seed=seed)
    return FetchedWindow(instances, order, vocab_size=2048, store=store, key=key)


def _direct(files: list[Path], *, vocab_size: int = 2048) -> Window:
    instances = Instances(files, sequence_length=SEQUENCE_LENGTH)
    order = Continued(num_instances=COUNT, position=_position(instances=20), batch_size=4)
    return Window(instances, order, vocab_size=vocab_size)


def test_fetched_batches_equal_local_ones_and_ai2_olmos_across_epochs(served, store):
    files = _local(served.folder)
    updates = 2 * (COUNT // 4) + 3
    fetched = list(_fetched(store, served).batches(0, updates))
    theirs = [batch.tokens for batch in islice(_olmo_batches(files, _position(instances=20), 4), updates)]
    np.testing.assert_array_equal(fetched, theirs)
    np.testing.assert_array_equal(fetched, list(_direct(files).batches(0, updates)))
    assert fetched[0].dtype == np.int64


def test_going_on_reads_the_same_batches(served, store):
    files = _local(served.folder)
    for window in (_direct(files), _fetched(store, served)):
        np.testing.assert_array_equal(list(window.batches(30, 60)), list(window.batches(0, 60))[30:])


def test_a_longer_run_only_adds_chunks_and_a_second_run_fetches_nothing(served, store):
    _local(served.folder)
    list(_fetched(store, served).batches(0, CHUNK))
    asked = len(served.ranges)
    assert len(store.keys("windows")) == 1
    list(_fetched(store, served).batches(0, CHUNK))
    list(_fetched(store, served).batches(3, CHUNK - 1))
    assert len(served.ranges) == asked
    list(_fetched(store, served).batches(0, CHUNK + 1))
    assert len(store.keys("windows")) == 2
    list(_fetched(store, served).batches(2 * CHUNK, 3 * CHUNK))
    assert len(store.keys("windows")) == 3, "a run that resumes fetches what it still needs, not what it has behind it"


def test_another_order_or_other_data_is_another_window(served, store):
    _local(served.folder)
    one = np.array(list(_fetched(store, served).batches(0, 5)))
    two = np.array(list(_fetched(store, served, seed=1, key="other").batches(0, 5)))
    assert (one != two).any()
    assert len(store.keys("windows")) == 2


def test_a_damaged_chunk_is_fetched_again(served, store):
    _local(served.folder)
    before = list(_fetched(store, served).batches(0, 5))
    chunk = store.path("windows", next(iter(store.keys("windows")))) / "tokens.npy"
    chunk.write_bytes(b"x" * chunk.stat().st_size)
    np.testing.assert_array_equal(list(_fetched(Store(store.root), served).batches(0, 5)), before)


def test_a_connection_that_dies_for_good_leaves_whole_chunks_and_no_half_one(served, store, monkeypatch):
    _local(served.folder)
    monkeypatch.setattr(rooms, "CHUNK", 2)
    window = _fetched(store, served)
    window._prepare(0, 2)
    served.faults = ["cut"] * 1000
    with pytest.raises(OSError, match="bytes"):
        window._prepare(0, 6)
    assert len(store.keys("windows")) == 1
    served.faults = []
    assert len(list(_fetched(store, served).batches(0, 6))) == 6


WORKER = """
import sys
from sweep.data import Continued, FetchedWindow, Instances, listing, windows
from sweep.system.store import Store
from tests.data.test_windows import COUNT, SEQUENCE_LENGTH, _position
windows.CHUNK = 2
store = Store(sys.argv[1])
files = listing(store, [f"{sys.argv[2]}/{n}.npy" for n in "ab"])
order = Continued(num_instances=COUNT, position=_position(instances=20), batch_size=4)
instances = Instances(files, sequence_length=SEQUENCE_LENGTH)
window = FetchedWindow(instances, order, vocab_size=2048, store=store, key="key")
print("start", flush=True)
print(sum(int(batch.sum()) for batch in window.batches(0, 40)))
"""


def _worker(store: Store, served) -> Script:
    return Script(WORKER, str(store.root), served.url)


def test_a_killed_fetch_goes_on_from_its_whole_chunks(served, store, monkeypatch):
    files = _local(served.folder)
    monkeypatch.setattr(rooms, "CHUNK", 2)
    served.silent_after = 12
    with _worker(store, served) as worker:
        assert worker.stdout.readline() == "start\n"
        while len(served.ranges) <= 12:
            assert worker.poll() is None
            time.sleep(0.01)
        worker.kill()
    served.silent_after = None
    served.go_on.set()
    left = store.keys("windows")
    assert 1 <= len(left) < 20
    stamps = {key: store.path("windows", key).stat().st_mtime_ns for key in left}
    with _worker(store, served) as worker:
        out, err = worker.communicate(timeout=60)
    assert worker.returncode == 0, err
    assert int(out.split()[1]) == sum(int(batch.sum()) for batch in _direct(files).batches(0, 40))
    assert len(store.keys("windows")) == 20
    assert stamps == {key: store.path("windows", key).stat().st_mtime_ns for key in left}


def test_two_processes_share_the_fetching(served, store):
    files = _local(served.folder)
    with _worker(store, served) as one, _worker(store, served) as two:
        outputs = [worker.communicate(timeout=60) for worker in (one, two)]
    assert [one.returncode, two.returncode] == [0, 0], outputs
    expected = sum(int(batch.sum()) for batch in _direct(files).batches(0, 40))
    assert {int(out.split()[1]) for out, _ in outputs} == {expected}
    wanted = [request for request in served.ranges if request[2] - request[1] > 5]
    assert len(store.keys("windows")) == 20
    assert len(wanted) <= 2 * 20, "a chunk is at most one request a file here, and each was fetched once"


def test_a_token_id_that_the_model_does_not_have_is_refused(served):
    window = _direct(_local(served.folder), vocab_size=2000)
    with pytest.raises(Refusal, match=r"update \d+ holds token id 20\d\d, and the model has 2000: .*data\.dtype"):
        list(window.batches(0, 30))


def test_remote_is_what_is_behind_a_network(served):
    files = _local(served.folder)
    assert not Instances(files, sequence_length=8).remote
    assert Instances([*files, RemoteFile("http://x/y", 100, "")], sequence_length=8).remote


def test_batches_are_read_ahead_in_order_and_no_further_than_they_may():
    made = []

    def items():
        for number in range(6):
            made.append(number)
            yield np.array([number])
        raise Refusal("the seventh can't be read")

    ahead = read_ahead(items(), depth=2)
    assert next(ahead) == 0
    deadline = time.monotonic() + 30
    while len(made) < 3:
        assert time.monotonic() < deadline, "the next ones are made while the first is used"
        time.sleep(0.01)
    assert made == [0, 1, 2]
    assert [int(next(ahead)[0]) for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(Refusal, match="seventh"):
        next(ahead)


def test_who_stops_early_leaves_no_reader_behind():
    ahead = read_ahead(iter([np.zeros(1)] * 10))
    next(ahead)
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
