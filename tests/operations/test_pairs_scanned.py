"""Pairs of one scan and a simulated scan that skips voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.volume import Volume
from napari_geosr.learning.sampling.pairs import check_pair
from napari_geosr.operations.pairs.degraded import degrade
from napari_geosr.operations.pairs.quality import report_lines
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.sampling import shift_half_voxel, without_kept


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    """Smooth structures with inherent noise."""
    rng = np.random.default_rng(3)
    light = gaussian_blur(rng.standard_normal((48, 66, 64), dtype=np.float32), 2.5)
    light = 300 + 1500 * light / np.abs(light).max()
    return (light + rng.normal(0, 5, light.shape)).astype(np.float32)


@pytest.fixture
def high(stack: np.ndarray) -> Volume:
    return Volume(stack, "ZYX", (0.4, 0.2, 0.2), "µm", (5.0, 6.0, 7.0), name="fine")


def scanned(high: Volume, tmp_path, factor: int, **settings):
    done = degrade(
        high, tmp_path / "p", degrade="fluo-scan", upscale_factor=factor, **settings
    )
    return done, *(io.read(done.files[key]) for key in ("low", "high"))


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_voxels_are_kept_where_they_were(tmp_path, high, stack, factor):
    _, low, _ = scanned(high, tmp_path, factor)
    whole = tuple(n // factor * factor for n in stack.shape)
    first = factor // 2
    kept = stack[tuple(slice(first, n, factor) for n in whole)]
    assert np.array_equal(np.asarray(low.data), kept)
    assert low.voxel_size == pytest.approx([factor * v for v in high.voxel_size])
    places = [o + first * v for o, v in zip(high.origin, high.voxel_size, strict=True)]
    assert low.origin == pytest.approx(places)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_a_network_puts_its_voxels_where_the_target_has_them(tmp_path, high, factor):
    done, low, fine = scanned(high, tmp_path, factor)
    size, origin = low.upscaled_geometry(factor)
    assert fine.voxel_size == pytest.approx(size)
    assert fine.origin == pytest.approx(origin)
    # There is no shift between the target and the low resolution.
    found = check_pair(low, fine, factor)
    assert max(map(abs, found.shift)) < 0.1
    assert found.warnings == ()
    moved = "half a voxel" in "\n".join(report_lines(done.report))
    assert moved == done.report["interpolated"] == (factor % 2 == 0)


def test_values_between_voxels_are_those_of_the_structure(tmp_path):
    z, y, x = (np.arange(n, dtype=np.float32) for n in (32, 36, 40))
    ramp = 2 * z[:, None, None] + 3 * y[None, :, None] - x[None, None, :]
    _, low, fine = scanned(Volume(ramp, "ZYX", (1.0,) * 3, "µm"), tmp_path, 4)
    expected = ramp + (2 + 3 - 1) / 2
    inner = (slice(1, -2),) * 3
    assert np.abs(np.asarray(fine.data) - expected)[inner].max() < 1e-4
    assert fine.origin == (0.5, 0.5, 0.5)
    assert np.array_equal(np.asarray(low.data), ramp[2::4, 2::4, 2::4])


def test_odd_factors_leave_the_target_as_it_was(tmp_path):
    data = np.random.default_rng(0).integers(0, 4000, (27, 27, 27)).astype(np.uint16)
    high = Volume(data, "ZYX", (1.0,) * 3, "µm")
    _, low, fine = scanned(high, tmp_path, 3, options={"shared_noise": True})
    assert fine.dtype == np.uint16
    assert np.array_equal(np.asarray(fine.data), data)
    assert np.array_equal(np.asarray(low.data), data[1::3, 1::3, 1::3])


@pytest.fixture(scope="module")
def counted() -> tuple[np.ndarray, np.ndarray]:
    """Light and photon counts of a confocal stack."""
    rng = np.random.default_rng(8)
    light = gaussian_blur(rng.standard_normal((48, 96, 96), dtype=np.float32), 2.0)
    light = 12 + 10 * light / np.abs(light).max()
    return light, rng.poisson(light).astype(np.uint16)


def noise_of_the_pair(counted, tmp_path, factor: int, dimensions: str, **options):
    """Correlation of the noise of each voxel with that at the position of each
    subvoxel.
    """
    light, counts = counted
    stack = Volume(counts, "ZYX", (0.3, 0.1, 0.1), "µm")
    done, low, fine = scanned(
        stack, tmp_path, factor, dimensions=dimensions, options=options
    )
    factors = (factor if dimensions == "3D" else 1, factor, factor)
    start = tuple(slice(f // 2, None, f) for f in factors)
    even = [axis for axis, f in enumerate(factors) if f % 2 == 0]
    coarse = np.asarray(low.data) - light[start]
    finer = np.asarray(fine.data) - shift_half_voxel(light, even)
    # Away from the edges, where voxels of the target are extrapolated.
    inner = (slice(1, -1),) * 3
    found = [
        np.corrcoef(coarse[inner].ravel(), part[inner].ravel())[0, 1]
        for place in itertools.product(*map(range, factors))
        for part in [finer[tuple(map(slice, place, (None,) * 3, factors))]]
    ]
    return done.report, max(found, key=abs), coarse[inner].size


@pytest.mark.parametrize("dimensions", ["3D", "2D"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_scans_of_a_pair_share_no_noise(tmp_path, counted, factor, dimensions):
    report, found, n = noise_of_the_pair(counted, tmp_path, factor, dimensions)
    assert abs(found) < 5 / np.sqrt(n)
    assert report["separated_noise"]
    assert report["warnings"] == [w for w in report["warnings"] if "factor of 3" in w]
    assert any("not shared" in line for line in report_lines(report))


def test_shared_noise_may_be_left(tmp_path, counted):
    """Each voxel between eight contains 0.18 of the kept one's noise."""
    report, found, _ = noise_of_the_pair(counted, tmp_path, 2, "3D", shared_noise=True)
    assert found == pytest.approx(0.35, abs=0.05)
    assert not report["separated_noise"]
    _, found, _ = noise_of_the_pair(
        counted, tmp_path / "odd", 3, "3D", shared_noise=True
    )
    assert found == pytest.approx(1)


def test_nothing_of_the_kept_voxels_is_in_the_target(tmp_path):
    """Not even at the edges, in blocks, or for an image."""
    for factor in (2, 3, 4, 8):
        marked = np.ones((16, 24 * factor, 16 * factor), np.float32)
        key = (slice(factor // 2, None, factor),) * 2
        marked[:, key[0], key[1]] = np.random.default_rng(1).uniform(
            size=marked[:, key[0], key[1]].shape
        )
        for axes, data in (("ZYX", marked), ("YX", marked[0])):
            high = Volume(data, axes, (1.0,) * len(axes), "µm")
            place = tmp_path / f"{axes}{factor}"
            _, low, fine = scanned(high, place, factor, dimensions="2D", memory="100kB")
            assert np.allclose(np.asarray(fine.data), 1, atol=1e-6)
            assert np.asarray(low.data).std() > 0.2


def test_interpolated_voxels_keep_slow_structure():
    y, x = np.mgrid[:24, :30].astype(np.float32)
    plane = (0.01 * y**3 - 0.3 * y * x + 2 * x)[None]
    for factor in (2, 3, 4, 5):
        filled = without_kept(plane, (1, factor, factor))
        inner = (0, slice(4, -4), slice(4, -4))
        assert np.allclose(filled[inner], plane[inner], atol=1e-3)


def test_whole_numbers_stay_in_their_range():
    plane = np.full((1, 16, 16), 255, np.uint8)
    plane[0, ::3, ::3] = 0
    filled = without_kept(plane, (1, 2, 2))
    assert filled.dtype == np.uint8
    # Without clipping, an overshoot would become a small number.
    assert not ((filled > 0) & (filled < 60)).any()


def test_noise_that_cannot_be_separated_is_a_warning(tmp_path, counted):
    light, _ = counted
    noise = np.random.default_rng(2).normal(0, 40, light.shape).astype(np.float32)
    smooth = Volume(
        100 * light + gaussian_blur(noise, 0.8), "ZYX", (0.3, 0.1, 0.1), "µm"
    )
    done, *_ = scanned(smooth, tmp_path, 2)
    (warning,) = done.report["warnings"]
    assert "correlated between neighbouring voxels" in warning
    assert "before deconvolution" in warning
    done, *_ = scanned(smooth, tmp_path / "b", 2, options={"blur": 0.3})
    (warning,) = done.report["warnings"]
    assert "--blur" in warning
    for options in ({"photons": 50.0}, {"shared_noise": True}):
        place = tmp_path / next(iter(options))
        done, *_ = scanned(smooth, place, 2, options=options)
        assert done.report["warnings"] == []
        assert not done.report["separated_noise"]


def test_slices_stay_in_two_dimensions(tmp_path, high, stack):
    _, low, fine = scanned(high, tmp_path, 4, dimensions="2D")
    assert low.shape == (48, 16, 16)
    assert np.array_equal(np.asarray(low.data), stack[:, 2:64:4, 2:64:4])
    assert (low.origin[0], fine.origin[0]) == (5.0, 5.0)


def test_blocks_do_not_matter(tmp_path, high):
    options = {"photons": 40.0, "blur": 0.3, "seed": 2}
    whole = scanned(high, tmp_path / "a", 2, options=options)
    parts = scanned(high, tmp_path / "b", 2, options=options, memory="2MB")
    for one, other in zip(whole[1:], parts[1:], strict=True):
        assert np.allclose(np.asarray(one.data), np.asarray(other.data), atol=1e-3)
    quiet = scanned(high, tmp_path / "c", 2, options={"blur": 0.3})[1]
    assert np.std(np.asarray(whole[1].data) - np.asarray(quiet.data)) > 10


def test_simulated_noise_is_in_the_coarse_scan_alone(tmp_path, high, stack):
    """A network trained on the pair cannot learn to reproduce the noise."""
    _, low, fine = scanned(high, tmp_path, 3, options={"photons": 40.0})
    n = [m // 3 * 3 for m in stack.shape]
    kept = stack[: n[0], : n[1], : n[2]]
    assert np.array_equal(np.asarray(fine.data), kept)
    assert np.std(np.asarray(low.data) - kept[1::3, 1::3, 1::3]) > 10


def test_it_cannot_be_made_like_a_real_scan(tmp_path, high):
    with pytest.raises(ConfigError, match=r"cannot be matched to a real scan.*--like"):
        degrade(high, tmp_path / "p", high, degrade="fluo-scan")
