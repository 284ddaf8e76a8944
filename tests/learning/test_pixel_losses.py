"""Losses compared with hand calculations and scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as reference

from napari_geosr.learning.losses.pixel import (
    HUBER_DELTA,
    SSIM_SHARE,
    gradient_difference,
    structural_similarity,
)
from napari_geosr.learning.target_loss import TargetLoss, TargetLossConfig

GRADIENT_WEIGHT = 0.2


def chosen(name: str) -> Any:
    """The loss minimised by ``--loss NAME``."""
    loss = TargetLoss(TargetLossConfig(loss=name))
    return lambda output, target: loss(output, target)[0]


LOSSES = {name: chosen(name) for name in ("l2", "l1", "huber", "ssim", "gradient")}


def image(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None, None]


def test_by_hand() -> None:
    output, target = image((0.0, 0.25), (3.0, 1.0)), image((0.0, 0.0), (1.0, 1.0))
    assert float(LOSSES["l2"](output, target)) == (0.25**2 + 2**2) / 4
    assert float(LOSSES["l1"](output, target)) == (0.25 + 2) / 4
    d = HUBER_DELTA
    huber = (0.25**2 / 2 + d * (2 - d / 2)) / 4
    assert float(LOSSES["huber"](output, target)) == pytest.approx(huber)
    # Errors 0, 1/4 | 2, 0: steps along Y 2, -1/4 and along X 1/4, -2.
    steps = (2 + 0.25) / 2 + (0.25 + 2) / 2
    assert float(gradient_difference(output, target)) == steps
    found = float(LOSSES["gradient"](output, target))
    assert found == pytest.approx(2.25 / 4 + GRADIENT_WEIGHT * steps)


@pytest.mark.parametrize("shape", [(40, 33), (14, 19, 17)])
def test_similarity_is_that_of_scikit_image(
    shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    a = rng.normal(2, 1, shape)
    b = a + rng.normal(0, 0.6, shape)
    expected = reference(
        a,
        b,
        data_range=4.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    tensors = (torch.from_numpy(v)[None, None] for v in (a, b))
    found = structural_similarity(*tensors, data_range=4.0)
    assert float(found) == pytest.approx(expected, abs=1e-9)
    assert 0.1 < expected < 0.95


def test_small_images_get_a_small_window(rng: np.random.Generator) -> None:
    a = torch.from_numpy(rng.normal(size=(1, 1, 4, 6)))
    assert float(structural_similarity(a, a, data_range=4.0)) == pytest.approx(1)


def test_the_similarity_mix_and_its_gradient() -> None:
    torch.manual_seed(0)
    target = torch.randn(2, 1, 12, 12, dtype=torch.float64)
    assert float(LOSSES["ssim"](target, target)) == pytest.approx(0, abs=1e-12)
    flipped = float(LOSSES["ssim"](-target, target))
    assert flipped > SSIM_SHARE * 0.5
    output = torch.randn(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    other = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: LOSSES["ssim"](x, other), (output,))


@pytest.mark.parametrize("name", list(LOSSES))
def test_nothing_of_float64_is_moved_to_a_device(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apple devices have no float64."""
    original = torch.Tensor.to

    def to(tensor: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        moved = original(tensor, *given, **named)
        where = [*given, *named.values()]
        if any(isinstance(v, torch.device | str) for v in where):
            assert moved.dtype != torch.float64
        return moved

    monkeypatch.setattr(torch.Tensor, "to", to)
    output, target = torch.randn(2, 1, 1, 12, 12)
    assert torch.isfinite(LOSSES[name](output, target))


@pytest.mark.parametrize("name", list(LOSSES))
def test_nothing_at_equality_and_descent_leads_there(name: str) -> None:
    torch.manual_seed(1)
    target = torch.randn(2, 1, 16, 16)
    loss = LOSSES[name]
    assert float(loss(target, target)) == pytest.approx(0, abs=1e-6)
    output = torch.zeros_like(target).requires_grad_(True)
    optimiser = torch.optim.Adam([output], 0.05)
    first = float(loss(output.detach(), target))
    for _ in range(60):
        optimiser.zero_grad()
        value = loss(output, target)
        value.backward()
        optimiser.step()
    assert float(loss(output.detach(), target)) < 0.4 * first


@pytest.mark.parametrize("name", list(LOSSES))
def test_parts_of_a_batch_average_to_the_whole(name: str) -> None:
    torch.manual_seed(2)
    output, target = torch.randn(2, 4, 1, 13, 12, dtype=torch.float64)
    loss = LOSSES[name]
    parts = [loss(output[i : i + 2], target[i : i + 2]) for i in (0, 2)]
    torch.testing.assert_close(torch.stack(parts).mean(), loss(output, target))
