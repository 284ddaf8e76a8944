"""Samples of a diffusion model for a scan, compared with closed-form posteriors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.diffusion.posterior import (
    PosteriorSampler,
    block_means,
    enlarged,
)
from napari_geosr.learning.diffusion.schedule import Schedule

#: Mean and standard deviation of the image mean, and deviation of each voxel from it.
MEAN, COMMON, OWN = 0.5, 0.8, 0.6


class Exact(nn.Module):
    """The exact expectation for images of a Gaussian distribution.

    All voxels of an image share one value N(MEAN, COMMON²), and each has its own
    deviation N(0, OWN²) from it.
    """

    class config:  # noqa: N801
        noise_schedule, prediction, zero_terminal = "cosine", "image", False

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.schedule = Schedule(prediction="image")

    def output(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        a, s = (float(v) for v in self.schedule.shares(int(time), x))
        rest, axes = x - a * MEAN, tuple(range(2, x.ndim))
        common = rest.mean(axes, keepdim=True)
        whole = COMMON**2 + OWN**2 / (n := x[0, 0].numel())
        of_mean = a * whole / (a**2 * whole + s**2 / n)
        of_rest = a * OWN**2 / (a**2 * OWN**2 + s**2)
        return MEAN + of_mean * common + of_rest * (rest - common)


def sampler(noise: float, **values: Any) -> PosteriorSampler:
    return PosteriorSampler(Exact(), noise, **{"steps": 60} | values)


def drawn(scan: np.ndarray, noise: float, n: int = 60, **values: Any) -> np.ndarray:
    draw = sampler(noise, **values)
    return np.stack([draw(scan, (7, i)) for i in range(n)])


def test_samples_of_a_noisy_image_are_those_of_the_posterior() -> None:
    """For each voxel's own deviation: mean and variance in closed form."""
    noise = 0.5
    rng = np.random.default_rng(0)
    truth = MEAN + COMMON * rng.normal() + OWN * rng.normal(size=(24, 24))
    scan = (truth + noise * rng.normal(size=truth.shape)).astype(np.float32)
    found = drawn(scan, noise)
    gain = OWN**2 / (OWN**2 + noise**2)
    expected = scan.mean() + gain * (scan - scan.mean())
    spread = (gain * noise**2) ** 0.5
    error = found.mean(0) - expected
    assert error.std() == pytest.approx(spread / 60**0.5, rel=0.15)
    assert found.std(0, ddof=1).mean() == pytest.approx(spread, rel=0.04)
    # The truth is statistically indistinguishable from the samples.
    score = (truth - found.mean(0)) / found.std(0, ddof=1)
    assert score.std() == pytest.approx(1, abs=0.08)


def test_a_scan_without_noise_is_given_back_by_the_blocks() -> None:
    rng = np.random.default_rng(1)
    scan = rng.normal(MEAN, 1, (6, 8)).astype(np.float32)
    draw = sampler(0.0, factor=4, steps=20)
    for i in range(3):
        made = draw(scan, (0, i))
        assert made.shape == (24, 32)
        means = made.reshape(6, 4, 8, 4).mean((1, 3))
        np.testing.assert_allclose(means, scan, atol=1e-5)
        assert draw.residual(scan, made) < 1e-5


def test_the_inside_of_blocks_varies_as_the_model_has_learned() -> None:
    scan = np.full((6, 6), MEAN, np.float32)
    found = drawn(scan, 0.0, 40, factor=2)
    inside = found - np.stack(
        [np.kron(s.reshape(6, 2, 6, 2).mean((1, 3)), np.ones((2, 2))) for s in found]
    )
    assert inside.std() == pytest.approx(OWN * (3 / 4) ** 0.5, rel=0.05)


def test_noise_of_the_scan_is_left_open_in_blocks() -> None:
    """The block means are known only up to the noise of the scan."""
    noise, scan = 0.4, np.full((4, 4), 1.5, np.float32)
    found = drawn(scan, noise, 60, factor=2)
    misfit = found.reshape(60, 4, 2, 4, 2).mean((2, 4)) - scan
    assert 0.1 < misfit.std() < noise


def test_a_sample_is_a_function_of_seed_and_voxel() -> None:
    scan = np.random.default_rng(2).normal(MEAN, 1, (20, 30)).astype(np.float32)
    draw = sampler(0.5, steps=5)
    np.testing.assert_array_equal(draw(scan, (1, 2)), draw(scan, (1, 2)))
    assert np.abs(draw(scan, (1, 2)) - draw(scan, (1, 3))).max() > 0.1


def test_blocks() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(block_means(enlarged(x, 3), 3), x)
    assert block_means(x, 2)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


@pytest.mark.parametrize(
    ("noise", "message"), [(0.0, "No noise was measured"), (1e6, "more noise")]
)
def test_noise_that_leaves_nothing_to_sample(noise: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampler(noise)
