"""Without pairs, a card states the distance between results and targets as a whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.gui.models.box import card_html
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.models import zoo
from napari_geosr.networks.spec import NetworkSpec
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.train import figures as judging
from napari_geosr.operations.train.figures.unpaired import (
    grey_level_distance,
    spectrum_distance,
)


class Filter(torch.nn.Module):
    """A Gaussian filter of the middle slice, with `factor` times as many voxels."""

    def __init__(self, sigma: float, planes: int = 1, factor: int = 1) -> None:
        super().__init__()
        self.sigma, self.factor = sigma, factor
        self.spec = NetworkSpec(
            "YX", (12, 12), (1, 1), (factor, factor), adjacent_slices=planes
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = x[:, x.shape[1] // 2][:, None].numpy()
        smooth = gaussian_filter(middle, (0, 0, self.sigma, self.sigma))
        for axis in (2, 3):
            smooth = smooth.repeat(self.factor, axis)
        return torch.from_numpy(smooth)


def objects(seed: int, noise: float, n: int = 2) -> list[Volume]:
    found = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        clean = gaussian_filter(rng.normal(size=(24, 64, 96)), 3)
        data = clean / clean.std() + rng.normal(0, noise, clean.shape)
        found.append(Volume(data.astype(np.float32), "ZYX", name=f"{seed}-{i}"))
    return found


def judged(network: Any, dimensions: str = "2D", factor: int = 1) -> Any:
    volumes = {"source": objects(1, 0.7), "target": objects(2, 0.0, n=3)}
    config = config_class("cyclegan").create(
        source=["a"], target=["b"], dimensions=dimensions, patch=16, threads=1
    )
    method = METHODS.load("cyclegan").Method(config)
    method.upscale_factor = factor
    patches = Patches(volumes, config, paired=False, factors={"target": factor})
    trainer: Any = SimpleNamespace(
        method=method,
        average=network.eval(),
        accelerator=SimpleNamespace(device="cpu"),
    )
    return run_to_end(judging.evaluate_model_steps(trainer, patches))


@pytest.mark.parametrize("dimensions", ["2D", "2.5D"])
def test_input_filter_and_model_are_compared(dimensions: str) -> None:
    planes = 5 if dimensions == "2.5D" else 1
    found = {row.method: row for row in judged(Filter(1.6, planes), dimensions)}
    (best,) = found.keys() - {"input", "model"}
    assert list(found) == ["input", best, "model"]
    for key in ("grey_level_distance", "spectrum_distance"):
        values = [getattr(row, key) for row in found.values()]
        assert values[2] < 0.8 * values[0]
        assert all(value > 0 for value in values)
    assert found[best].spectrum_distance <= found["input"].spectrum_distance
    assert found["model"].psnr is None
    assert found["model"].test_set == (
        "2 validation blocks of '1-0', … against 3 validation blocks of '2-0', … "
        "(unpaired)"
    )


def test_finer_voxels_have_no_filter_beside_them() -> None:
    rows = judged(Filter(0.0, factor=2), factor=2)
    assert [row.method for row in rows] == ["input", "model"]
    assert "cubic" in rows[0].test_set


def test_distances_by_hand(rng: np.random.Generator) -> None:
    one, other = rng.normal(size=(3, 40, 40)), rng.exponential(size=(4, 40, 40))
    found = grey_level_distance([one[:1], one[1:]], [other])
    assert found == pytest.approx(
        wasserstein_distance(one.ravel(), other.ravel()), rel=0.02
    )
    assert grey_level_distance([one], [one]) == 0
    assert spectrum_distance([one], [one], 32) == 0
    assert spectrum_distance([one], [3 * one + 1], 32) == pytest.approx(0, abs=1e-6)
    smooth = gaussian_filter(one, (0, 1, 1))
    assert spectrum_distance([one], [smooth], 32) > 0.3


def test_they_are_shown_wherever_figures_are() -> None:
    entry = next(e for e in zoo.list_models() if e.name == "foam-denoise")
    assert "spectrum" not in catalogue.card_text(entry.card)
    card = entry.card.model_copy(update={"figures": judged(Filter(1.6))})
    text, page = catalogue.card_text(card), card_html(card)
    value = f"{card.figures[0].grey_level_distance:.3f}"
    assert value in text
    assert {"greys", "spectrum"} <= set(text.split())
    assert "PSNR" not in text
    assert "Grey levels" in page
    assert "PSNR" not in page
