"""Models of methods without a target are judged by what the method hides from them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.patches import Patches
from napari_geosr.operations.own_figures import own_figures, smoothing
from napari_geosr.operations.train_export import _figures

SIGMAS = (0.5, 1.0, 2.0)
DIMENSIONS = ["2D", "2.5D", "3D"]


def trained(name: str, dimensions: str, network: Any) -> tuple[Any, Patches]:
    """A training of a smooth object in noise whose network is `network`."""
    rng = np.random.default_rng(0)
    clean = gaussian_filter(rng.normal(size=(24, 48, 64)), 3)
    data = clean / clean.std() + rng.normal(0, 0.7, clean.shape)
    volumes = [Volume(data.astype(np.float32), "ZYX", name="scan")]
    config = config_class(name).create(
        source=["a"], dimensions=dimensions, patch=16, sampling="uniform"
    )
    method = METHODS.load(name).Method(config)
    method.modules = {"network": torch.nn.Identity()}
    roles = {"source": volumes} | ({"target": volumes} if name == "cyclegan" else {})
    patches = Patches(roles, config, paired=method.paired)
    return SimpleNamespace(method=method, average=network), patches


@pytest.mark.parametrize("name", ["noise2void", "neighbor2neighbor"])
@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_input_filter_and_model_are_compared(name: str, dimensions: str) -> None:
    ndim = 3 if dimensions == "3D" else 2
    trainer, patches = trained(name, dimensions, smoothing(1.0, ndim))
    before = trainer.method.modules
    rows = own_figures(trainer, patches, SIGMAS)
    assert trainer.method.modules is before
    assert _figures(trainer, patches)[0] == rows[0]  # what the card gets
    assert rows == own_figures(trainer, patches, SIGMAS)
    found = {row.method: row.psnr for row in rows}
    (best,) = found.keys() - {"input", "model"}
    assert list(found) == ["input", best, "model"]
    assert all("of the validation block" in row.test_set for row in rows)
    assert found["input"] + 1 < found["model"] <= found[best]
    exact, _ = trained(name, dimensions, smoothing(float(best.split()[1]), ndim))
    assert own_figures(exact, patches, SIGMAS)[2].psnr == found[best]


def test_what_a_cycle_changes_is_no_figure() -> None:
    assert own_figures(*trained("cyclegan", "2D", smoothing(1.0, 2)), SIGMAS) == ()
