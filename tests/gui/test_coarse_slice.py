"""If a slice takes a long time, a coarse one is shown first, at the same position."""

from __future__ import annotations

import numpy as np
import pytest
from tomography_helpers import PIXEL, axis_of, idle, opened, scan, scan_file

from napari_geosr.gui.reconstruct import coarse_slice as _coarse_slice
from napari_geosr.gui.reconstruct.coarse_slice import binning_factor, coarse_slice
from napari_geosr.operations.reconstruct import reconstruct_slice
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.preview import PreviewRow


def settings(**values):
    return ReconstructConfig.create(threads=1, **values)


def test_only_what_takes_long_is_coarse_at_first():
    small = scan()
    sirt = settings(algorithm="sirt", iterations=20)
    assert binning_factor(small, settings()) == 1
    assert binning_factor(small, sirt) == 1
    wide = np.zeros((60, 1, 1024), np.float32)
    large = small.replace(data=wide, flats=None, darks=None, is_line_integrals=True)
    assert binning_factor(large, settings()) == 1
    factors = [
        binning_factor(large, settings(algorithm="tv", iterations=n))
        for n in (5, 80, 1280)
    ]
    # A sixteenth of the iterations allows four times the edge length; there are never
    # only a few columns.
    assert factors == [2, 5, 16]


@pytest.mark.parametrize("factor", [2, 3])
def test_it_has_the_values_and_the_place_of_the_sharp_one(factor):
    made = scan(n=96, rows=3)
    config = settings(algorithm="cgls", iterations=8)
    lines = PreviewRow().get(made, config, 2)
    axis = axis_of(made)
    tried = coarse_slice(lines, config, 2, axis, factor, lambda: False)
    sharp = reconstruct_slice(made, 2, config, axis)
    coarse = tried.volume
    assert coarse.voxel_size == pytest.approx((PIXEL[0], *[PIXEL[1] * factor] * 2))
    assert coarse.origin[0] == pytest.approx(sharp.origin[0]) == 2 * PIXEL[0]

    def middles(volume):
        """Positions of the voxels of a row."""
        return volume.origin[2] + volume.voxel_size[2] * np.arange(volume.shape[2])

    # At the same positions, only the sharpness of edges differs.
    at = np.searchsorted(middles(sharp), middles(coarse)).clip(0, sharp.shape[2] - 1)
    seen = sharp.data[0][np.ix_(at, at)]
    assert np.corrcoef(coarse.data[0].ravel(), seen.ravel())[0, 1] > 0.93
    inside = np.s_[0, coarse.shape[1] // 2 :, coarse.shape[2] // 2 :]
    assert coarse.data[inside].max() == pytest.approx(sharp.data.max(), rel=0.25)


def test_the_dock_shows_it_until_the_sharp_one_is_there(
    viewer, qtbot, tmp_path, monkeypatch
):
    monkeypatch.setattr(_coarse_slice, "_MIN_EDGE", 8)
    monkeypatch.setattr(_coarse_slice, "_MAX_WORK", 1e5)
    dock = opened(viewer, scan_file(tmp_path))
    dock.algorithm.combo.setCurrentIndex(dock.algorithm.combo.findData("cgls"))
    shown = []

    def note(tried, is_coarse):
        layer = dock.activity.preview.layer
        shown.append((is_coarse, layer.data.shape[-1], dock.estimate.text()))
        assert layer.extent.world[1][-1] < 60 * PIXEL[1]

    dock.activity.previewed.connect(note)
    dock.preview_button.click()
    qtbot.waitUntil(lambda: len(shown) == 2, timeout=60_000)
    idle(dock, qtbot)
    (first, coarse, said), (second, sharp, _) = shown
    assert (first, second) == (True, False)
    assert coarse * 2 <= sharp
    assert said.startswith("Coarse preview")
    assert "coarse" not in dock.estimate.text()
    assert dock.activity.known_centre() is not None
