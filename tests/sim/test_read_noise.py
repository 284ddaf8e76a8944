"""Read noise and the camera offset do not brighten dark areas."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from napari_geosr.core.steps import run_to_end
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.sim.planes import fit_steps, frame_fit_of, plane_steps
from napari_geosr.operations.sim.trust import trust_steps
from napari_geosr.physics.illumination import IlluminationOperator, simulation
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.physics.illumination.simulation import SimScene
from napari_geosr.sim.joint_rl import JointRichardsonLucy
from napari_geosr.sim.noise import FrameNoise, dark_level, frame_noise
from sim.sim_scenes import scene
from sim.test_trust import estimate_of

OTF = Otf(0.37)


@functools.cache
def half_empty(snr: float, read_noise: float):
    """Filaments in the left half; the right half is dark."""
    patch = pytest.MonkeyPatch()
    drawn = simulation.draw_structure

    def draw(structure, shape, period, rng):
        light = drawn(structure, shape, period, rng)
        light[:, shape[1] // 2 :] = 0
        return light

    with patch.context() as patched:
        patched.setattr(simulation, "draw_structure", draw)
        return simulation.simulate_frames(
            "filaments", SimScene(size=96, snr=snr, read_noise=read_noise)
        )


def means(image: np.ndarray) -> tuple[float, float]:
    """Means in the empty and in the other half, without borders."""
    n = image.shape[0] // 8
    return float(image[n:-n, 5 * n : -n].mean()), float(image[n:-n, n : 3 * n].mean())


@pytest.mark.parametrize(("snr", "read_noise"), [(5, 2.0), (7, 5.0), (20, 2.0)])
def test_sums_are_those_of_the_frames(snr, read_noise):
    made = half_empty(snr, read_noise)
    block = made.frames - 100
    gain, noise = 2.0, frame_noise(block, OTF)
    assert noise.dark == pytest.approx((gain * read_noise) ** 2, rel=0.15)
    config = SimConfig(iterations=60, threads=1)
    image, _ = run_to_end(plane_steps(block, made.patterns, made.otf, config))
    dark, bright = means(image)
    widefield = means(block.mean(axis=(0, 1)))
    # Clipping would add 0.4 times the read noise everywhere.
    assert dark - widefield[0] < 0.15 * gain * read_noise
    assert bright == pytest.approx(widefield[1], rel=0.12)
    steps = trust_steps(
        image, block, estimate_of(made), config, iterations=60, has_resolution=False
    )
    assert run_to_end(steps).warnings == ()


def test_a_network_starts_from_frames_that_are_not_clipped():
    made = half_empty(5, 2.0)
    block = made.frames - 100
    noise = frame_noise(block, OTF)
    config = SimConfig(method="pinn", features=4, threads=1)
    plane = block, made.patterns, made.otf, config
    start = run_to_end(fit_steps(*plane, 30, shift=noise.shift))
    fit = frame_fit_of(start, block, made.patterns, noise, config)
    torch.testing.assert_close(fit.frames, torch.from_numpy(block.reshape(-1, 96, 96)))
    rows, columns = fit.operator.grid.inside_fine
    dark = means(fit.result()[rows, columns].numpy())[0]
    assert dark - means(block.mean(axis=(0, 1)))[0] < 0.15 * 2 * 2.0


def test_the_shift_follows_the_read_noise():
    def shift(dark: float, gain: float) -> float:
        return FrameNoise(1.0, dark, gain, 1.0).shift

    assert shift(0.0, 2.0) == shift(0.0, 0.0) == 0.0
    assert shift(25.0, 2.0) == pytest.approx(12.5)  # the variance over the gain
    assert shift(25.0, 100.0) == pytest.approx(2 * 5)
    assert shift(25.0, 0.0) == shift(25.0, 0.1) == pytest.approx(3 * 5)


def test_without_read_noise_nothing_is_shifted():
    """The textbook iteration, with exactly the same numbers."""
    made = scene("filaments", snr=20, size=48)
    frames = torch.from_numpy((made.frames - 100).reshape(9, 48, 48))
    operator = IlluminationOperator.create(made.patterns, made.otf, 2)
    fit = JointRichardsonLucy(operator, frames, shift=0.0)
    image = fit.image
    with torch.inference_mode():
        for _ in range(5):
            expected = operator.forward(image).clamp(min=fit.floor)
            update = operator.adjoint(frames.clamp(min=0) / expected) * fit.weight
            image = image * update.clamp(min=0)
            fit.step()
    assert torch.equal(fit.image, image)


@pytest.mark.parametrize("read_noise", [1.0, 4.0])
@pytest.mark.parametrize("part", [0.04, 0.5, 0.98])
def test_the_offset_is_the_centre_of_the_dark_area(read_noise, part):
    """However large this is."""
    rng = np.random.default_rng(0)
    light = np.zeros((200, 200))
    light[:, round(part * 200) :] = 40
    frames = 100 + rng.poisson(light, (9, 200, 200))
    frames = frames + read_noise * rng.standard_normal(frames.shape)
    level = dark_level(frames.astype(np.float32))
    # The noise of the mean of 9 frames and 3 × 3 pixels.
    assert level == pytest.approx(100, abs=0.8 * read_noise / 9)


def test_frames_without_dark_and_bright_areas_keep_their_light():
    """Nothing shows how much of an even grey value is light."""
    frames = np.random.default_rng(0).poisson(100, (9, 200, 200)).astype(np.float32)
    assert dark_level(frames) < 98  # the mean is 100


def test_a_sloping_background_does_not_raise_the_offset():
    slope = np.linspace(0, 400, 200)[None] + np.linspace(0, 300, 200)[:, None]
    rng = np.random.default_rng(0)
    frames = 100 + rng.poisson(slope, (9, 200, 200)).astype(np.float32)
    assert dark_level(frames) == pytest.approx(np.percentile(100 + slope, 0.1), abs=1.5)
