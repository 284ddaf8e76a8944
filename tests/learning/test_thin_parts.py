"""Necks and thin pores: found where they are, and worth more in the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_geosr.learning.losses.pixel import HUBER_DELTA
from napari_geosr.learning.losses.thin_parts import WIDTH, thin_error, thin_parts

#: Two phases, standardised: the dark one is the rarer, so it is farther from 0.
DARK, BRIGHT = -2.0, 0.5


def two_pores_and_a_neck() -> torch.Tensor:
    """Pores of 9 × 9 voxels, joined by a neck of 3 × 6."""
    image = torch.full((1, 1, 15, 30), BRIGHT)
    image[..., 3:12, 3:12] = DARK
    image[..., 3:12, 18:27] = DARK
    image[..., 6:9, 12:18] = DARK
    return image


@pytest.mark.parametrize("sign", [1, -1])
def test_the_neck_is_thin_and_the_pores_are_not(sign: int) -> None:
    found = thin_parts(sign * two_pores_and_a_neck())[0, 0]
    expected = torch.zeros(15, 30)
    expected[6:9, 12:18] = 1
    assert torch.equal(found, expected)


def test_the_top_hat_is_that_of_scipy(rng: np.random.Generator) -> None:
    volume = ndimage.gaussian_filter(rng.normal(size=(12, 14, 16)), 1).astype("f4")
    volume -= volume.min() * 0.4  # its bright parts are farther from 0
    found = thin_parts(torch.from_numpy(volume)[None, None])[0, 0].numpy()
    top_hat = ndimage.white_tophat(volume, size=WIDTH, mode="constant", cval=np.inf)
    inner = (slice(WIDTH, -WIDTH),) * 3  # scipy's border is another
    scaled = top_hat / np.ptp(volume)
    np.testing.assert_allclose(found[inner], scaled[inner], atol=1e-6)


def test_one_phase_alone_has_no_thin_parts() -> None:
    grains = 0.01 * torch.randn(2, 1, 16, 16, generator=torch.manual_seed(0))
    assert not thin_parts(grains + DARK).any()
    assert not thin_parts(torch.full((1, 1, 8, 8, 8), BRIGHT)).any()


def test_each_patch_of_a_batch_has_its_own_rarer_phase() -> None:
    image = two_pores_and_a_neck()
    both = thin_parts(torch.cat([image, -image]))
    assert torch.equal(both[0], both[1])


def test_error_by_hand() -> None:
    target = two_pores_and_a_neck()
    output = target.clone()
    output[..., 7, 14] = BRIGHT  # the neck is cut
    output[..., 4, 4] = BRIGHT  # so is a corner of a pore, which counts for nothing
    cost = HUBER_DELTA * (BRIGHT - DARK - HUBER_DELTA / 2)
    assert float(thin_error(output, target)) == pytest.approx(cost / target.numel())


def test_an_uncertain_neck_is_kept() -> None:
    """Open in 4 of 10 cases: least error closes it, counted twice it stays dark."""
    closed = two_pores_and_a_neck()
    closed[..., 6:9, 12:18] = BRIGHT
    cases = torch.cat([two_pores_and_a_neck()] * 4 + [closed] * 6)

    def best(weight: float) -> float:
        levels = torch.linspace(DARK, BRIGHT, 101)
        costs = []
        for level in levels:
            output = closed.clone()
            output[..., 6:9, 12:18] = level
            output = output.expand_as(cases)
            error = torch.nn.functional.huber_loss(output, cases, delta=HUBER_DELTA)
            costs.append(float(error + weight * thin_error(output, cases)))
        return float(levels[int(np.argmin(costs))])

    middle = (DARK + BRIGHT) / 2
    assert best(0.0) > middle > best(1.0)
