"""What a trained model's card says of its quality, and against what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from torch import nn

from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.patches import Patches
from napari_geosr.networks.spec import NetworkSpec
from napari_geosr.operations.train_export import _figures

NOISY = {"noise2noise", "noise2inverse"}


class Nearest(nn.Module):
    """Each voxel `factor` times along every axis."""

    def __init__(self, factor: int, ndim: int) -> None:
        super().__init__()
        self.factor, self.ndim = factor, ndim
        axes = "YX" if ndim == 2 else "ZYX"
        self.spec = NetworkSpec(axes, (0,) * ndim, (1,) * ndim, (factor,) * ndim)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis in range(-self.ndim, 0):
            x = x.repeat_interleave(self.factor, axis)
        return x * self.weight


def figures(source: Any, target: Any, factor: int, ndim: int, noisy: bool) -> Any:
    config = config_class("supervised").create(
        source=["a"], target=["b"], dimensions=f"{ndim}D", patch=8, sampling="uniform"
    )
    volumes = {
        "source": [Volume(source, "ZYX", name="low")],
        "target": [Volume(target, "ZYX", name="high")],
    }
    patches = Patches(volumes, config, factors={"target": factor})
    method = SimpleNamespace(upscale_factor=factor, noisy_target=noisy)
    trainer = SimpleNamespace(method=method, average=Nearest(factor, ndim).eval())
    return _figures(trainer, patches), patches  # type: ignore[arg-type]


@pytest.mark.parametrize("name", METHODS.names())
def test_methods_say_whether_their_target_is_noisy(name: str) -> None:
    assert METHODS.load(name).Method.noisy_target is (name in NOISY)


@pytest.mark.parametrize("noisy", [True, False])
def test_a_noisy_target_is_called_so(rng: np.random.Generator, noisy: bool) -> None:
    data = rng.normal(size=(16, 24, 32))
    rows, _ = figures(data, data + rng.normal(0, 0.1, data.shape), 1, 2, noisy)
    assert {"input", "model"} <= {row.method for row in rows}
    assert all(("noisy target" in row.test_set) is noisy for row in rows)


@pytest.mark.parametrize("ndim", [2, 3])
def test_finer_voxels_are_compared_with_a_cubic_enlargement(
    rng: np.random.Generator, ndim: int
) -> None:
    """On a smooth object it is better than a network that repeats voxels."""
    axes = np.meshgrid(*(np.arange(n) / 9 for n in (32, 48, 64)), indexing="ij")
    fine = np.sin(axes[0]) + np.sin(axes[1] + 1) + np.sin(axes[2])
    if ndim == 2:
        fine = fine[::2]
        low = fine.reshape(16, 24, 2, 32, 2).mean((2, 4))
    else:
        low = fine.reshape(16, 2, 24, 2, 32, 2).mean((1, 3, 5))
    rows, patches = figures(low, fine, 2, ndim, noisy=False)
    assert [row.method for row in rows] == ["input", "model"]
    assert "cubic" in rows[0].test_set
    found = {row.method: row.psnr for row in rows}
    assert found["input"] > found["model"] + 3
    # By hand: the block kept apart, of both.
    part = patches.scenes[0].split.validation
    assert patches.scenes[0].split.axis == 2
    given = patches.grey["source"].standardise(low[..., slice(*part)])
    truth = fine[..., 2 * part[0] : 2 * part[1]]
    truth = patches.grey["target"].standardise(truth)
    factors = (1, 2, 2) if ndim == 2 else (2, 2, 2)
    cubic = zoom(given, factors, order=3, grid_mode=True, mode="nearest")
    span = np.ptp(np.percentile(truth, (1, 99)))
    expected = 10 * np.log10(span**2 / np.mean((cubic - truth) ** 2))
    assert found["input"] == pytest.approx(expected, abs=0.01)
