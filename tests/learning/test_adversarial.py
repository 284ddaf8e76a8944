"""Distances, the gradient penalty and the critics, in cases with known values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.critics import PatchCritic, TomoGANCritic, check_penalty
from napari_geosr.learning.losses.adversarial import (
    critic_loss,
    generator_loss,
    gradient_penalty,
)

REAL, FAKE = torch.tensor([[2.0], [0.0]]), torch.tensor([[-1.0], [1.0]])


def _bce(logits: torch.Tensor, label: float) -> torch.Tensor:
    target = torch.full_like(logits, label)
    return nn.functional.binary_cross_entropy_with_logits(logits, target)


def test_jensen_shannon_is_cross_entropy() -> None:
    expected = _bce(REAL, 1) + _bce(FAKE, 0)
    torch.testing.assert_close(critic_loss(REAL, FAKE, "jensen-shannon"), expected)
    torch.testing.assert_close(generator_loss(FAKE, "jensen-shannon"), _bce(FAKE, 1))
    undecided = critic_loss(torch.zeros(3), torch.zeros(3), "jensen-shannon")
    assert float(undecided) == pytest.approx(2 * math.log(2))


def test_wasserstein_and_least_squares_by_hand() -> None:
    assert float(critic_loss(REAL, FAKE, "wasserstein")) == -1.0
    assert float(generator_loss(FAKE, "wasserstein")) == 0.0
    assert float(critic_loss(REAL, FAKE, "least-squares")) == 0.5 * (1 + 1)
    assert float(generator_loss(FAKE, "least-squares")) == 0.5 * (4 + 0) / 2


@pytest.mark.parametrize("distance", ["jensen-shannon", "wasserstein", "least-squares"])
def test_the_two_pull_in_opposite_directions(distance: Any) -> None:
    scores = torch.zeros(4, requires_grad=True)
    (of_critic,) = torch.autograd.grad(critic_loss(REAL, scores, distance), scores)
    (of_generator,) = torch.autograd.grad(
        generator_loss(scores + 0.3, distance), scores
    )
    assert (of_critic >= 0).all()
    assert (of_generator < 0).all()


class Linear(nn.Module):
    """Scores with slope `norm` in every sample."""

    def __init__(self, shape: tuple[int, ...], norm: float, patches: int = 1) -> None:
        super().__init__()
        direction = torch.randn(shape, dtype=torch.float64)
        self.weight = nn.Parameter((norm * direction / direction.norm()).float())
        self.patches = patches

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x * self.weight).flatten(1).sum(1, keepdim=True)
        return score.expand(-1, self.patches)


@pytest.mark.parametrize("shape", [(1, 12, 9), (3, 8, 8), (1, 4, 6, 5)])
@pytest.mark.parametrize("norm", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("patches", [1, 6])
def test_penalty_of_a_linear_critic(
    shape: tuple[int, ...], norm: float, patches: int
) -> None:
    torch.manual_seed(0)
    critic = Linear(shape, norm, patches)
    real, fake = torch.randn(5, *shape), torch.randn(5, *shape)
    found = float(gradient_penalty(critic, real, fake).detach())
    assert found == pytest.approx((norm - 1) ** 2, abs=1e-5)


def test_penalty_is_of_each_sample_alone() -> None:
    """Slopes 0 and 2 average to 1, but both are off by one."""

    def critic(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :1] * torch.tensor([[0.0], [2.0]])

    x = torch.randn(2, 1, 4, 4)
    assert float(gradient_penalty(critic, x, x)) == pytest.approx(1.0, abs=1e-5)


def test_penalty_reaches_the_critics_weights_and_only_them() -> None:
    torch.manual_seed(0)
    critic = TomoGANCritic(2, width=4)
    real = torch.randn(2, 1, 16, 16)
    fake = torch.randn(2, 1, 16, 16, requires_grad=True)
    gradient_penalty(critic, real, fake).backward()
    assert fake.grad is None
    weights = [p for n, p in critic.named_parameters() if n.endswith("weight")]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in weights)


@pytest.mark.parametrize("norm", [0.5, 1.0])
def test_penalty_of_a_critic_that_sees_a_condition(norm: float) -> None:
    """Regardless of the critic's slope along the condition, which is fixed."""
    torch.manual_seed(0)
    critic = Linear((3, 8, 8), 1.0)
    with torch.no_grad():
        critic.weight[:2] *= 40
        critic.weight[2] *= norm / critic.weight[2].norm()
    real, fake = torch.randn(2, 5, 1, 8, 8)
    given = torch.randn(5, 2, 8, 8)
    found = float(gradient_penalty(critic, real, fake, given).detach())
    assert found == pytest.approx((norm - 1) ** 2, abs=1e-5)
    joined = [torch.cat([given, image], dim=1) for image in (real, fake)]
    assert float(gradient_penalty(critic, *joined).detach()) > 10


def test_penalty_lies_between_the_two() -> None:
    seen: list[torch.Tensor] = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    torch.manual_seed(0)
    gradient_penalty(critic, torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2))
    x = seen[0].flatten(1)
    assert (x == x[:, :1]).all()
    assert 0 <= x.min() < 0.2 < 0.8 < x.max() <= 1


def test_published_parameter_counts() -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(TomoGANCritic(2, edge=256)) == 673_477
    assert count(PatchCritic(2, channels=2, norm="batch")) == 2_764_609
    assert count(PatchCritic(2, channels=2, width=16, norm="batch")) < 180_000


def test_a_patch_of_the_patch_critic_has_70_voxels() -> None:
    critic = PatchCritic(2, 1, width=2).double()
    x = torch.zeros(1, 1, 160, 160, dtype=torch.float64, requires_grad=True)
    logits = critic(x)
    middle = logits.shape[-1] // 2
    (seen,) = torch.autograd.grad(logits[0, 0, middle, middle], x)
    reached = torch.nonzero(seen[0, 0].abs().sum(0))
    assert int(reached.max() - reached.min()) + 1 == 70


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("edge", [8, 20, 33])
def test_critics_take_any_patch(ndim: int, edge: int) -> None:
    x = torch.randn(2, 3, *(edge,) * ndim)
    assert len(PatchCritic(ndim, 3, width=2)(x)) == 2
    assert TomoGANCritic(ndim, 3, width=2)(x).shape == (2, 1)


def test_what_a_critic_refuses() -> None:
    with pytest.raises(ConfigError, match="256"):
        TomoGANCritic(2, width=2, edge=256)(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ConfigError, match="batch norm"):
        check_penalty(PatchCritic(2, 1, width=2, norm="batch"))
    check_penalty(PatchCritic(2, 1, width=2))
