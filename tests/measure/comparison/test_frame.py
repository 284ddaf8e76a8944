"""Volumes with different voxels in one frame: means, common region, errors."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.frame import on_common_frame


def volume(shape, voxel=1.0, origin=0.0, unit="µm", rng=None, **more) -> Volume:
    rng = rng or np.random.default_rng(1)
    n = len(shape)
    size = voxel if isinstance(voxel, tuple) else (float(voxel),) * n
    first = origin if isinstance(origin, tuple) else (float(origin),) * n
    data = rng.random(shape, np.float32)
    return Volume(data, "ZYX"[-n:], size, unit, first, **more)


def test_equal_voxels_are_taken_as_they_are():
    a, b = volume((5, 7, 9)), volume((5, 7, 9), name="b")
    placed = on_common_frame({"a": a, "b": b})
    assert placed["a"].frame.shape == (5, 7, 9)
    np.testing.assert_array_equal(np.asarray(placed["b"].array), b.data)
    assert not placed["a"].remark()


def test_a_finer_volume_becomes_means_over_its_voxels():
    """×2 super-resolution keeps the outer edges, so its first centre is at −¼."""
    coarse = volume((5, 7, 9), 2.0)
    fine = volume((10, 14, 18), 1.0, -0.5)
    placed = on_common_frame({"coarse": coarse, "fine": fine})
    assert placed["fine"].factors == (2, 2, 2)
    assert placed["fine"].is_whole
    means = fine.data.reshape(5, 2, 7, 2, 9, 2).mean((1, 3, 5))
    np.testing.assert_allclose(np.asarray(placed["fine"].array), means, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(placed["coarse"].array), coarse.data)
    assert "averaged over blocks of 2 × 2 × 2" in placed["fine"].remark()


def test_parts_are_those_of_the_whole():
    placed = on_common_frame(
        {"c": volume((6, 7, 9), 3.0), "f": volume((23, 25, 30), 0.9)}
    )
    whole = np.asarray(placed["f"].array)
    for key in (
        (slice(2, 4),),
        (slice(None), slice(1, 6), slice(3, 5)),
        (3,),
        (slice(0, 6, 2), 2),
        (-1, slice(None), slice(None, None, 3)),
        (slice(4, 4),),
    ):
        np.testing.assert_allclose(placed["f"].array[key], whole[key], rtol=1e-5)


def test_voxels_that_do_not_fit_are_shared_by_area():
    """With a ratio of 1.5, half voxels are weighted, which is reported."""
    fine = Volume(np.arange(6.0).reshape(1, 6), "YX", (3.0, 2.0), "µm", (0.0, 1.0))
    coarse = Volume(np.zeros((1, 4)), "YX", (3.0, 3.0), "µm", (0.0, 1.5))
    placed = on_common_frame({"coarse": coarse, "fine": fine})["fine"]
    expected = [(0 + 0.5 * 1) / 1.5, (0.5 * 1 + 2) / 1.5, (3 + 0.5 * 4) / 1.5]
    expected.append((0.5 * 4 + 5) / 1.5)
    np.testing.assert_allclose(np.asarray(placed.array)[0], expected, rtol=1e-6)
    assert not placed.is_whole
    assert "share some of its voxels" in placed.remark()


def test_the_mean_is_kept_whatever_the_ratio(rng):
    coarse, fine = volume((8, 8, 8), 2.0, 1.0), volume((23, 23, 23), 0.7, 0.35)
    placed = on_common_frame({"c": coarse, "f": fine})["f"]
    n = placed.frame.shape[0]
    ramp = np.arange(23) * 0.7 + 0.35  # the position of each voxel
    fine = fine.replace(data=np.broadcast_to(ramp[:, None, None], (23,) * 3))
    means = np.asarray(on_common_frame({"c": coarse, "f": fine})["f"].array)[:, 0, 0]
    # A stepped ramp, accurate to less than one of its voxels.
    np.testing.assert_allclose(means, 1.0 + 2 * np.arange(n), atol=0.35)


def test_the_common_region_of_odd_extents_and_origins():
    a = volume((10, 11, 13), 2.0, (0.0, 0.0, 0.0))
    b = volume((9, 31, 8), (2.0, 1.0, 2.0), (4.0, -0.5, -2.0))
    placed = on_common_frame({"a": a, "b": b})
    frame = placed["a"].frame
    assert frame.shape == (8, 11, 7)
    assert frame.origin == (4.0, 0.0, 0.0)
    np.testing.assert_array_equal(np.asarray(placed["a"].array), a.data[2:, :, :7])
    np.testing.assert_allclose(
        np.asarray(placed["b"].array)[:, 0],
        b.data[:8, :2, 1:].mean(axis=1),
        rtol=1e-6,
    )
    assert placed["a"].cropped().shape == (8, 11, 7)
    assert placed["a"].cropped().origin == (4.0, 0.0, 0.0)
    assert "cropped to the common region" in placed["a"].remark()


def test_each_axis_has_the_coarsest_voxels():
    a, b = volume((8, 16, 16), (2.0, 1.0, 1.0)), volume((16, 8, 8), (1.0, 2.0, 2.0))
    placed = on_common_frame({"a": a, "b": b})
    assert placed["a"].frame.voxel_size == (2.0, 2.0, 2.0)
    assert placed["a"].factors == (1, 2, 2)
    assert placed["b"].factors == (2, 1, 1)


def test_units_are_converted_and_rounded_sizes_are_the_same():
    a, b = volume((6, 6, 6), 2.0), volume((6, 6, 6), 0.0020004, unit="mm")
    placed = on_common_frame({"a": a, "b": b})
    assert placed["a"].frame.unit == "µm"
    assert placed["b"].is_whole
    assert placed["a"].frame.shape == (6, 6, 6)


def test_unknown_voxels_spread_over_the_mean_they_are_in():
    fine = volume((4, 4, 4), 1.0, -0.5)
    fine.data[0, 0, 0] = np.nan
    fine.data[3, 3, 3] = np.inf
    means = np.asarray(
        on_common_frame({"c": volume((2, 2, 2), 2.0), "f": fine})["f"].array
    )
    assert np.isnan(means[0, 0, 0])
    assert np.isnan(means[1, 1, 1])
    assert np.isfinite(means).sum() == 6


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (volume((4, 4, 4), 1.0, 100.0), "no voxel in common along Z"),
        (volume((4, 4, 4), 1.0, (0.0, 0.0, -20.0)), "no voxel in common along X"),
        (volume((4, 4, 4), unit="pixel"), "has no voxel size"),
        (volume((4, 4)), "single image"),
    ],
)
def test_what_has_no_common_frame_is_refused(other, said):
    with pytest.raises(VolumeError, match=said):
        on_common_frame({"a": volume((4, 4, 4)), "b": other})
