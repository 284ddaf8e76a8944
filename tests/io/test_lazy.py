"""A lazy array is indexed like numpy, decodes little, and has a bounded cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_geosr.core.errors import FileError
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.voxel_sources import ArrangedSource, MappedSource, arrange

PATH = Path("a.tif")


class Counting:
    """A source that counts the voxels it decodes."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.decoded = 0

    def __getitem__(self, key: Any) -> Any:
        part = self.array[key]
        self.decoded += part.size
        return part


def indices(n: int) -> st.SearchStrategy[Any]:
    bound = st.one_of(st.none(), st.integers(-n - 2, n + 2))
    step = st.sampled_from([None, 1, 2, 3, -1, -2])
    return st.one_of(st.integers(-n, n - 1), st.builds(slice, bound, bound, step))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_indexing_is_numpys(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    chunks = [data.draw(st.integers(1, 10)) for _ in shape]
    array = np.arange(np.prod(shape)).reshape(shape)
    lazy = LazyArray(array, PATH, chunks, data.draw(st.sampled_from([0, 100, 10**6])))
    for _ in range(3):
        key: Any = tuple(data.draw(indices(n)) for n in shape)
        first = data.draw(st.integers(0, len(shape)))
        last = data.draw(st.integers(first, len(shape)))
        key = (*key[:first], Ellipsis, *key[last:])
        if last == len(shape) and data.draw(st.booleans()):
            key = key[:-1]
        np.testing.assert_array_equal(lazy[key], array[key])
    assert lazy._cached_bytes <= max(lazy.cache_bytes, 0)


def test_bad_indices() -> None:
    lazy = LazyArray(np.zeros((3, 4)), PATH, (1, 4))
    for key in ((0, 0, 0), 3, -4):
        with pytest.raises(IndexError):
            lazy[key]


def test_a_block_is_decoded_once() -> None:
    source = Counting(np.arange(64 * 64 * 64).reshape(64, 64, 64))
    lazy = LazyArray(source, PATH, (16, 16, 16))
    for z in range(0, 64, 16):
        for y in range(0, 64, 16):
            lazy[max(0, z - 4) : z + 20, max(0, y - 4) : y + 20, :]
    assert source.decoded == 64**3


def test_large_requests_bypass_the_cache() -> None:
    source = Counting(np.zeros((8, 8, 8)))
    lazy = LazyArray(source, PATH, (1, 8, 8), cache_bytes=1024)
    assert lazy[:].shape == (8, 8, 8)
    assert lazy._cached_bytes == 0
    lazy[0]
    assert lazy._cached_bytes == 512
    lazy.cache_bytes = 100
    assert lazy._cached_bytes == 0


def test_errors_of_the_decoder_name_the_file() -> None:
    def fail(_: Any) -> Any:
        raise ZeroDivisionError("division by zero")

    lazy = LazyArray(MappedSource(np.zeros((3, 3)), fail), Path("bad.tif"), (1, 3))
    with pytest.raises(FileError, match=r"bad\.tif is damaged.*division by zero"):
        lazy[0]


def test_to_dask() -> None:
    array = np.arange(60).reshape(3, 4, 5)
    lazy = LazyArray(array, PATH, (1, 4, 5)).to_dask()
    assert lazy.chunks == ((1, 1, 1), (4,), (5,))
    np.testing.assert_array_equal(lazy[1:, 2].compute(), array[1:, 2])


@pytest.mark.parametrize("order", [(2, 0), (0, None, 2), (None, 2, 0)])
def test_arranged_like_arrange(order: tuple[int | None, ...]) -> None:
    array = np.arange(12).reshape(3, 1, 4)
    lazy = LazyArray(ArrangedSource(array, order), PATH, [2] * len(order))
    np.testing.assert_array_equal(np.asarray(lazy), arrange(array, order))


def test_no_two_arrays_share_a_dask_name() -> None:
    """A cache of dask's results may outlive the array, and ids are reused."""
    seen = set()
    for value in range(50):
        lazy = LazyArray(np.full((2, 3), value), PATH, (1, 3))
        seen.add(lazy.to_dask().name)
        del lazy
    assert len(seen) == 50
