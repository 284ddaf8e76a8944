"""Kinds of coarse imaging: the noise has the stated strength and grain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.degradations import (
    DEGRADATIONS,
    ContrastLevels,
    ImagingEstimate,
    blur_in_plane,
    config_class,
    ct,
    fluo,
    fluo_scan,
    options,
)
from napari_geosr.physics.noise import reconstruction_noise
from napari_geosr.physics.noise_spectrum import (
    SpectralNoise,
    frequencies,
    reconstruction_power,
)
from napari_geosr.physics.sampling import area_downsample

LEVELS = ContrastLevels(dark=10.0, bright=210.0, contrast=120.0)


def planes(noise, count: int) -> np.ndarray:
    return np.stack([noise.plane(z) for z in range(count)])


def test_kinds_are_found_by_their_file_names():
    assert DEGRADATIONS.names() == ["ct", "fluo", "fluo_scan"]
    for kind in DEGRADATIONS.names():
        module = DEGRADATIONS.load(kind)
        assert module.TITLE
        assert config_class(kind)() == module.Config()
        flat = module.Config(blur=0.0)
        assert module.blur_widths(flat, (2.0, 1.0, 1.0), None) == (0.0, 0.0, 0.0)
    known = options()
    assert {"blur", "noise", "photons", "seed"} <= known.keys()
    assert known["noise"][2].endswith("(ct).")
    assert "(ct)" not in known["blur"][2]


def test_the_noise_of_ct_is_that_of_reconstructed_slices():
    table = reconstruction_power(frequencies(), 1.5)
    made = planes(SpectralNoise((48, 60), 3.0, table, seed=1), 40)
    like = reconstruction_noise((40, 48, 60), 3.0, np.random.default_rng(2), cutoff=1.5)
    assert made.std() == pytest.approx(3.0, rel=0.02)
    power = [(np.abs(np.fft.rfft2(n)) ** 2).mean(axis=0) for n in (made, like)]
    smooth = [ndimage.uniform_filter(np.sqrt(p), 5)[2:-2, 2:-2] for p in power]
    assert np.corrcoef(*(p.ravel() for p in smooth))[0, 1] > 0.98
    shared = [(n[:, :, 1:] * n[:, :, :-1]).mean() for n in (made, like)]
    assert shared[0] == pytest.approx(shared[1], rel=0.05)
    # Slices are independent.
    assert abs((made[1:] * made[:-1]).mean()) < 0.1


def test_noise_of_a_plane_does_not_depend_on_which_others_are_made():
    one, other = (SpectralNoise((9, 8), 1.0, along_z=0.4, seed=7) for _ in range(2))
    up = planes(one, 6)
    down = np.stack([other.plane(z) for z in (5, 4, 3, 2, 1, 0)])[::-1]
    assert np.array_equal(up, down)
    third = SpectralNoise((9, 8), 1.0, along_z=0.4, seed=8)
    assert not np.array_equal(up[0], third.plane(0))


@pytest.mark.parametrize("along_z", [0.0, 0.25, 0.6])
def test_adjacent_planes_share_as_much_noise_as_asked_for(along_z):
    made = planes(SpectralNoise((40, 40), 2.0, along_z=along_z), 60)
    assert made.std() == pytest.approx(2.0, rel=0.03)
    found = (made[1:] * made[:-1]).mean() / made.var()
    assert found == pytest.approx(along_z, abs=0.03)


def test_ct_measures_noise_in_contrasts():
    config = ct.Config(noise=0.2, grey_gain=-2.0, seed=3)
    noise = ct.Noise(config, LEVELS, (64, 64))
    plane = np.full((64, 64), 50, np.float32)
    found = noise.add(plane, 4) - plane
    assert found.std() == pytest.approx(0.2 * 120 * 2, rel=0.05)
    assert np.array_equal(noise.add(plane, 4), found + plane)


def test_fluorescence_counts_photons_above_the_dark_level():
    config = fluo.Config(photons=40, read_noise=2.0, grey_gain=3.0, grey_offset=100)
    noise = fluo.Noise(config, LEVELS, (300, 300))
    for light, variance in ((0.0, 4.0), (0.5, 24.0), (1.0, 44.0)):
        grey = 3 * (10 + 200 * light) + 100
        seen = noise.add(np.full((300, 300), grey, np.float32), 0)
        photon = 600 / 40
        assert seen.mean() == pytest.approx(grey, abs=0.1 * photon)
        assert seen.std() == pytest.approx(photon * math.sqrt(variance), rel=0.02)
    assert fluo.blur_widths(config, (4.0, 1.0, 1.0), None) == pytest.approx(
        (0.5, 0.8, 0.8)
    )


def test_a_resolution_in_line_pairs_is_that_of_the_whole_system():
    lp_per_mm, factor, fine_mm = 20.0, 4, 0.005
    config = ct.Config(mtf10=lp_per_mm)
    sigma = blur_in_plane(config, factor * fine_mm)
    # A line, imaged by the coarse system at every position relative to its voxels.
    line = np.zeros(400, np.float32)
    line[200] = 1
    spread = gaussian_blur(line, sigma * factor)
    spread = np.convolve(spread, np.ones(factor) / factor)
    f = np.fft.rfftfreq(4000, fine_mm)
    mtf = np.abs(np.fft.rfft(spread, 4000))
    # The voxel's box is approximated by a Gaussian of the same variance.
    assert np.interp(lp_per_mm, f, mtf) == pytest.approx(0.1, abs=0.015)
    with pytest.raises(ConfigError, match="cannot be reached"):
        blur_in_plane(ct.Config(mtf10=500.0), factor * fine_mm)
    with pytest.raises(ConfigError, match="needs a voxel size"):
        blur_in_plane(config, None)


def test_what_was_measured_becomes_settings():
    measured = ImagingEstimate(
        blur=0.6,
        gain=2.0,
        offset=5.0,
        noise=12.0,
        shape="white",
        spectrum=(1.0, 1.0),
        along_z=0.2,
        slope=8.0,
        intercept=-100.0,
    )
    for module in (ct, fluo):
        config = module.Config(**module.adopted(measured, LEVELS))
        assert (config.blur, config.grey_gain, config.grey_offset) == (0.6, 2.0, 5.0)
    config = ct.Config(**ct.adopted(measured, LEVELS))
    made = planes(ct.Noise(config, LEVELS, (64, 64)).noise, 20)
    assert made.std() == pytest.approx(12.0, rel=0.03)
    assert (config.along_z, config.noise_spectrum) == (0.2, (1.0, 1.0))
    config = fluo.Config(**fluo.adopted(measured, LEVELS))
    noise = fluo.Noise(config, LEVELS, (300, 300))
    for grey in (25.0, 225.0, 425.0):
        seen = noise.add(np.full((300, 300), grey, np.float32), 0)
        assert seen.var() == pytest.approx(8 * grey - 100, rel=0.05)


def test_bad_settings_are_refused():
    for bad in ({"grey_gain": 0}, {"noise_spectrum": (1, -1)}, {"noise": -1}):
        with pytest.raises(ConfigError):
            ct.Config.create(**bad)


def test_means_may_differ_along_the_axes():
    block = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert np.array_equal(
        area_downsample(block, (1, 3, 2)).ravel(), [4.5, 6.5, 16.5, 18.5]
    )


def test_an_under_sampled_scan_counts_photons_only_when_told_to():
    plane = np.full((200, 200), 110.0, np.float32)
    kept = fluo_scan.Noise(fluo_scan.Config(), LEVELS, plane.shape)
    assert np.array_equal(kept.add(plane, 3), plane)
    config = fluo_scan.Config(photons=50.0, read_noise=0.0)
    noisy = fluo_scan.Noise(config, LEVELS, plane.shape).add(plane, 3)
    # Half the light: 25 photons of 4 grey values each.
    assert noisy.mean() == pytest.approx(110, rel=0.01)
    assert noisy.std() == pytest.approx(4 * 5, rel=0.03)


def test_an_under_sampled_scan_has_no_resolution_of_its_own():
    with pytest.raises(ConfigError, match="resolution of the original scan"):
        config_class("fluo-scan").create(mtf10=5.0)
