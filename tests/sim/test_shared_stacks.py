"""The two semi-synthetic stacks of Burns and Liu, with their patterns and truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.core.steps import run_to_end
from napari_geosr.operations.sim import (
    SimConfig,
    estimate_steps,
    open_frames,
    run_steps,
)
from sim.sim_scenes import fitted_psnr

#: Wave vectors in cycles per field, from the images of the patterns.
CYCLES = ((0.0, 40.0), (34.641, 20.0), (34.641, -20.0))


@pytest.fixture(scope="module")
def true_phases(shared_data):
    """Phases of the known patterns at the centre of the field."""
    at = (np.arange(480) - 239.5) / 480
    found = np.zeros((3, 3))
    for i in range(9):
        values = np.asarray(io.read(shared_data / f"sim/patterns/{i + 1}.png").data)
        ky, kx = CYCLES[i // 3]
        wave = np.exp(-2j * np.pi * (ky * at[:, None] + kx * at))
        found[i // 3, i % 3] = np.angle((np.squeeze(values) * wave).sum())
    return found


@pytest.mark.parametrize(
    ("stack", "wiener", "joint"),
    [(24, 31.5, 35.0), pytest.param(1, 30.5, 33.0, marks=pytest.mark.slow)],
)
def test_estimated_patterns_are_as_good_as_known_ones(
    shared_data, true_phases, stack, wiener, joint
):
    base = SimConfig(
        psf=shared_data / "sim/psf.png", psf_sampling=4, upscale_factor=4, threads=1,
        checks=False,
    )  # fmt: skip
    name = f"sim/semisynthetic_microtubules_{stack}"
    frames = open_frames(shared_data / f"{name}_9frames.tif", base)
    truth = np.squeeze(io.read(shared_data / f"{name}_groundtruth.png").data)
    found = run_to_end(estimate_steps(frames, base))
    known = []
    for fringe, cycles, phases in zip(
        found.patterns.fringes, CYCLES, true_phases, strict=True
    ):
        sign = np.sign(np.dot(fringe.wave_vector, cycles))
        moved = sign * np.asarray(fringe.wave_vector) * 120 - cycles
        assert np.hypot(*moved) < 0.05
        turned = np.exp(1j * (sign * np.asarray(fringe.phases) - phases))
        assert np.degrees(np.abs(np.angle(turned))).max() < 3
        known.append(FringePattern((cycles[0] / 120, cycles[1] / 120), tuple(phases)))
    exact = PatternSet(tuple(known), (120, 120))
    for method, least, most_lost in (("wiener", wiener, 0.3), ("joint-rl", joint, 0.5)):
        config = base.model_copy(update={"method": method})
        quality = []
        for patterns in (exact, found.patterns):
            estimate = replace(found, patterns=patterns)
            result = run_to_end(run_steps(frames, config, patterns=estimate))
            quality.append(_psnr(np.asarray(result.volume), truth))
        assert quality[1] >= least
        assert quality[1] >= quality[0] - most_lost


def _psnr(image, truth):
    """PSNR relative to 255 grey values, without a border of 20 pixels."""
    part = (slice(20, -20), slice(20, -20))
    a, t = image[part].astype(float), truth[part].astype(float)
    slope, start = np.polyfit(a.ravel(), t.ravel(), 1)
    return 10 * np.log10(255**2 / np.mean((slope * a + start - t) ** 2))


def test_psnr_is_that_of_the_other_tests():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 255, (80, 80))
    truth[30, 30], truth[31, 31] = 0, 255
    noisy = truth + 5 * rng.standard_normal(truth.shape)
    assert _psnr(noisy, truth) == pytest.approx(fitted_psnr(noisy, truth, 20), abs=0.3)
