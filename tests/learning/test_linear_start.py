"""The last layer of a new network is fitted to the first samples."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.learning.training import linear_start
from napari_geosr.networks import build_network


def batches(draw: Any, **method: Any) -> Any:
    """The samples that `begin` needs: `draw` makes them from a generator."""
    settings = {"fits_last_layer": True, "labels": 1, **method}
    return SimpleNamespace(
        patches=None,
        method=SimpleNamespace(
            draw=lambda _, rng: draw(rng), config=SimpleNamespace(seed=0), **settings
        ),
        on_device=lambda samples: {
            name: torch.from_numpy(np.stack([s[name] for s in samples]))
            for name in samples[0]
        },
    )


def two_scans(noise: float) -> Any:
    """Grey values of variance 1, independent along Z, with two noise realisations."""

    def draw(rng: np.random.Generator) -> dict[str, Any]:
        clean = rng.normal(0, 1, (3, 32, 32)) + 0.5
        first, second = clean + noise * rng.normal(0, 1, (2, *clean.shape))
        return {
            "source": first.astype(np.float32),
            "target": second[1:2].astype(np.float32),
        }

    return draw


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("noise", [0.1, 2.0])
def test_it_is_the_wiener_filter_of_the_noise(residual: bool, noise: float) -> None:
    """For independent voxels, the best linear estimate is x / (1 + σ²) with a bias."""
    torch.manual_seed(0)
    network = build_network(
        "msdnet", adjacent_slices=3, depth=4, width=2, residual=residual
    )
    drawn = batches(two_scans(noise))
    assert linear_start.fit_last_layer(network, drawn, ndim=2)
    x = torch.from_numpy(two_scans(noise)(np.random.default_rng(9))["source"])[None]
    with torch.no_grad():
        found = network(x)[0, 0]
    wiener = 0.5 + (x[0, 1] - 0.5) / (1 + noise**2)
    # Features of one layer add no information here; they reduce the certainty slightly.
    assert (found - wiener).square().mean() < 0.01 * wiener.var()


def test_voxels_that_are_not_masked_do_not_count() -> None:
    def draw(rng: np.random.Generator) -> dict[str, Any]:
        source = rng.normal(0, 1, (1, 24, 24)).astype(np.float32)
        mask = (rng.random(source.shape) < 0.2).astype(np.float32)
        return {
            "source": source,
            "target": np.where(mask > 0, 2 * source + 3, -source),
            "mask": mask,
        }

    torch.manual_seed(0)
    network = build_network("msdnet", depth=2)
    assert linear_start.fit_last_layer(network, batches(draw), ndim=2)
    x = torch.randn(1, 1, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(network(x), 2 * x + 3, rtol=0.02, atol=0.05)


@pytest.mark.parametrize(
    "case", ["other ends", "other methods", "labels", "odd values", "nothing there"]
)
def test_where_it_cannot_be_fitted_weights_stay(case: str) -> None:
    draw = two_scans(0.1)
    name, kwargs, method = "msdnet", {"adjacent_slices": 3, "depth": 2}, {}
    if case == "other ends":
        name, kwargs = "unet", {"adjacent_slices": 3, "features": 4}
    elif case == "other methods":
        method = {"fits_last_layer": False}
    elif case == "labels":
        method = {"labels": 3}
    elif case == "odd values":

        def draw(rng: np.random.Generator) -> dict[str, Any]:
            return {n: np.full_like(a, np.nan) for n, a in two_scans(1)(rng).items()}

    network = build_network(name, **kwargs)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    if case == "nothing there":  # a blank scan has one solution: nothing

        def draw(rng: np.random.Generator) -> dict[str, Any]:
            return {n: np.zeros_like(a) for n, a in two_scans(1)(rng).items()}

        assert linear_start.fit_last_layer(network, batches(draw), ndim=2)
        with torch.no_grad():
            assert not network(torch.randn(1, 3, 8, 8)).abs().max() > 1e-6
        return
    assert not linear_start.fit_last_layer(network, batches(draw, **method), ndim=2)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


@pytest.mark.parametrize("method", ["supervised", "noise2noise"])
def test_a_training_begins_with_less_than_the_noise(
    method: str, noisy_pair: Any, build_trainer: Any
) -> None:
    """Before the first step, the model is a filter, and so is the average."""
    target = noisy_pair.second if method == "noise2noise" else noisy_pair.truth
    trainer = build_trainer(method, target=[target])
    fresh, average = trainer.method.modules["network"], trainer.average
    for a, b in zip(fresh.parameters(), average.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    batch = trainer.batches.on_device(trainer.batches.draw(0))
    with torch.no_grad():
        found = trainer.method.output(batch)
    middle = batch["source"].shape[1] // 2
    untouched = batch["source"][:, middle : middle + 1]
    error = (found - batch["target"]).square().mean()
    assert error < 0.8 * (untouched - batch["target"]).square().mean()
