"""The automatic sample mask compared with scipy's morphology, and typical cases."""

from __future__ import annotations

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure, scan
from scipy import ndimage

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.measure import blocks
from napari_geosr.measure.sample.mask import check_sample_mask_memory, sample_mask_steps


def expected_mask(solid: np.ndarray, closing: int) -> np.ndarray:
    labels, _ = ndimage.label(solid, np.ones((3, 3, 3)))
    body = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    padded = np.pad(body, 2 * closing, mode="edge")
    if closing:
        padded = ndimage.binary_closing(padded, iterations=closing)
        padded = padded[(slice(2 * closing, -2 * closing),) * 3]
    return ndimage.binary_fill_holes(padded | body)


@pytest.mark.parametrize("closing", [0, 1, 4])
@pytest.mark.parametrize("slab_voxels", [1 << 22, 4 * 900])
def test_sample_mask_is_that_of_scipy(
    closing: int, slab_voxels: int, monkeypatch
) -> None:
    monkeypatch.setattr(blocks, "SLAB_VOXELS", slab_voxels)
    rng = np.random.default_rng(closing)
    smooth = ndimage.gaussian_filter(rng.standard_normal((28, 30, 30)), 1.5)
    solid = ellipsoid((28, 30, 30), (13, 15, 14), 12) & (smooth > -0.05)
    solid[0, 0, :3] = True
    solid = solid[4:]  # the specimen is cut by a face
    found = run_to_end(sample_mask_steps(solid, closing))
    np.testing.assert_array_equal(found, expected_mask(solid, closing))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("slices", [6, 20])
def test_pores_at_a_cut_face_belong_to_the_sample(axis: int, slices: int) -> None:
    """A ring of bone with straight canals, cut at both ends."""
    y, x = np.ogrid[:64, :64]
    distance = np.hypot(y - 31.5, x - 31.5)
    ring = (distance <= 28) & (distance > 16)
    canals = np.zeros((64, 64), bool)
    for angle in np.arange(8) * np.pi / 4:
        centre = 31.5 + 22 * np.array([np.cos(angle), np.sin(angle)])
        canals |= np.hypot(y - centre[0], x - centre[1]) <= 3
    solid = np.moveaxis(np.repeat((ring & ~canals)[None], slices, 0), 0, axis)
    found = run_to_end(sample_mask_steps(solid, 4, thickness=5))
    expected = np.broadcast_to(np.expand_dims(ring, axis), found.shape)
    np.testing.assert_array_equal(found, expected)


def test_open_pores_with_narrow_mouths_belong_to_the_sample() -> None:
    body = ellipsoid((48,) * 3, (24,) * 3, 20)
    pore = ellipsoid((48,) * 3, (24,) * 3, 7)
    pore[24, 24, 24:] = True  # a channel to the outside
    report = measure(scan(~body | pore), sample_mask="auto")
    assert report.sample_voxels == pytest.approx(body.sum(), rel=0.02)
    assert report.open_porosity == pytest.approx(0.047, abs=0.005)
    assert report.closed_porosity == 0
    without = measure(scan(~body | pore), sample_mask="auto", mask_closing=0)
    assert without.sample_voxels < report.sample_voxels - pore.sum() / 2


def test_image() -> None:
    disc = ellipsoid((1, 50, 50), (0, 25, 25), 20)[0]
    hole = ellipsoid((1, 50, 50), (0, 25, 25), 5)[0]
    report = measure(scan(~disc | hole), "YX", sample_mask="auto")
    assert report.porosity == pytest.approx(hole.sum() / disc.sum(), rel=0.02)


def test_refusals() -> None:
    with pytest.raises(VolumeError, match="no solid"):
        run_to_end(sample_mask_steps(np.zeros((3, 4, 5), bool), 2, name="air.tif"))
    with pytest.raises(VolumeError, match="mask of your own"):
        check_sample_mask_memory((1000, 1000, 1000), 10**9, "big")
    with pytest.raises(Cancelled):
        run_to_end(
            sample_mask_steps(np.ones((3, 4, 5), bool), 2, should_stop=lambda: True)
        )


def test_voxels_that_are_no_numbers_are_no_solid() -> None:
    """Outside the reconstructed circle, a slice may be NaN, which counts as air."""
    body = ellipsoid((40, 48, 48), (20, 24, 24), 14)
    pore = ellipsoid((40, 48, 48), (20, 24, 24), 5)
    data = scan(~body | pore).astype(np.float32)
    y, x = np.ogrid[:48, :48]
    seen = np.hypot(y - 23.5, x - 23.5) < 23
    air = measure(data, sample_mask="auto")
    assert air.sample_voxels == body.sum()
    missing = measure(np.where(seen, data, np.float32(np.nan)), sample_mask="auto")
    assert missing.sample_voxels == body.sum()
    assert missing.porosity == pytest.approx(pore.sum() / body.sum())
    # Their share is that of the volume, whatever the mask.
    share = f"({100 * np.mean(~seen):.2g} %) are NaN"
    assert any(share in text for text in missing.warnings)
    # Inside, a hole of NaN belongs to neither pores nor sample.
    data[20, 24, 34:36] = np.nan
    holed = measure(data, sample_mask="auto")
    assert holed.sample_voxels == body.sum() - 2
