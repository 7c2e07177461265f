from pathlib import Path

import numpy as np
import pytest

from sweep.data import Instances


def _raw(path: Path, count: int, *, dtype: str = "uint16", start: int = 0) -> Path:
    (np.arange(start, start + count) % 60_000).astype(dtype).tofile(path)
    return path


def _olmo_tokens(paths: list[Path], sequence_length: int, dtype: type) -> np.ndarray:
    from olmo.data import MemMapDataset

    dataset = MemMapDataset(*paths, chunk_size=sequence_length, memmap_dtype=dtype)
    return np.stack([dataset[index]["input_ids"].numpy() for index in range(len(dataset))])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_instances_equal_ai2_olmos_over_files_with_remainders(tmp_path, dtype):
    lengths = (7 * 16 + 5, 3, 0, 4 * 16, 16 + 15)
    paths = [_raw(tmp_path / f"{i}.npy", count, dtype=dtype, start=1000 * i) for i, count in enumerate(lengths)]
    instances = Instances(paths, sequence_length=16, dtype=dtype)
    expected = _olmo_tokens(paths, 16, getattr(np, dtype))
    assert len(instances) == len(expected) == 7 + 4 + 1
    tokens = instances.read(np.arange(len(instances)))
    assert tokens.dtype == np.int64
    np.testing.assert_array_equal(tokens, expected)


def test_read_keeps_the_order_asked_for_and_repeats(tmp_path):
    instances = Instances([_raw(tmp_path / "a", 64), _raw(tmp_path / "b", 64, start=500)], sequence_length=16)
    tokens = instances.read(np.array([7, 0, 4, 7], dtype=np.uint32))
    np.testing.assert_array_equal(tokens[:, 0], [548, 0, 500, 548])
    assert instances.read(np.empty(0, dtype=np.uint32)).shape == (0, 16)


@pytest.mark.parametrize("index", [-1, 8])
def test_an_index_outside_names_the_files(tmp_path, index):
    path = _raw(tmp_path / "tokens.npy", 128)
    with pytest.raises(IndexError, match=rf"asked of 8 in .*{path.name}"):
        Instances([path], sequence_length=16).read(np.array([0, index]))


def test_refusals_name_the_path_and_what_is_allowed(tmp_path):
    absent = tmp_path / "absent.npy"
    with pytest.raises(FileNotFoundError, match=r"absent\.npy"):
        Instances([absent], sequence_length=16)
    with pytest.raises(ValueError, match=r"'float32' is unknown; one of uint8, uint16"):
        Instances([absent], sequence_length=16, dtype="float32")
    with pytest.raises(ValueError, match="no memmap file"):
        Instances([], sequence_length=16)
    with pytest.raises(ValueError, match="sequence_length is 0"):
        Instances([absent], sequence_length=0)


def test_a_numpy_header_is_refused_before_it_is_read_as_tokens(tmp_path):
    np.save(tmp_path / "saved.npy", np.arange(64, dtype=np.uint16))
    with pytest.raises(ValueError, match=r"saved\.npy has a NumPy header"):
        Instances([tmp_path / "saved.npy"], sequence_length=16)
