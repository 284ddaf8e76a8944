"""The measured noise equals the added noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, shift, uniform_filter

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate, estimate_noise
from napari_geosr.measure.noise.sample import _steps
from napari_geosr.physics.noise import reconstruction_noise
from napari_geosr.physics.specimens.phantoms import sphere_foam

SHAPE = (24, 80, 80)


def correlated(
    widths: Sequence[float], rng: np.random.Generator, shape: Sequence[int] = SHAPE
) -> np.ndarray:
    """Noise of variance 1 after a Gaussian filter."""
    noise = gaussian_filter(rng.standard_normal(shape), widths, mode="wrap")
    return noise / noise.std()


def lag(noise: np.ndarray, axis: int) -> float:
    """Correlation of neighbours along an axis."""
    moved = np.moveaxis(noise, axis, 0)
    return float((moved[1:] * moved[:-1]).mean() / noise.var())


@pytest.fixture(scope="module")
def foam() -> np.ndarray:
    """A foam of contrast 1, blurred as scans are."""
    made = sphere_foam(SHAPE, porosity=0.4, radius=(5, 11), gap=2.0, seed=3)
    return gaussian_filter(1 - made.fraction, 0.6)


@pytest.mark.parametrize("level", [0.02, 0.1, 0.4])
@pytest.mark.parametrize(
    ("widths", "within"),
    [((0, 0, 0), 0.1), ((0, 0.7, 0.7), 0.2), ((0.8, 0.8, 0.8), 0.2)],
)
def test_level_and_correlation(
    foam: np.ndarray,
    level: float,
    widths: tuple[float, float, float],
    within: float,
    rng: np.random.Generator,
) -> None:
    noise = correlated(widths, rng)
    found = estimate_noise(Volume(100 * (foam + level * noise), "ZYX"))
    assert found.level == pytest.approx(100 * level, rel=within)
    assert found.contrast == pytest.approx(100, rel=0.25)
    for axis, name in enumerate("zyx"):
        assert found.correlation[name] == pytest.approx(lag(noise, axis), abs=0.08)
    assert found.source == "scan"


def test_noise_of_reconstructed_slices(
    foam: np.ndarray, rng: np.random.Generator
) -> None:
    noise = reconstruction_noise(SHAPE, 0.1, rng)
    found = estimate_noise(Volume(foam + noise, "ZYX"))
    assert found.level == pytest.approx(0.1, rel=0.1)
    assert found.correlation["x"] == pytest.approx(lag(noise, 2), abs=0.08)
    assert abs(found.correlation["z"]) < 0.08


def test_without_noise_structure_is_not_taken_for_it(foam: np.ndarray) -> None:
    found = estimate_noise(Volume(foam, "ZYX"))
    assert found.level == 0
    assert found.is_negligible
    assert found.interval[0] == 0
    assert found.interval[1] < 0.01
    mixed = gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 2.0)
    texture = estimate_noise(Volume(foam + 0.05 * mixed / mixed.std(), "ZYX"))
    assert texture.level == 0


@pytest.mark.parametrize("period", [6.3, 12.0])
def test_structure_without_a_uniform_place_is_said(period: float) -> None:
    """A gyroid with walls of a few voxels."""
    z, y, x = 2 * np.pi / period * np.indices(SHAPE)
    gyroid = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)
    walls = gaussian_filter((gyroid > 0).astype(float), 0.6)
    found = estimate_noise(Volume(walls, "ZYX"))
    assert found.level == 0
    assert found.interval[1] > 0
    assert any("No region is uniform" in note for note in found.notes)


def test_an_image(rng: np.random.Generator) -> None:
    made = sphere_foam((1, 200, 200), porosity=0.4, radius=(8, 20), gap=3.0, seed=3)
    plane = gaussian_filter(1 - made.fraction[0], 0.7)
    noise = correlated((0.6, 0.6), rng, plane.shape)
    found = estimate_noise(Volume(plane + 0.1 * noise, "YX"))
    assert found.level == pytest.approx(0.1, rel=0.2)
    assert set(found.correlation) == {"y", "x"}
    assert found.correlation["x"] == pytest.approx(lag(noise, 1), abs=0.08)
    assert any("single slice" in note for note in found.notes)


def test_counting_noise_by_grey_value(rng: np.random.Generator) -> None:
    foam = sphere_foam(SHAPE, porosity=0.5, radius=(6, 10), gap=2.0, seed=5)
    photons = 40 + 360 * gaussian_filter(foam.fraction, 0.6)
    found = estimate_noise(Volume(rng.poisson(photons).astype(np.uint16), "ZYX"))
    assert len(found.levels) > 1
    assert found.at(40.0) == pytest.approx(np.sqrt(40), rel=0.15)
    assert found.at(400.0) == pytest.approx(np.sqrt(400), rel=0.15)
    assert found.level == pytest.approx(np.sqrt(photons.mean()), rel=0.1)


def test_grey_values_may_be_scaled_and_shifted(
    foam: np.ndarray, rng: np.random.Generator
) -> None:
    scan = foam + 0.1 * correlated((0.4, 0.4, 0.4), rng)
    plain = estimate_noise(Volume(scan, "ZYX"))
    other = estimate_noise(Volume(-30 * scan + 7, "ZYX"))
    assert other.level == pytest.approx(30 * plain.level, rel=0.03)
    assert other.contrast == pytest.approx(30 * plain.contrast, rel=0.03)
    for axis, value in plain.correlation.items():
        assert other.correlation[axis] == pytest.approx(value, abs=0.03)


def test_flips_and_swaps(foam: np.ndarray, rng: np.random.Generator) -> None:
    scan = foam + 0.1 * correlated((0, 0.7, 0), rng)
    plain = estimate_noise(Volume(scan, "ZYX"))
    flipped = estimate_noise(Volume(scan[::-1, :, ::-1], "ZYX"))
    swapped = estimate_noise(Volume(scan.swapaxes(1, 2), "ZYX"))
    assert flipped.level == pytest.approx(plain.level, rel=0.03)
    assert swapped.level == pytest.approx(plain.level, rel=0.03)
    assert swapped.correlation["x"] == pytest.approx(plain.correlation["y"], abs=0.05)
    assert swapped.correlation["y"] == pytest.approx(plain.correlation["x"], abs=0.05)


def test_two_scans_tell_noise_from_texture(rng: np.random.Generator) -> None:
    texture = correlated((0.7, 0.7, 0.7), rng)
    scans = [Volume(texture + 0.1 * correlated((0, 0, 0), rng), "ZYX") for _ in "ab"]
    found = estimate_noise(scans[0], second=scans[1])
    assert found.source == "repeat"
    assert found.level == pytest.approx(0.1, rel=0.1)
    assert abs(found.correlation["x"]) < 0.08
    with pytest.raises(VolumeError, match="same voxel grid"):
        estimate_noise(scans[0], second=Volume(texture[1:], "ZYX"))


@pytest.mark.parametrize("lags", [(0, 0, 0), (0.5, 0.5, 0.5)])
@pytest.mark.parametrize("ratio", [0.2, 0.6, 1.0, 1.6, 4.0])
def test_the_second_scan_may_have_other_noise(
    foam: np.ndarray, rng: np.random.Generator, ratio: float, lags: tuple[float, ...]
) -> None:
    first = Volume(foam + 0.1 * correlated(lags, rng), "ZYX")
    second = Volume(foam + 0.1 * ratio * correlated(lags, rng), "ZYX")
    found = estimate_noise(first, second=second)
    assert found.level == pytest.approx(0.1, rel=0.12)
    assert found.second == pytest.approx(ratio, rel=0.1, abs=0.1)
    assert any("second scan has" in note for note in found.notes) == (ratio != 1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda scan: 1.1 * scan + 0.03, "in brightness, by about"),
        (lambda scan: scan + 0.05, "in brightness, by about 5"),
        (lambda scan: shift(scan, (0, 0, 0.5), mode="nearest"), "at edges"),
        (lambda scan: shift(scan, (0, 3, 0), mode="nearest"), "at edges"),
    ],
)
def test_two_scans_that_differ_by_more_than_noise_are_refused(
    foam: np.ndarray, rng: np.random.Generator, changed: Any, words: str
) -> None:
    first = Volume(foam + 0.05 * correlated((0, 0, 0), rng), "ZYX")
    other = changed(foam) + 0.05 * correlated((0, 0, 0), rng)
    with pytest.raises(VolumeError, match=words):
        estimate_noise(first, second=Volume(other, "ZYX"))


def test_other_axes_are_refused() -> None:
    with pytest.raises(VolumeError, match="time point"):
        estimate_noise(Volume(np.zeros((2, 3, 8, 8)), "TZYX"))


class Counted:
    """A huge array that is computed when it is read, and counts reads."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype("float32")
        self.read = 0

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        shape = tuple(k.stop - k.start for k in key)
        self.read += int(np.prod(shape))
        rng = np.random.default_rng([k.start for k in key])
        return 10 + rng.standard_normal(shape, dtype=np.float32)


def test_only_a_sample_is_read_of_a_large_volume() -> None:
    data = Counted((2000, 2000, 2000))
    found = estimate_noise(Volume(data, "ZYX"))
    assert found.level == pytest.approx(1, rel=0.05)
    assert data.read < 8_000_000
    image = Counted((30_000, 40_000))
    assert estimate_noise(Volume(image, "YX")).level == pytest.approx(1, rel=0.05)
    assert image.read < 8_000_000


def test_lazy_arrays(foam: np.ndarray, rng: np.random.Generator) -> None:
    scan = (foam + 0.05 * correlated((0, 0, 0), rng)).astype(np.float32)
    lazy = Volume(da.from_array(scan, chunks=(8, 40, 40)), "ZYX")
    assert estimate_noise(lazy).level == estimate_noise(Volume(scan, "ZYX")).level


def real(path: Path) -> np.ndarray:
    return np.asarray(tifffile.imread(path))


def test_bone_has_hardly_any_noise_and_what_is_added_is_found(
    shared_data: Path, rng: np.random.Generator
) -> None:
    bone = real(shared_data / "ct_volumes" / "bone_128x128x128.tif")[40:72]
    as_it_is = estimate_noise(Volume(bone, "ZYX"))
    assert as_it_is.level == 0
    assert as_it_is.interval[1] < 0.01 * as_it_is.contrast
    low, high = np.percentile(bone, (2, 98))
    for widths, within in (((0, 0, 0), 0.1), ((0.7, 0.7, 0.7), 0.2)):
        noise = correlated(widths, rng, bone.shape)
        found = estimate_noise(Volume(bone + 0.05 * (high - low) * noise, "ZYX"))
        assert found.relative == pytest.approx(0.05, rel=within)


def test_cement_has_noise_that_is_correlated_along_all_axes(shared_data: Path) -> None:
    cement = real(shared_data / "ct_volumes" / "cement_128x128x128.tif")[40:72]
    found: Noise = estimate_noise(Volume(cement, "ZYX"))
    assert 0.025 < found.relative < 0.045
    assert min(found.correlation.values()) > 0.3


def test_photon_noise_of_a_real_image(shared_data: Path) -> None:
    """Noise level from the differences of diagonal neighbours."""
    image = real(shared_data / "microscopy" / "celegans_airyscan.tif")[:256, :256]
    image = image.astype(np.float32)
    found = estimate_noise(Volume(image, "YX"))
    fine = (image[1:, 1:] - image[1:, :-1] - image[:-1, 1:] + image[:-1, :-1]) / 2
    grey = uniform_filter(image, 9)[1:, 1:]
    for part in ((0, 0.25), (0.25, 0.5), (0.9, 0.97), (0.97, 1)):
        low, high = np.quantile(grey, part)
        inside = (grey >= low) & (grey <= high)
        level = 1.4826 * np.median(np.abs(fine[inside]))
        told = found.at(np.array(grey[inside].mean()))
        assert told == pytest.approx(level, rel=0.15)


@pytest.mark.parametrize(
    ("parts", "levels"),
    [
        ((100, 100), 100),
        ((100, 9000), 0),
        ((9000, 100), 0),
        ((3000, 3000), 3000),
        ((5000, 5001), 0),
    ],
)
def test_grey_values_are_counted_wherever_they_are(
    parts: Sequence[int], levels: int
) -> None:
    """The halves of the sample have the given numbers of different grey values."""
    values = np.concatenate([np.arange(50_000.0) % n for n in parts]) / 2
    assert _steps(values) == (0.5 if levels else 0.0, levels)


def test_equal_scans_are_measured_once(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = rng.normal(100, 10, SHAPE).astype(np.float32)
    first = estimate_noise(Volume(scan, "ZYX"))
    found: list[object] = []
    whole = estimate.usable_sample
    monkeypatch.setattr(
        estimate, "usable_sample", lambda *a: found.append(0) or whole(*a)
    )
    assert estimate_noise(Volume(scan.copy(), "ZYX")) == first
    assert found == []
    # It is measured again in an image of the same voxels, after a change, with a second
    # scan, and for another data type.
    assert estimate_noise(Volume(scan[0], "YX")).correlation.keys() == {"y", "x"}
    assert estimate_noise(Volume(scan + scan, "ZYX")).level > 1.9 * first.level
    second = Volume(rng.normal(100, 10, SHAPE).astype(np.float32), "ZYX")
    assert estimate_noise(Volume(scan, "ZYX"), second=second).source == "repeat"
    assert estimate_noise(Volume(scan.view(np.int32), "ZYX")).level > 1000
    assert len(found) == 4
    # Not all scans of a long session are kept in memory.
    assert len(estimate._known) <= estimate._MAX_KNOWN


def test_correlated_noise_with_counting_noise_on_top(rng: np.random.Generator) -> None:
    """Each grey value has its own mixture, so no single spectrum describes them all."""
    foam = sphere_foam(SHAPE, porosity=0.6, radius=(8, 14), gap=3.0, seed=5)
    photons = 2 + 200 * gaussian_filter(foam.fraction, 0.7)
    blurred = 20 * correlated((0.8, 0.8, 0.8), rng)
    scan = rng.poisson(photons) + blurred
    found = estimate_noise(Volume(scan, "ZYX"))
    assert found.at(2.0) == pytest.approx(np.sqrt(2 + 20**2), rel=0.1)
    assert found.at(202.0) == pytest.approx(np.sqrt(202 + 20**2), rel=0.15)
    noise = scan - photons
    for axis, name in enumerate("zyx"):
        assert found.correlation[name] == pytest.approx(lag(noise, axis), abs=0.08)


def coarse_rock(width: float) -> np.ndarray:
    """Grains and pores of a few voxels, as in a scan with large voxels."""
    shape = (32, 64, 64)
    field = np.random.default_rng(1).normal(size=[4 * n for n in shape])
    field = gaussian_filter(field.astype(np.float32), width, mode="wrap")
    rock = field > -0.8 * field.std()
    return rock.reshape(32, 4, 64, 4, 64, 4).mean((1, 3, 5))


@pytest.mark.parametrize(("width", "is_right"), [(6.0, True), (3.0, False)])
def test_voxels_partly_filled_by_pores_are_no_noise(
    width: float, is_right: bool, rng: np.random.Generator
) -> None:
    """The darker a mixture of rock and pores, the more it varies."""
    rock = coarse_rock(width)
    level = 0.02 * float(np.ptp(np.percentile(rock, (2, 98))))
    scan = rock + level * rng.standard_normal(rock.shape)
    found = estimate_noise(Volume(scan, "ZYX"))
    if is_right:  # some blocks are inside grains
        assert found.level == pytest.approx(level, rel=0.1)
    else:
        assert any("fine structure" in sentence for sentence in found.doubts)


def test_noise_without_structure_is_not_doubted(rng: np.random.Generator) -> None:
    noise = correlated((0.8, 0.8, 0.8), rng)
    halves = np.indices(SHAPE)[2] > 30
    assert not estimate_noise(Volume(noise + 10.0 * halves, "ZYX")).doubts


@pytest.mark.parametrize(
    ("edge", "width", "doubted"), [(32, 0.7, True), (32, 0.0, False), (48, 0.7, False)]
)
def test_in_a_small_scan_correlated_noise_may_be_texture(
    edge: int, width: float, doubted: bool, rng: np.random.Generator
) -> None:
    noise = correlated((width,) * 3, rng, (edge,) * 3)
    halves = np.indices(noise.shape)[2] > edge // 2
    found = estimate_noise(Volume(noise + 10.0 * halves, "ZYX"))
    assert found.level == pytest.approx(1.0, rel=0.15)
    assert any("too small to tell" in sentence for sentence in found.doubts) == doubted
    assert (found.interval[0] == 0) == doubted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("factor", "offset"), [(1, 0), (1, 1000), (1, 1e6), (1e3, 0)])
def test_a_clean_scan_is_clean_at_any_grey_scale(
    dtype: type, factor: float, offset: float
) -> None:
    """Flat phases are not clipped, and rounding in the computer is not noise."""
    rng = np.random.default_rng(1)
    field = gaussian_filter(rng.normal(size=(24, 96, 96)), 4)
    phase = gaussian_filter(100.0 * (field > np.quantile(field, 0.3)), 0.7)
    scan = (factor * phase + offset).astype(dtype)
    found = estimate_noise(Volume(scan, "ZYX"))
    assert found.level == 0
    assert found.is_measured
    assert found.notes == found.doubts == ()


def test_noise_that_rounding_hides_is_not_excluded() -> None:
    """6 grey values: noise of a sixth of a step changes hardly any voxel."""
    rng = np.random.default_rng(1)
    field = gaussian_filter(rng.normal(size=(24, 96, 96)), 4)
    phase = gaussian_filter(100.0 * (field > np.quantile(field, 0.3)), 0.7)
    scan = np.round((phase + rng.normal(0, 3, phase.shape)) / 20) * 20
    found = estimate_noise(Volume(scan, "ZYX"))
    assert not found.is_measured
    assert found.interval == (0.0, 10.0)
    assert "steps of 20, which are too coarse" in found.notes[0]
