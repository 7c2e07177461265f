from pathlib import Path

import numpy as np
import pytest

from sweep.data import Instances, listing, public_url, remote
from sweep.data.remote import RemoteFile, Wanted, probe, spans
from sweep.system import http

LENGTH = 16


def _raw(path: Path, instances: int, *, extra: int = 0, seed: int = 0) -> Path:
    np.random.default_rng(seed).integers(0, 60_000, instances * LENGTH + extra).astype(np.uint16).tofile(path)
    return path


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("s3://ai2-llm/preprocessed/a.npy", "https://olmo-data.org/preprocessed/a.npy"),
        ("r2://olmo-data/preprocessed/a.npy", "https://olmo-data.org/preprocessed/a.npy"),
        ("http://olmo-data.org/a.npy", "http://olmo-data.org/a.npy"),
        ("s3://another/a.npy", None),
        ("weka://oe-training-default/a.npy", None),
        ("/here/a.npy", None),
    ],
)
def test_closed_buckets_have_their_public_address(path, url):
    assert public_url(path) == url


def test_instances_equal_local_ones_and_ai2_olmos_over_http(served, store, tmp_path):
    from olmo.data import MemMapDataset

    names = ["a.npy", "b.npy", "empty.npy", "c.npy"]
    paths = [
        _raw(served.folder / name, n, extra=extra, seed=n)
        for name, n, extra in zip(names, (30, 1, 0, 200), (5, 3, 0, 15), strict=True)
    ]
    urls = [f"{served.url}/{name}" for name in names]
    behind_http = Instances(listing(store, urls), sequence_length=LENGTH)
    local = Instances(paths, sequence_length=LENGTH)
    theirs = MemMapDataset(*[url for url in urls if "empty" not in url], chunk_size=LENGTH)
    assert len(behind_http) == len(local) == len(theirs) == 231
    indices = np.random.default_rng(1).permutation(231)[:100]
    expected = np.stack([theirs[int(i)]["input_ids"].numpy() for i in indices])
    np.testing.assert_array_equal(behind_http.read(indices), expected)
    np.testing.assert_array_equal(behind_http.read(indices), local.read(indices))
    mixed = Instances([paths[0], *listing(store, urls)[1:]], sequence_length=LENGTH)
    np.testing.assert_array_equal(mixed.read(indices), expected)


def test_the_listing_is_made_once(served, store):
    _raw(served.folder / "a.npy", 3)
    first = listing(store, [f"{served.url}/a.npy"])
    asked = len(served.ranges)
    assert listing(store, [f"{served.url}/a.npy"]) == first == [RemoteFile(f"{served.url}/a.npy", 96, '"1"')]
    assert len(served.ranges) == asked == 1


def test_near_instances_share_a_request_and_far_ones_do_not(monkeypatch):
    monkeypatch.setattr(remote, "GAP", 64)
    monkeypatch.setattr(remote, "LONGEST", 320)
    file = RemoteFile("u", 10**6, "")
    rows = np.array([50, 3, 4, 3, 7, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111])
    cut = [span.rows.tolist() for span in spans(Wanted(file, rows, np.arange(len(rows))), 32)]
    assert cut == [[3, 3, 4, 7], [50], list(range(100, 110)), [110, 111]]


@pytest.mark.parametrize("fault", ["cut", "short", "busy"])
def test_a_passing_fault_is_tried_again(served, store, fault):
    path = _raw(served.folder / "a.npy", 40)
    instances = Instances(listing(store, [f"{served.url}/a.npy"]), sequence_length=LENGTH)
    served.faults = [fault] * 3
    np.testing.assert_array_equal(
        instances.read(np.arange(40)), Instances([path], sequence_length=LENGTH).read(np.arange(40))
    )
    assert not served.faults


@pytest.mark.parametrize(("fault", "said"), [("cut", "IncompleteRead"), ("short", "got 95 bytes"), ("busy", "503")])
def test_a_lasting_fault_names_the_file_and_what_came(served, store, fault, said):
    _raw(served.folder / "a.npy", 3)
    instances = Instances(listing(store, [f"{served.url}/a.npy"]), sequence_length=LENGTH)
    served.faults = [fault] * 50
    with pytest.raises(OSError, match=rf"a\.npy, bytes 0 to 95: .*{said}"):
        instances.read(np.arange(3))


def test_a_file_that_changed_after_it_was_listed_is_not_read(served, store):
    _raw(served.folder / "a.npy", 3)
    instances = Instances(listing(store, [f"{served.url}/a.npy"]), sequence_length=LENGTH)
    served.etag = '"2"'
    with pytest.raises(OSError, match=r"changed since it was listed.*--free listings"):
        instances.read(np.arange(3))


def test_what_can_not_be_read_is_told_before_anything_else(served):
    with pytest.raises(OSError, match=r"absent\.npy, bytes 0 to 5: status 404"):
        probe(http.session(), f"{served.url}/absent.npy")
    np.save(served.folder / "saved.npy", np.arange(64, dtype=np.uint16))
    with pytest.raises(OSError, match="has a NumPy header"):
        probe(http.session(), f"{served.url}/saved.npy")
    served.ignores_ranges = True
    with pytest.raises(OSError, match="ignores range requests"):
        probe(http.session(), f"{served.url}/saved.npy")
