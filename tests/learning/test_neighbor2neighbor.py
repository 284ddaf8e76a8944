"""Neighbor2Neighbor: pairs, halves and both terms, calculated by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods.neighbor2neighbor import (
    Config,
    Method,
    as_cells,
    halves,
    neighbour_pairs,
)
from napari_geosr.learning.sampling.patches import Patches


class Times(torch.nn.Module):
    """A network that multiplies the middle slice."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = x.shape[1] // 2
        return self.factor * x[:, middle : middle + 1]


def method_of(network: torch.nn.Module, **values: Any) -> Method:
    method = Method(Config.create(source=["a"], **values))
    method.modules = {"network": network}
    return method


def test_pairs_share_a_face() -> None:
    both_ways = {(0, 1), (1, 0), (0, 2), (2, 0), (1, 3), (3, 1), (2, 3), (3, 2)}
    assert set(neighbour_pairs(2)) == both_ways
    pairs = neighbour_pairs(3)
    assert len(pairs) == len(set(pairs)) == 24
    assert all(bin(i ^ j).count("1") == 1 for i, j in pairs)


def test_cells_by_hand() -> None:
    x = torch.arange(16).view(1, 1, 4, 4)
    cells = as_cells(x, 2)
    assert cells.shape == (1, 1, 2, 2, 4)
    assert cells[0, 0, 0, 1].tolist() == [2, 3, 6, 7]
    deep = as_cells(torch.arange(16).view(1, 1, 2, 2, 4), 3)
    assert deep[0, 0, 0, 0, 1].tolist() == [2, 3, 6, 7, 10, 11, 14, 15]


@pytest.mark.parametrize(
    ("shape", "n_axes"), [((2, 3, 8, 6), 2), ((2, 1, 5, 8, 6), 2), ((1, 1, 4, 6, 8), 3)]
)
def test_halves_are_disjoint_and_adjacent(shape: tuple[int, ...], n_axes: int) -> None:
    x = torch.arange(int(np.prod(shape))).view(shape)
    small = [n // 2 for n in shape[-n_axes:]]
    choice = torch.randint(
        len(neighbour_pairs(n_axes)), (shape[0], 1, *shape[2:-n_axes], *small)
    )
    one, two = halves(x, choice, n_axes)
    assert one.shape == (*shape[:-n_axes], *small)
    assert not set(one.flatten().tolist()) & set(two.flatten().tolist())
    a = np.stack(np.unravel_index(one.numpy(), shape))
    b = np.stack(np.unravel_index(two.numpy(), shape))
    assert (np.abs(a - b).sum(0) == 1).all()
    # All slices given as channels are subsampled in the same way.
    assert (np.ptp(a[-2:] - a[-2:, :, :1], axis=2) == 0).all()


def test_the_loss_by_hand() -> None:
    """One cell 1 2 | 3 5, pair (1, 3), network × 3.

    g1 = 2, g2 = 5, error = 3 · 2 - 5 = 1; restored halves 6 and 15 differ by -9, so
    the second term is (1 + 9)² = 100. Half way through training, its weight is 1.
    """
    method = method_of(Times(3.0), dimensions="2D")
    batch = {
        "source": torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64)[
            None, None
        ],
        "choice": torch.tensor([[[[neighbour_pairs(2).index((1, 3))]]]]),
    }
    assert float(method.loss(batch)[0].detach()) == 1.0
    method.progress = 0.5
    total, named = method.loss(batch)
    assert float(total.detach()) == 1 + 2 * 0.5 * 100
    assert float(named["guess"].detach()) == 1.0
    # No gradient passes through the restored whole: d/df of (2f - 5)² + (2f - 5 + 9)².
    total.backward()
    assert float(method.modules["network"].factor.grad) == 2 * 1 * 2 + 2 * 10 * 2
    with torch.no_grad():
        assert method.validate(batch) == {"guess": 1.0}


def test_the_pass_with_gradients_is_the_first() -> None:
    """Autocast caches the weights of the first pass, with or without gradients."""
    method = method_of(Times(3.0), dimensions="2D")
    seen: list[bool] = []
    method.modules["network"].register_forward_hook(
        lambda *_: seen.append(torch.is_grad_enabled())
    )
    method.loss(
        {
            "source": torch.randn(1, 1, 4, 4, dtype=torch.float64),
            "choice": torch.randint(8, (1, 1, 2, 2)),
        }
    )
    assert seen == [True, False]


def test_the_second_term_is_nothing_for_the_identity() -> None:
    method = method_of(Times(1.0), dimensions="2D")
    batch = {
        "source": torch.randn(3, 1, 8, 8, dtype=torch.float64),
        "choice": torch.randint(8, (3, 1, 4, 4)),
    }
    assert float(method.loss(batch)[1]["regularising"].detach()) == 0.0


def test_the_weight_rises_to_its_setting() -> None:
    method = method_of(Times(2.0), dimensions="2D", increase=4.0)

    class Loop:
        step, steps = 30, 40

        def update(self, group: str, batches: Any, loss: Any) -> dict[str, float]:
            return {
                name: float(part.detach()) for name, part in loss(batches[0])[1].items()
            }

    batch = {
        "source": torch.randn(1, 1, 4, 4),
        "choice": torch.randint(8, (1, 1, 2, 2)),
    }
    found = method.train_step(Loop(), [batch])
    assert found["loss"] == pytest.approx(
        found["guess"] + 4 * 0.75 * found["regularising"], rel=1e-5
    )


@pytest.mark.parametrize(
    ("values", "source", "choice"),
    [
        ({"dimensions": "2D"}, (1, 16, 16), (1, 8, 8)),
        ({"dimensions": "2.5D", "adjacent_slices": 3}, (3, 16, 16), (1, 8, 8)),
        ({"dimensions": "3D"}, (1, 16, 16, 16), (1, 16, 8, 8)),
        ({"dimensions": "3D", "cells": "volume"}, (1, 16, 16, 16), (1, 8, 8, 8)),
    ],
)
def test_drawn_arrays_fit_the_network(
    values: dict[str, Any], source: tuple[int, ...], choice: tuple[int, ...]
) -> None:
    config = Config.create(source=["a"], patch=16, layers=2, width=2, **values)
    Method.check(config)
    method = Method(config)
    data = np.random.default_rng(0).normal(size=(20, 24, 40))
    patches = Patches({"source": [Volume(data, "ZYX")]}, config)
    drawn = method.draw(patches, np.random.default_rng(3))
    assert drawn["source"].shape == source
    assert drawn["choice"].shape == choice
    method.modules = method.build()
    batch = {k: torch.from_numpy(np.stack([v, v])) for k, v in drawn.items()}
    total, _ = method.loss(batch)
    total.backward()
    assert torch.isfinite(total)


def test_cells_of_volumes_need_volumes() -> None:
    with pytest.raises(ConfigError, match="3D"):
        Method.check(Config.create(source=["a"], cells="volume"))
