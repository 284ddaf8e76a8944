"""Limitations of a noise estimate are reported, and do not make it wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.inference.risk.probes import noise_like
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.measure.noise.basis import non_negative
from napari_geosr.operations.inputs.scan import describe_noise
from napari_geosr.physics.specimens.phantoms import sphere_foam

SHAPE = (18, 64, 64)


@pytest.fixture
def scan(rng: np.random.Generator) -> np.ndarray:
    """Two phases at 100 and 200, and noise of 8."""
    data = np.full(SHAPE, 100.0)
    data[:, :, 30:] = 200
    return data + rng.normal(0, 8, SHAPE)


def says(noise: Noise, words: str) -> bool:
    return any(words in note for note in noise.notes)


def test_nan_around_the_sample(scan: np.ndarray) -> None:
    scan[:, :20] = np.nan
    found = estimate_noise(Volume(scan, "ZYX"))
    assert found.level == pytest.approx(8, rel=0.1)
    assert says(found, "NaN")


@pytest.mark.parametrize("share", [0.02, 0.05, 0.2])
def test_scattered_nan(
    scan: np.ndarray, rng: np.random.Generator, share: float
) -> None:
    scan[rng.random(SHAPE) < share] = np.nan
    found = estimate_noise(Volume(scan, "ZYX"))
    assert found.level == pytest.approx(8, rel=0.1)
    assert max(found.correlation.values()) < 0.2


def test_mostly_nan_is_refused_with_advice(
    scan: np.ndarray, rng: np.random.Generator
) -> None:
    scan[rng.random(SHAPE) < 0.6] = np.nan
    with pytest.raises(VolumeError, match="Fill the unknown voxels first"):
        estimate_noise(Volume(scan, "ZYX"))


def test_rare_spots_in_a_clipped_background_are_not_free_of_noise(
    rng: np.random.Generator,
) -> None:
    spots = np.zeros((24, 96, 96))
    spots[tuple(rng.integers(0, n, 20) for n in spots.shape)] = 1
    spots = ndimage.gaussian_filter(spots, 1.5)
    photons = rng.poisson(60 * spots / spots.max() + 2) - 6
    found = estimate_noise(Volume(photons.clip(0).astype(np.uint16), "ZYX"))
    assert found.contrast == 0
    assert not found.is_measured
    assert describe_noise(found).startswith("Nearly all voxels have the same grey")


@pytest.mark.parametrize("padding", [0.0, 150.0, 1000.0])
def test_constant_padding(scan: np.ndarray, padding: float) -> None:
    scan[:, :20] = padding
    found = estimate_noise(Volume(scan, "ZYX"))
    assert found.level == pytest.approx(8, rel=0.1)
    assert says(found, "padding")


def test_clipped_scan(scan: np.ndarray) -> None:
    clipped = np.clip(scan, 98, 255).astype(np.uint8)
    found = estimate_noise(Volume(clipped, "ZYX"))
    assert found.level == pytest.approx(8, rel=0.1)
    assert says(found, "clipped")
    assert not says(estimate_noise(Volume(scan, "ZYX")), "clipped")


def test_rounding(rng: np.random.Generator) -> None:
    clean = np.repeat(np.linspace(0, 9, SHAPE[2])[None, None], SHAPE[1], 1)
    clean = np.repeat(clean, SHAPE[0], 0)
    coarse = np.rint(clean + rng.normal(0, 0.3, SHAPE)).astype(np.uint8)
    found = estimate_noise(Volume(coarse, "ZYX"))
    assert says(found, "rounded to steps of 1")
    assert found.interval[0] <= 0.3 <= found.interval[1]
    fine = estimate_noise(Volume(100 * clean + rng.normal(0, 30, SHAPE), "ZYX"))
    assert not says(fine, "rounded")


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_rounding_that_hides_nearly_all_of_the_noise(
    noise: float, rng: np.random.Generator
) -> None:
    """Some blocks of both phases are constant, as in a segmented volume."""
    labels = np.full((24, 64, 64), 5.0)
    for i in range(1, 6):
        labels[:, :, 10 * i :] += 2
    scan = np.rint(labels + rng.normal(0, noise, labels.shape)).astype(np.uint8)
    found = estimate_noise(Volume(scan, "ZYX"))
    assert found.is_measured == (noise == 0)
    assert says(found, "rounded to steps of 1") == (noise > 0)
    assert found.interval[0] <= noise <= found.interval[1]


def test_a_segmented_volume(scan: np.ndarray) -> None:
    found = estimate_noise(Volume((scan > 150).astype(np.uint8), "ZYX"))
    assert found.level == 0
    assert says(found, "2 different grey values")


def test_a_constant_volume() -> None:
    found = estimate_noise(Volume(np.full(SHAPE, 7, np.int16), "ZYX"))
    assert (found.level, found.contrast) == (0, 0)
    assert says(found, "same grey value")


def test_nothing_to_measure() -> None:
    with pytest.raises(VolumeError, match="finite and known"):
        estimate_noise(Volume(np.full(SHAPE, np.nan), "ZYX"))


def test_a_small_volume(rng: np.random.Generator) -> None:
    found = estimate_noise(Volume(rng.normal(0, 5, (6, 12, 12)), "ZYX"))
    assert found.level == pytest.approx(5, rel=0.25)
    assert says(found, "rough")
    tiny = estimate_noise(Volume(rng.normal(0, 5, (5, 4)), "YX"))
    assert tiny.interval[1] > 2
    assert says(tiny, "rough")


def test_a_smoothed_scan(rng: np.random.Generator) -> None:
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(rng.normal(0, 50, SHAPE), 0.95)
    found = estimate_noise(Volume(smooth, "ZYX"))
    assert any("smoothed" in doubt for doubt in found.doubts)


def test_one_slice_of_a_volume(scan: np.ndarray) -> None:
    found = estimate_noise(Volume(scan[:1], "ZYX"))
    assert found.level == pytest.approx(8, rel=0.15)
    assert says(found, "single slice")
    assert "z" not in found.correlation


@pytest.mark.parametrize("unit", [1e-30, 1e18, 3e34])
def test_grey_values_of_any_size(scan: np.ndarray, unit: float) -> None:
    usual = estimate_noise(Volume(scan.astype(np.float64), "ZYX"))
    found = estimate_noise(Volume(unit * scan.astype(np.float64), "ZYX"))
    assert found.level == pytest.approx(unit * usual.level, rel=0.01)
    assert found.relative == pytest.approx(usual.relative, rel=0.01)
    assert found.correlation == pytest.approx(usual.correlation, abs=0.01)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2), (3, 3)])
def test_hardly_a_voxel(shape: tuple[int, ...]) -> None:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = estimate_noise(Volume(data, "ZYX"[-len(shape) :]))
    assert found.level == 0
    assert says(found, "too few to measure" if data.size > 1 else "nothing to measure")
    assert found.is_measured == (data.size == 1)


@pytest.mark.parametrize("kind", ["photons", "two bits"])
def test_noise_on_few_grey_values_is_not_called_weak(
    kind: str, rng: np.random.Generator
) -> None:
    object_ = np.zeros(SHAPE)
    object_[:, 20:] = 1
    if kind == "photons":
        scan = rng.poisson(0.1 + 0.7 * object_).clip(0, 3)
    else:
        scan = np.rint(1 + object_ + rng.normal(0, 0.5, SHAPE)).clip(0, 3)
    found = estimate_noise(Volume(scan.astype(np.uint8), "ZYX"))
    assert not found.is_measured
    assert found.interval[1] > 0.3


@pytest.mark.parametrize("value", [3.4e38, -3.4e38, 1e12])
def test_a_voxel_far_outside_the_range_does_not_matter(
    scan: np.ndarray, value: float
) -> None:
    usual = estimate_noise(Volume(scan, "ZYX"))
    marked = scan.astype(np.float64)
    marked[5, 20, 20] = value
    found = estimate_noise(Volume(marked, "ZYX"))
    assert found.level == pytest.approx(usual.level, rel=0.02)
    assert found.contrast == pytest.approx(usual.contrast, rel=0.02)
    assert says(found, "far outside the range")


@pytest.mark.parametrize("spoil", ["a voxel", "rounding"])
def test_steps_are_recognised_where_grey_values_are_nearly_equal(
    rng: np.random.Generator, spoil: str
) -> None:
    levels = np.rint(40 + rng.normal(0, 0.3, SHAPE))
    levels[:, 24:] += 30
    if spoil == "a voxel":
        levels[5, 5, 5] += 1e-3
        scan = levels
    else:
        scan = np.where(np.arange(SHAPE[2]) % 2, levels * 0.1, levels / 10)
    found = estimate_noise(Volume(scan, "ZYX"))
    assert says(found, "rounded to steps")
    assert found.interval[1] > 0.2 * (0.1 if spoil == "rounding" else 1)


def test_clipping_everywhere_widens_the_interval(rng: np.random.Generator) -> None:
    clean = np.zeros(SHAPE)
    clean[:, 20:] = 100
    scan = np.clip(clean + rng.normal(0, 10, SHAPE), 0, 100)
    found = estimate_noise(Volume(scan, "ZYX"))
    assert found.interval[0] <= 10 <= found.interval[1]
    assert any("could not be excluded" in sentence for sentence in found.doubts)


def test_noise_above_the_contrast_is_said(rng: np.random.Generator) -> None:
    clean = np.where(np.indices(SHAPE)[1] < 20, 0, 100)
    for level, strong in ((60, False), (200, True)):
        found = estimate_noise(Volume(clean + rng.normal(0, level, SHAPE), "ZYX"))
        told = any("stronger than the contrast" in doubt for doubt in found.doubts)
        assert told == strong


def test_a_mostly_clipped_scan_gets_no_level(rng: np.random.Generator) -> None:
    """The few voxels between the ends do not show how strong its noise is."""
    clean = np.where(np.indices(SHAPE)[1] < 20, 0, 100)
    scan = np.clip(clean + rng.normal(0, 45, SHAPE), 30, 70)
    found = estimate_noise(Volume(scan, "ZYX"))
    assert found.level == 0
    assert not found.is_measured
    assert any("so the noise cannot be measured" in note for note in found.notes)
    assert describe_noise(found).startswith("The noise could not be measured. ")


@pytest.mark.parametrize("level", [2, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_two_phases_clipped_at_both_ends_are_told(
    rng: np.random.Generator, dtype: type[np.generic], level: float
) -> None:
    """Both phases are uniform, so that no block shows the noise of the scan."""
    from scipy.ndimage import gaussian_filter

    phases = gaussian_filter(rng.normal(size=SHAPE), 4) > 0
    clean = gaussian_filter(100.0 * phases, 0.7)
    seen = np.clip(clean + rng.normal(0, level, SHAPE), 20, 80)
    scan = (255 * (seen - 20) / 60).astype(dtype)
    found = estimate_noise(Volume(scan, "ZYX"))
    ends = np.isin(scan, [scan.min(), scan.max()]).mean()
    assert ends > 0.8
    (note,) = [note for note in found.notes if "clipped" in note]
    assert float(note.split(" %")[0]) == pytest.approx(100 * ends, abs=1)
    assert "there is hardly anything to remove" not in describe_noise(found)


def test_a_volume_without_noise_is_not_called_clipped() -> None:
    scan = np.where(np.indices(SHAPE)[1] < 20, 0, 100)
    for values in (scan, scan.astype(np.float32)):
        assert "clipped" not in describe_noise(estimate_noise(Volume(values, "ZYX")))


def test_noise_as_smooth_as_structure_is_not_called_weak(
    rng: np.random.Generator,
) -> None:
    """It varies less within blocks than between them, but is still noise."""
    from scipy.ndimage import gaussian_filter

    pores = gaussian_filter((rng.random((32, 96, 96)) < 0.0015).astype(float), 2.0)
    clean = gaussian_filter(100.0 * (pores < 0.003), 0.7)
    unit = gaussian_filter(rng.normal(0, 1, clean.shape), 1.4)
    for part in (0.1, 0.3):
        scan = clean + part * 100 * unit / unit.std()
        found = estimate_noise(Volume(scan, "ZYX"))
        assert found.level > 0 or not found.is_measured
        assert found.bound > part / 4


@pytest.mark.parametrize("levels", [0.1, 0.3])
def test_the_noise_of_a_filtered_scan_is_not_called_weak(
    rng: np.random.Generator, levels: float
) -> None:
    """Gaussian and median filters leave smooth noise, of which little is fine."""
    clean = 100.0 * (
        1 - sphere_foam((32, 64, 64), porosity=0.3, radius=(5, 9), seed=1).fraction
    )
    noisy = clean + 100 * levels * rng.standard_normal(clean.shape)
    inside = ndimage.binary_erosion(clean == 100, iterations=3)
    for filtered, known in (
        (ndimage.gaussian_filter(noisy, 1.5), ndimage.gaussian_filter(clean, 1.5)),
        (ndimage.median_filter(noisy, 3), ndimage.median_filter(clean, 3)),
    ):
        true = (filtered - known)[inside].std() / 100
        found = estimate_noise(Volume(filtered, "ZYX"))
        assert found.bound > 0.95 * true
        assert found.relative > 0.7 * true or not found.is_measured or true < 0.02


@pytest.mark.parametrize("size", [3, (1, 3, 3)])
@pytest.mark.parametrize("level", [0.1, 0.2])
def test_the_noise_of_a_median_filtered_scan_may_be_twice_as_strong(
    rng: np.random.Generator, size: int | tuple[int, int, int], level: float
) -> None:
    pores = sphere_foam((32, 80, 80), porosity=0.2, radius=(8, 12), seed=1)
    clean = 100.0 * (1 - pores.fraction)
    noisy = clean + 100 * level * rng.standard_normal(clean.shape)
    filtered = ndimage.median_filter(noisy, size)
    inside = ndimage.binary_erosion(clean == 100, iterations=3)
    true = (filtered - ndimage.median_filter(clean, size))[inside].std()
    found = estimate_noise(Volume(filtered, "ZYX"))
    assert found.level < true < found.interval[1]
    # The result of a filter over three slices is hardly noise to the estimate.
    assert says(found, "a median filter was applied") == found.is_measured
    assert found.is_measured or size == 3


def test_a_median_filtered_scan_without_noise_has_none(
    rng: np.random.Generator,
) -> None:
    pores = sphere_foam((32, 80, 80), porosity=0.2, radius=(8, 12), seed=1)
    clean = 100.0 * (1 - pores.fraction)
    noisy = clean + 0.5 * rng.standard_normal(clean.shape)
    found = estimate_noise(Volume(ndimage.median_filter(noisy, (1, 3, 3)), "ZYX"))
    assert found.level == 0
    assert found.bound == 0.01
    assert not says(found, "median filter")


@pytest.mark.parametrize("lag", [0.0, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("plane", [True, False])
def test_blurred_noise_is_not_called_median_filtered(lag: float, plane: bool) -> None:
    pores = sphere_foam((32, 80, 80), porosity=0.2, radius=(8, 12), seed=1)
    lags = {"z": 0.0 if plane else lag, "y": lag, "x": lag}
    unit = noise_like(pores.fraction.shape, lags, np.random.default_rng(3))
    scan = 100.0 * (1 - pores.fraction) + 10 * unit
    assert not says(estimate_noise(Volume(scan, "ZYX")), "median filter")


def test_a_scan_without_noise_but_with_fine_detail_is_no_filtered_scan(
    rng: np.random.Generator,
) -> None:
    pores = sphere_foam((32, 64, 64), porosity=0.3, radius=(5, 9), gap=2, seed=1)
    clean = np.round(100 * (1 - pores.fraction))
    found = estimate_noise(
        Volume(clean + 0.5 * rng.standard_normal(clean.shape), "ZYX")
    )
    assert found.is_measured
    assert found.bound == 0.01
    assert not found.notes


def test_much_clipping_is_said_wherever_the_level_is_used(scan: np.ndarray) -> None:
    much = estimate_noise(Volume(np.clip(scan, 0, 90).astype(np.float32), "ZYX"))
    assert any("clipped" in sentence for sentence in much.doubts)
    assert not estimate_noise(Volume(scan, "ZYX")).doubts


@pytest.mark.parametrize("lag", [0.0, 0.5])
def test_the_interval_contains_the_level_in_nine_of_ten_scans(lag: float) -> None:
    clean = 100.0 * (1 - sphere_foam((16, 64, 64), porosity=0.3, seed=4).fraction)
    hits = 0
    levels = np.linspace(3, 25, 12)
    for seed, level in enumerate(levels):
        lags = dict.fromkeys("zyx", lag)
        unit = noise_like(clean.shape, lags, np.random.default_rng(seed))
        low, high = estimate_noise(Volume(clean + level * unit, "ZYX")).interval
        hits += low <= level <= high
    assert hits >= 10


def test_parts_that_are_almost_alike_still_have_a_fit(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """The usual solver fails for some scans; the other one is equally good."""
    matrix = rng.random((20, 4))
    values = matrix @ [1.0, 0.0, 2.0, 0.0] + rng.normal(0, 0.01, 20)
    expected = non_negative(matrix, values)

    def give_up(*_: object) -> None:
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr("scipy.optimize.nnls", give_up)
    np.testing.assert_allclose(non_negative(matrix, values), expected, atol=1e-4)


def test_pores_without_a_single_photon_are_no_padding(
    rng: np.random.Generator,
) -> None:
    foam = sphere_foam((24, 80, 80), porosity=0.3, radius=(5, 9), gap=2.0, seed=3)
    counts = rng.poisson(30.0 * (foam.fraction < 0.5)).astype(np.float32)
    found = estimate_noise(Volume(counts, "ZYX"))
    assert found.contrast == pytest.approx(30.0, rel=0.2)
    assert not says(found, "padding")


def rare_spheres(count: int) -> np.ndarray:
    """Return a uniform solid (100) with a few blurred spherical pores (0)."""
    rng = np.random.default_rng(0)
    grid = np.indices((40, 64, 64))
    sample = np.full(grid.shape[1:], 100.0)
    for centre in rng.uniform(4, 36, (count, 3)):
        sample[np.square(grid - centre[:, None, None, None]).sum(0) < 9] = 0
    assert (sample == 0).mean() < 0.01
    return np.asarray(ndimage.gaussian_filter(sample, 0.6))


@pytest.mark.parametrize("level", [0.0, 0.1, 2.0, 5.0, 15.0])
@pytest.mark.parametrize("count", [6, 14])
def test_the_contrast_is_that_of_rare_pores(level: float, count: int) -> None:
    """They are fewer than the percentiles between which the contrast is measured."""
    noise_only = np.random.default_rng(1).normal(0, level, (40, 64, 64))
    noise = estimate_noise(Volume(rare_spheres(count) + noise_only, "ZYX"))
    assert noise.contrast == pytest.approx(100, rel=0.15)
    assert noise.level == pytest.approx(level if level > 1 else 0, rel=0.05)


@pytest.mark.parametrize("level", [2.0, 5.0, 15.0])
@pytest.mark.parametrize("count", [6, 14])
def test_the_contrast_is_that_of_rare_bright_objects(level: float, count: int) -> None:
    noise_only = np.random.default_rng(1).normal(0, level, (40, 64, 64))
    scan = 100 - rare_spheres(count) + noise_only
    noise = estimate_noise(Volume(scan, "ZYX"))
    assert noise.contrast == pytest.approx(100, rel=0.15)
    assert noise.level == pytest.approx(level, rel=0.05)
    assert not noise.doubts


def test_rare_bright_objects_do_not_set_the_contrast_of_other_objects() -> None:
    """Noise matters for the two phases of the sample, however bright the metal is."""
    foam = sphere_foam((40, 64, 64), porosity=0.3, radius=(5, 9), gap=2.0, seed=3)
    scan = 100 * (1 - foam.fraction) + 10 * (100 - rare_spheres(6))
    scan += np.random.default_rng(1).normal(0, 15, scan.shape)
    noise = estimate_noise(Volume(scan, "ZYX"))
    assert noise.contrast == pytest.approx(100, rel=0.2)


def test_a_scan_of_noise_alone_is_weaker_than_its_noise() -> None:
    rng = np.random.default_rng(2)
    blurred = ndimage.gaussian_filter(rng.normal(size=(40, 64, 64)), 0.8, mode="wrap")
    for scan in (rng.normal(size=(40, 64, 64)), blurred / blurred.std()):
        assert estimate_noise(Volume(scan, "ZYX")).relative > 1


def test_smooth_texture_is_doubted_wherever_the_level_is_used() -> None:
    """It is hard to distinguish from noise, and a restoration would remove it."""
    texture = ndimage.gaussian_filter(
        np.random.default_rng(1).normal(size=(40, 64, 64)), 1.0
    )
    foam = sphere_foam((40, 64, 64), porosity=0.3, radius=(5, 9), gap=2.0, seed=3)
    scan = 100 * (1 - foam.fraction) + 12 * texture / texture.std()
    noise = estimate_noise(Volume(scan, "ZYX"))
    assert noise.level > 5
    assert any("hardly any fine detail" in sentence for sentence in noise.doubts)
