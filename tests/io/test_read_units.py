"""Files report their decoding units; caches keep within their limits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from napari_geosr import io
from napari_geosr.io.formats.tiff import reading as tiff_reading
from napari_geosr.io.lazy import LazyArray, cache_limited, read_unit, useful_cache

SHAPE = (20, 30, 40)
MIB = 1024**2


class Counted:
    """A source in blocks that counts how many voxels are decoded at once."""

    dtype = np.dtype(np.uint16)

    def __init__(self, shape: tuple[int, ...] = SHAPE) -> None:
        self.shape = shape
        self.voxels = np.arange(math.prod(shape), dtype=np.uint16).reshape(shape)
        self.read: list[tuple[slice, ...]] = []

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        self.read.append(key)
        return self.voxels[key]


def lazy(source: Counted, chunks: tuple[int, ...], cache: int) -> LazyArray:
    return LazyArray(source, Path("a.zarr"), chunks, cache_bytes=cache)


@pytest.mark.parametrize("cache", [0, 500, 5000, 20_000, 10**6])
def test_boxes_are_the_same_with_any_cache(cache: int, monkeypatch: Any) -> None:
    monkeypatch.setattr("napari_geosr.io.lazy._MIN_GROUP_BYTES", 1500)
    source = Counted()
    array = lazy(source, (7, 8, 9), cache)
    rng = np.random.default_rng(0)
    for _ in range(60):
        ends = [sorted(rng.integers(0, n + 1, 2)) for n in SHAPE]
        key = tuple(slice(int(a), int(b)) for a, b in ends)
        np.testing.assert_array_equal(array[key], source.voxels[key])
        assert array._cached_bytes <= cache
    # 7 × 8 × 9 voxels are 1008 bytes: each call decodes one block or uses the cache.
    blocks = [
        math.prod(
            -(-k.stop // c) - k.start // c for k, c in zip(key, (7, 8, 9), strict=True)
        )
        for key in source.read
    ]
    assert max(blocks) <= max(1, cache // 8 // 1008)


def test_room_is_made_before_a_block_is_decoded() -> None:
    block = 10 * 30 * 40 * 2

    class Watching(Counted):
        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            held.append(array._cached_bytes)
            return super().__getitem__(key)

    held: list[int] = []
    array = lazy(Watching(), (10, 30, 40), block)
    assert array[0:2].sum() < array[12:14].sum()
    assert held == [0, 0]


def test_a_block_larger_than_the_cache_is_decoded_for_each_request() -> None:
    source = Counted()
    array = lazy(source, SHAPE, 0)
    for _ in range(3):
        np.testing.assert_array_equal(array[2:4], source.voxels[2:4])
    assert len(source.read) == 3
    with cache_limited(array, useful_cache(array, 10**9)):
        for _ in range(3):
            np.testing.assert_array_equal(array[2:4], source.voxels[2:4])
    assert len(source.read) == 4
    assert array.cache_bytes == 0


def test_a_useful_cache_fits_into_the_room() -> None:
    array = lazy(Counted((64, 512, 512)), (64, 256, 256), 0)
    unit = read_unit(array)
    assert unit is not None
    assert unit.nbytes == 8 * MIB
    assert unit.decoding_bytes == 16 * MIB
    assert useful_cache(array, 10**9) == 128 * MIB
    assert useful_cache(array, 80 * MIB) == 32 * MIB  # a layer of four blocks
    assert useful_cache(array, 40 * MIB) == 20 * MIB
    assert useful_cache(array, 24 * MIB) == 8 * MIB
    assert useful_cache(array, 23 * MIB) == 0
    assert useful_cache(np.zeros(4), 10**9) is None


def test_zarr_tells_its_chunks(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=SHAPE, chunks=(16, 16, 64), dtype="uint16"
    )
    array[:] = 1
    unit = read_unit(io.read(tmp_path / "a.zarr").data)
    assert unit is not None
    assert unit.shape == (16, 16, 40)
    assert unit.nbytes == 16 * 16 * 40 * 2
    # zarr decodes full-size chunks even at the border of the volume.
    assert unit.decoding_bytes == 2 * 16 * 16 * 64 * 2


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_hdf5_tells_its_chunks(tmp_path: Path, compression: str | None) -> None:
    voxels = np.random.default_rng(0).integers(0, 2**16, SHAPE).astype(np.uint16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=voxels)
        options: Any = {"chunks": (10, 30, 40), "compression": compression}
        file.create_dataset("b", data=voxels, **options)
    assert read_unit(io.read(tmp_path / "a.h5", dataset="a").data) is None
    unit = read_unit(io.read(tmp_path / "a.h5", dataset="b").data)
    assert unit is not None
    assert unit.nbytes == 10 * 30 * 40 * 2
    assert 2.8 * unit.nbytes < unit.decoding_bytes <= 3 * unit.nbytes


def test_compressed_tiff_pages_are_units_and_plain_ones_are_not(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tiff_reading, "EAGER_BYTES", 1000)
    voxels = np.random.default_rng(0).integers(0, 2**16, SHAPE).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", voxels, compression="zlib")
    tifffile.imwrite(tmp_path / "b.tif", voxels)
    unit = read_unit(io.read(tmp_path / "a.tif").data)
    assert unit is not None
    assert unit.shape == (1, 30, 40)
    plain = io.read(tmp_path / "b.tif").data
    assert isinstance(plain, LazyArray)
    assert read_unit(plain) is None
