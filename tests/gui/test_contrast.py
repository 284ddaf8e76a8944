"""Files open with the contrast of the whole volume, not of the first slice."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tifffile
import zarr

from napari_geosr.gui.layers import contrast
from napari_geosr.gui.layers.contrast import limits_of


@pytest.fixture
def data(rng):
    """Slices of increasing brightness; the first is nearly black."""
    steps = np.arange(1, 21, dtype=np.uint16)[:, None, None]
    return (steps * rng.integers(90, 101, (20, 40, 44))).astype(np.uint16)


def write(kind, data, folder):
    if kind == "slices":
        path = folder / "scan"
        path.mkdir()
        for i, plane in enumerate(data):
            tifffile.imwrite(path / f"{i:03}.tif", plane)
    elif kind == "tiff":
        path = folder / "scan.tif"
        tifffile.imwrite(path, data, photometric="minisblack", metadata={"axes": "ZYX"})
    else:
        path = folder / "scan.zarr"
        zarr.create_array(path, data=data, chunks=(1, 40, 44))
    return path


@pytest.mark.parametrize("kind", ["slices", "tiff", "zarr"])
def test_limits_are_those_of_the_whole(viewer, qtbot, data, tmp_path, kind):
    (layer,) = viewer.open(write(kind, data, tmp_path), plugin="napari-geosr")
    qtbot.waitUntil(lambda: not contrast._running)
    low, high = layer.contrast_limits
    assert low < 120
    assert 1990 <= high <= 2000
    assert layer.contrast_limits_range[1] <= 3000  # the slider can be used


def test_limits_of_a_person_stay(viewer, qtbot, data, tmp_path, monkeypatch):
    go_on = threading.Event()
    steps = contrast.limits_steps

    def slow(data, should_stop):
        go_on.wait(10)
        return (yield from steps(data, should_stop))

    monkeypatch.setattr(contrast, "limits_steps", slow)
    (layer,) = viewer.open(write("slices", data, tmp_path), plugin="napari-geosr")
    layer.contrast_limits = (5, 77)
    layer.contrast_limits = (5, 78)
    go_on.set()
    qtbot.waitUntil(lambda: not contrast._running)
    assert list(layer.contrast_limits) == [5, 78]


def test_nothing_is_read_on_the_main_thread(viewer, qtbot, data, tmp_path, monkeypatch):
    threads = []
    sample = contrast._sample

    def noted(values):
        threads.append(threading.current_thread())
        return sample(values)

    monkeypatch.setattr(contrast, "_sample", noted)
    viewer.open(write("slices", data, tmp_path), plugin="napari-geosr")
    qtbot.waitUntil(lambda: not contrast._running)
    assert len(threads) == 9
    assert threading.main_thread() not in threads


def test_outliers_do_not_darken_the_rest(rng):
    values = rng.normal(100, 10, 100_000)
    low, high = limits_of(values)
    assert (low, high) == (values.min(), values.max())
    values[:20] = 60_000
    assert limits_of(values)[1] < 200
    assert limits_of(np.full(10, 3.0)) is None
    assert limits_of(np.empty(0)) is None
    assert limits_of(np.array([0, 1] * 50)) == (0, 1)


@pytest.mark.parametrize(
    "shape",
    [(511, 511), (95, 95, 95), (40, 30, 47, 95), (6, 5, 30, 31, 47), (2, 1, 1, 9000)],
)
def test_a_sample_is_small_whatever_the_axes(shape):
    taken = len(contrast._sample(np.ones(shape, np.uint8)))
    most = contrast._MAX_VOXELS
    assert min(most, np.prod(shape)) / 8 < taken <= most
