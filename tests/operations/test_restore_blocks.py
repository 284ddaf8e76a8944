"""Blocks restored on demand equal those of the whole."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.volume import Volume


class Counted:
    """An array that records which parts are read."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self.rows = np.zeros(data.shape[0], int)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = key[0] if isinstance(key, tuple) else key
        self.rows[rows] += 1
        return self.data[key]


def noisy(shape: tuple[int, ...], dtype: str = "float32") -> Volume:
    rng = np.random.default_rng(3)
    data = rng.normal(1000, 100, shape)
    data[..., shape[-1] // 2 :] += 800
    return Volume.from_array(
        data.astype(dtype), voxel_size=(2.0,) * len(shape), unit="µm"
    ).replace(origin=(4.0,) * len(shape))


@pytest.mark.parametrize(
    ("shape", "model", "chunks", "options"),
    [
        ((19, 61, 47), "ct-denoise", (7, 24, 25), {}),
        ((19, 33, 35), "cubic-x2", (9, 31, 32), {}),
        ((61, 47), "ct-denoise", (24, 25), {"output_dtype": "input"}),
        ((19, 41, 40), "gaussian", None, {"nonfinite": "zero"}),
    ],
)
def test_they_are_those_of_the_whole(shape, model, chunks, options):
    scan = noisy(shape, "uint16" if "output_dtype" in options else "float32")
    lazy = geosr.restore_blocks(scan, model, chunks=chunks, **options)
    whole = geosr.restore(scan, model, **options)
    if chunks:
        assert all(
            max(sizes) <= n for sizes, n in zip(lazy.data.chunks, chunks, strict=True)
        )
        assert lazy.data.npartitions > 1
    assert (lazy.shape, lazy.dtype, lazy.axes) == (whole.shape, whole.dtype, whole.axes)
    assert (lazy.voxel_size, lazy.unit, lazy.origin) == (
        whole.voxel_size,
        whole.unit,
        whole.origin,
    )
    difference = np.asarray(lazy, float) - np.asarray(whole, float)
    step = 1 if whole.dtype.kind == "u" else 1e-5 * np.std(scan)
    assert np.abs(difference).max() <= step


def test_only_what_is_used_is_read():
    data = np.asarray(noisy((60, 40, 40)))
    source = Counted(data)
    lazy = geosr.restore_blocks(source, "gaussian", chunks=(10, 40, 40))
    source.rows[:] = 0
    lazy.data[:10].compute()
    assert source.rows[:10].all()
    assert not source.rows[40:].any()


def test_another_process_can_compute_them():
    lazy = geosr.restore_blocks(noisy((8, 32, 32)), "gaussian", chunks=(4, 32, 32))
    again = pickle.loads(pickle.dumps(lazy.data))
    np.testing.assert_array_equal(again.compute(), np.asarray(lazy))


def test_their_pores_are_measured():
    scan = noisy((16, 40, 40))
    lazy = geosr.restore_blocks(scan, "gaussian", chunks=(4, 40, 40))
    whole = geosr.restore(scan, "gaussian")
    first, second = (geosr.measure_porosity(v, threshold=1400) for v in (lazy, whole))
    assert first.porosity == second.porosity
    assert first.table["volume"].tolist() == second.table["volume"].tolist()


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8, 32, 32), {"chunks": (4, 32)}, "needs 3 positive numbers"),
        ((8, 32, 32), {"chunks": (0, 32, 32)}, "needs 3 positive numbers"),
        ((8, 32, 32), {"model": "auto"}, "Name a model"),
    ],
)
def test_bad_settings_are_refused(shape, options, message):
    with pytest.raises(ConfigError, match=message):
        geosr.restore_blocks(noisy(shape), **options)


def test_a_series_is_refused():
    series = Volume.from_array(np.random.default_rng(0).random((2, 4, 32, 32)))
    with pytest.raises((ConfigError, VolumeError), match="series"):
        geosr.restore_blocks(series)
