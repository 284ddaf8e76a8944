"""Noise measured in a region without structure, or in a blank scan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.noise import KNOWN_NOISE, KnownNoise, Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise, noise_steps

N = 72


@pytest.fixture(scope="module")
def textured() -> np.ndarray:
    """A cylinder with texture as fine as noise, in air."""
    rng = np.random.default_rng(1)
    texture = gaussian_filter(rng.normal(size=(N, N, N)), 0.8)
    return np.where(radius() < 27, 100 + 20 * texture / texture.std(), 20.0)


def radius() -> np.ndarray:
    _, rows, columns = np.indices((N, N, N))
    return np.hypot(rows - N / 2, columns - N / 2)


def noise_of(level: float, blur: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(N, N, N))
    if blur:
        noise = gaussian_filter(noise, blur)
    return level * noise / noise.std()


def air() -> Volume:
    return Volume((radius() > 30).astype(np.uint8), "ZYX", name="air")


@pytest.mark.parametrize("blur", [0.0, 0.7])
@pytest.mark.parametrize("level", [2.0, 10.0, 30.0])
def test_level_and_correlation(textured: np.ndarray, level: float, blur: float) -> None:
    scan = Volume((textured + noise_of(level, blur, 2)).astype(np.float32), "ZYX")
    blank = Volume(20 + noise_of(level, blur, 3), "ZYX")
    correlation = 0.58 if blur else 0.0
    for found in (
        estimate_noise(scan, region=air()),
        estimate_noise(scan, blank=blank),
    ):
        assert found.source == "uniform"
        assert found.level == pytest.approx(level, rel=0.03)
        assert found.interval[0] < level < found.interval[1]
        assert not found.doubts
        for lag in found.correlation.values():
            assert lag == pytest.approx(correlation, abs=0.05)
        # The contrast is that of the scan, not of the region.
        assert found.contrast == pytest.approx(115, rel=0.1)


def test_texture_is_mistaken_for_noise_in_the_scan_alone(textured: np.ndarray) -> None:
    scan = Volume((textured + noise_of(10.0, 0.7, 2)).astype(np.float32), "ZYX")
    assert estimate_noise(scan).level > 12
    assert estimate_noise(scan, region=air()).level == pytest.approx(10, rel=0.03)


def test_blank_frames_show_the_noise_of_photons() -> None:
    rng = np.random.default_rng(0)
    brightness = (10, 50, 100, 200, 400)
    frames = np.stack([rng.poisson(m, (96, 96)) for m in brightness])
    rows = np.indices((160, 160))[0]
    image = Volume(rng.poisson(100 + 80 * np.sin(rows / 7)).astype(np.uint16), "YX")
    for axes in ("ZYX", "TYX"):
        found = estimate_noise(image, blank=Volume(frames.astype(np.uint16), axes))
        assert found.correlation.keys() == {"y", "x"}
        for grey in brightness:
            assert found.at(grey) == pytest.approx(grey**0.5, rel=0.06)
        assert not found.notes  # the variance of photons is extrapolated


def test_other_grey_values_are_noted(textured: np.ndarray) -> None:
    scan = Volume(textured + noise_of(2.0, 0.0, 2), "ZYX")
    (note,) = estimate_noise(scan, region=air()).notes
    assert "assumed to be equally strong" in note
    flat = Volume(20 + noise_of(2.0, 0.0, 2), "ZYX")
    assert not estimate_noise(flat, region=air()).notes


@pytest.mark.parametrize("factor", [1.0, 1e-6, 1e6])
def test_units_of_the_grey_values_do_not_matter(
    textured: np.ndarray, factor: float
) -> None:
    values = factor * (textured + noise_of(10.0, 0.0, 2)) + 1e3 * factor
    found = estimate_noise(Volume(values, "ZYX"), region=air())
    assert found.level == pytest.approx(10 * factor, rel=0.03)


def test_a_stack_with_blank_images_has_independent_slices(textured: np.ndarray) -> None:
    scan = Volume(textured + noise_of(10.0, 0.0, 2), "ZYX")
    found = estimate_noise(scan, blank=Volume(20 + noise_of(10.0, 0.0, 3)[0], "YX"))
    assert found.level == pytest.approx(10, rel=0.06)
    assert any("independent" in note for note in found.notes)


def in_air(rng: np.random.Generator, haze: float, rise: float) -> np.ndarray:
    """A bright cylinder; grey value and noise of the air rise towards it."""
    near = np.exp(-np.clip((radius() - 20) / 5, 0, None))
    inside = radius() < 20
    level = np.where(inside, 30 * (1 + rise), 30 * (1 + rise * near))
    return np.where(inside, 1000, 100 + haze * near) + rng.normal(0, level)


@pytest.mark.parametrize(("haze", "rise"), [(12, 0.5), (20, 0.5), (30, 0.3), (60, 0.3)])
def test_a_gradient_in_the_region_does_not_exaggerate_the_noise(
    haze: float, rise: float
) -> None:
    rng = np.random.default_rng(7)
    region = Volume((radius() > 21).astype(np.uint8), "ZYX", name="air")
    found = estimate_noise(Volume(in_air(rng, haze, rise), "ZYX"), region=region)
    assert 30 < found.at(1000) < 1.1 * 30 * (1 + rise)
    assert found.notes


@pytest.mark.parametrize("edge", [10, 16, 20])
def test_dust_does_not_exaggerate_the_noise(edge: int) -> None:
    rng = np.random.default_rng(7)
    scan = Volume(in_air(rng, 0, 0), "ZYX")
    blank = 100 + 30 * rng.normal(size=(N, N, N))
    dust = rng.choice([0, 150], (N, edge, edge))
    blank[:, 20 : 20 + edge, 20 : 20 + edge] += dust
    found = estimate_noise(scan, blank=Volume(blank, "ZYX"))
    assert found.at(1000) == pytest.approx(30, rel=0.05)


@pytest.mark.parametrize("factor", [60.0, 1 / 60])
def test_other_units_are_noticed(factor: float) -> None:
    rng = np.random.default_rng(7)
    scan = Volume(in_air(rng, 0, 0), "ZYX")
    blank = Volume(factor * (100 + 30 * rng.normal(size=(N, N, N))), "ZYX")
    if factor > 1:
        with pytest.raises(VolumeError, match="units of the grey values"):
            estimate_noise(scan, blank=blank)
    else:
        (doubt,) = estimate_noise(scan, blank=blank).doubts
        assert "recorded and processed in the same way" in doubt


@pytest.mark.parametrize("first", range(8))
def test_thin_regions_are_used_wherever_they_begin(first: int) -> None:
    rng = np.random.default_rng(3)
    scan = Volume(rng.normal(100, 5, (20, 48, 48)), "ZYX")
    mask = np.zeros(scan.shape, np.uint8)
    mask[first : first + 8, 10:24] = 1
    found = estimate_noise(scan, region=Volume(mask, "ZYX", name="slab"))
    assert found.level == pytest.approx(5, rel=0.06)


def test_a_stack_and_its_blank_images_are_compared() -> None:
    rng = np.random.default_rng(7)
    scan = Volume(in_air(rng, 0, 0), "ZYX")
    images = Volume(60 * (100 + 30 * rng.normal(size=(96, 96))), "YX")
    with pytest.raises(VolumeError, match="units of the grey values"):
        estimate_noise(scan, blank=images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mask: mask[1:], "must have the voxel grid of the scan"),
        (lambda mask: 0 * mask, "only 0 blocks"),
        (lambda mask: mask * (np.indices(mask.shape)[2] < 3), "only 0 blocks"),
    ],
)
def test_unusable_regions_are_refused(
    textured: np.ndarray, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    mask = Volume(change(np.asarray(air().data)), "ZYX", name="mask")
    with pytest.raises(VolumeError, match=message):
        estimate_noise(Volume(textured, "ZYX"), region=mask)


def test_a_constant_blank_scan_is_refused(textured: np.ndarray) -> None:
    blank = Volume(np.full((N, N, N), 20.0), "ZYX", name="blank")
    with pytest.raises(VolumeError, match="do not vary"):
        estimate_noise(Volume(textured, "ZYX"), blank=blank)


def test_structure_in_the_region_is_doubted(textured: np.ndarray) -> None:
    mask = Volume((radius() < 25).astype(np.uint8), "ZYX", name="mask")
    waves = 20 * np.sin(np.indices((N, N, N)).sum(0) * 1.2)
    scan = Volume(textured + waves, "ZYX")
    found = estimate_noise(scan, region=mask)
    assert found.interval[0] == 0 or found.doubts


def test_one_source_at_a_time(textured: np.ndarray) -> None:
    scan = Volume(textured, "ZYX")
    with pytest.raises(ConfigError, match="only one"):
        estimate_noise(scan, region=air(), blank=scan)


def test_known_noise_is_not_measured_again(textured: np.ndarray) -> None:
    known = KnownNoise(Noise(level=7.0, contrast=100.0))
    scan = Volume(textured, "ZYX", metadata={KNOWN_NOISE: known})
    assert estimate_noise(scan) is known.noise


def test_cancelling(textured: np.ndarray) -> None:
    scan = Volume(textured, "ZYX")
    for given in ({"region": air()}, {"blank": scan}):
        with pytest.raises(Cancelled):
            run_to_end(noise_steps(scan, **given, should_stop=lambda: True))
