"""Image formation with structured illumination: adjoint, sums and alignment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.physics.illumination import IlluminationOperator, fringe_values
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.physics.illumination.simulation import (
    SimScene,
    harmonic_amplitudes,
    simulate_frames,
)
from sim.sim_scenes import scene

OTF = Otf(0.3)


def fringes(shape=(40, 51), harmonics=1, phases=3) -> PatternSet:
    steps = tuple(0.4 + 2 * np.pi * np.arange(phases) / phases)
    strength = tuple(0.8 / (h + 1) for h in range(harmonics))
    return PatternSet(
        tuple(
            FringePattern((0.22 * np.sin(t), 0.22 * np.cos(t)), steps, strength)
            for t in (0.3, 1.4, 2.6)
        ),
        shape,
    )


def images(shape=(40, 51), times=2) -> PatternSet:
    rng = np.random.default_rng(0)
    values = rng.random((5, times * shape[0], times * shape[1])).astype(np.float32)
    return PatternSet((), shape, images=values / values.mean())


@pytest.mark.parametrize("upscale", [1, 2, 3])
@pytest.mark.parametrize(
    "patterns", [fringes(), fringes(harmonics=2, phases=5), images(times=1)]
)
def test_adjoint(patterns, upscale):
    operator = IlluminationOperator.create(patterns, OTF, upscale)
    torch.manual_seed(0)
    x = torch.randn(operator.grid.fine)
    y = torch.randn(operator.n_frames, *patterns.shape)
    forward = operator.forward(x)
    difference = float((forward * y).sum() - (x * operator.adjoint(y)).sum())
    assert abs(difference) < 1e-5 * float(forward.norm() * y.norm())


def test_forward_is_pattern_times_object_blurred():
    """The combined terms give the same result as a pattern for every frame."""
    patterns = fringes(harmonics=2, phases=5)
    operator = IlluminationOperator.create(patterns, OTF, 2)
    values = fringe_values(patterns, operator.grid)
    direct = IlluminationOperator(
        operator.grid,
        torch.from_numpy(values),
        torch.eye(len(values)),
        operator.transfer,
    )
    x = torch.rand(operator.grid.fine, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        operator.forward(x), direct.forward(x), atol=1e-4, rtol=1e-4
    )


def test_uniform_object_keeps_its_brightness_and_shows_the_pattern():
    """There is no phase error: the camera records the pattern at its position."""
    patterns = fringes(shape=(64, 64))
    operator = IlluminationOperator.create(patterns, OTF, 2)
    seen = operator.forward(torch.full(operator.grid.fine, 3.0)).numpy()
    assert seen.mean() == pytest.approx(3.0, rel=1e-2)
    fringe, frame = patterns.fringes[0], seen[1]
    y, x = (np.arange(64) - 31.5 for _ in range(2))
    ky, kx = fringe.wave_vector
    wave = np.cos(2 * np.pi * (ky * y[:, None] + kx * x) + fringe.phases[1])
    transfer = float(OTF.at(np.array([ky]), np.array([kx]))[0])
    expected = 3 * (1 + 0.8 * transfer * wave)
    # The margin does not continue the pattern periodically, so only the inside is
    # exact.
    inner = (slice(16, -16), slice(16, -16))
    np.testing.assert_allclose(frame[inner], expected[inner], atol=0.02)


def test_sum_over_phases_is_widefield():
    made = scene(snr=0)
    for frames in made.clean:
        np.testing.assert_allclose(
            frames.mean(axis=0), made.clean.mean(axis=(0, 1)), atol=2e-3
        )


def test_images_of_patterns_must_fit_the_grid():
    with pytest.raises(ConfigError, match="Resample"):
        IlluminationOperator.create(images(times=3), OTF, 2)


def test_cropped_patterns_are_the_same_patterns():
    patterns = fringes(shape=(64, 64))
    part = patterns.cropped((slice(10, 42), slice(20, 52)))
    assert part.shape == (32, 32)
    whole = IlluminationOperator.create(patterns, OTF, 1)
    small = IlluminationOperator.create(part, OTF, 1)
    one = fringe_values(patterns, whole.grid)[(slice(None), *whole.grid.inside_fine)]
    other = fringe_values(part, small.grid)[(slice(None), *small.grid.inside_fine)]
    np.testing.assert_allclose(one[:, 10:42, 20:52], other, atol=1e-4)


def test_patterns_survive_a_file():
    patterns = fringes(harmonics=2, phases=5)
    again = PatternSet.from_dict(patterns.to_dict())
    for one, other in zip(patterns.fringes, again.fringes, strict=True):
        np.testing.assert_allclose(one.wave_vector, other.wave_vector)
        np.testing.assert_allclose(one.phases, other.phases)
        assert one.modulation == other.modulation
    for spoiled in ({}, {"angles": [], "shape": [4, 4]}, {"angles": 3, "shape": 2}):
        with pytest.raises(ConfigError):
            PatternSet.from_dict(spoiled)


def test_measured_psf_gives_the_otf_of_its_pupil():
    """An Airy pattern, shifted by a fraction of a pixel, gives the theoretical OTF.

    What lies beyond the image, and is subtracted with the background, is missing at
    zero frequency.
    """
    ideal = Otf(0.3, camera=False)
    f = np.fft.fftfreq(63, 1 / 4)
    shift = np.exp(-2j * np.pi * 0.1 * (f[:, None] + f))
    psf = np.fft.fftshift(np.fft.ifft2(ideal.at(f[:, None], f[None]) * shift).real)
    found = Otf.from_psf(psf, 4)
    assert found.cut_off == pytest.approx(0.3, rel=0.08)
    v = np.linspace(0.02, 0.26, 9)
    np.testing.assert_allclose(found.radial(v), ideal.radial(v), rtol=0.08, atol=0.005)
    for spoiled in (np.ones((9, 9)), np.ones((3, 9, 9)), np.full((9, 9), np.nan)):
        with pytest.raises(VolumeError):
            Otf.from_psf(spoiled)


def test_responses_have_the_harmonics_of_their_formula():
    linear = SimScene(modulation=0.7)
    assert harmonic_amplitudes(linear) == pytest.approx((0.7,))
    s, m = 2.0, 0.9
    scene_ = SimScene(modulation=m, response="switching", saturation=s)
    # exp(-s m cos t) = I0(sm) + 2 Σ (-1)^h I_h(sm) cos(h t)
    from scipy.special import iv

    expected = [2 * (-1) ** h * iv(h, s * m) / iv(0, s * m) for h in (1, 2, 3)]
    assert harmonic_amplitudes(scene_)[:3] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ConfigError, match="response"):
        harmonic_amplitudes(SimScene(response="cubic"))


def test_noise_is_that_of_the_photons():
    made = simulate_frames("spots", SimScene(size=64, snr=10, gain=2.0, offset=50))
    clean = made.clean * 10**2 / np.percentile(made.clean, 99)
    pull = (made.frames - 50 - 2 * clean) / (2 * np.sqrt(np.maximum(clean, 1e-3)))
    bright = clean > 5
    assert pull[bright].std() == pytest.approx(1, abs=0.03)
    assert pull[bright].mean() == pytest.approx(0, abs=0.03)


def test_settings_of_a_simulation_change_what_they_say():
    still = scene(snr=0)
    bleached = scene(snr=0, bleaching=0.4)
    means = bleached.clean.mean(axis=(2, 3)).ravel()
    assert means[-1] / means[0] == pytest.approx(0.6, abs=0.02)
    hazy = scene(snr=0, haze=1.0)
    assert hazy.clean.std() < 0.8 * still.clean.std()
    with pytest.raises(ConfigError, match="structure"):
        simulate_frames("cubes", SimScene())
