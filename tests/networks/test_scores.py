"""Networks for labels: scores in training, the most likely label afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import run_to_end
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.receptive_field import check_spec, probe
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.networks import NETWORKS, build_network
from napari_geosr.networks.layers.scores import most_likely_label

CASES: list[tuple[str, dict[str, Any]]] = [
    ("msdnet", {"depth": 3, "width": 2, "dilations": (1, 2), "adjacent_slices": 3}),
    ("msdnet", {"depth": 3, "dilations": (1, 2), "ndim": 3}),
    ("unet", {"levels": 1, "features": 3}),
    ("unet", {"levels": 1, "features": 2, "ndim": 3}),
]
every = pytest.mark.parametrize(("name", "kwargs"), CASES)


def made(name: str, kwargs: dict[str, Any], labels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    network = build_network(name, **kwargs, residual=False, out_channels=labels)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
    return network


@every
def test_scores_while_trained_and_labels_after(
    name: str, kwargs: dict[str, Any]
) -> None:
    network = made(name, kwargs)
    n, channels = kwargs.get("ndim", 2), kwargs.get("adjacent_slices", 1)
    x = torch.randn(2, channels, *(8,) * n)
    scores = network.train()(x)
    assert scores.shape == (2, 3, *(8,) * n)
    scores.square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    with torch.no_grad():
        torch.testing.assert_close(network(x), scores.detach())
        labels = network.eval()(x)
    assert labels.shape == (2, 1, *(8,) * n)
    assert labels.dtype == torch.float32
    assert torch.equal(labels[:, 0].long(), scores.argmax(1))
    assert len(labels.unique()) == 3


@pytest.mark.parametrize(("name", "kwargs"), CASES[:3])
def test_the_halo_is_that_of_the_scores(name: str, kwargs: dict[str, Any]) -> None:
    network = made(name, kwargs).eval()
    plain = build_network(name, **kwargs, residual=False).eval()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(0, 0.3)
    assert check_spec(network).halo == probe(plain).halo


@every
def test_tiles_give_the_labels_of_the_whole(name: str, kwargs: dict[str, Any]) -> None:
    network = made(name, kwargs).eval()
    source = np.random.default_rng(0).normal(size=(6, 40, 36)).astype(np.float32)

    def restored(tile: tuple[int, ...]) -> np.ndarray[Any, Any]:
        target = np.full(source.shape, 9, np.uint8)
        steps = restore_tiles(
            network,
            source,
            target,
            statistics=IntensityStatistics(0.0, 1.0, -5.0, 5.0, source.size),
            budget=2**30,
            tile=tile,
        )
        run_to_end(steps)
        return target

    whole = restored(source.shape)
    assert set(np.unique(whole)) == {0, 1, 2}
    np.testing.assert_array_equal(restored((2, 16, 12)), whole)


@every
@pytest.mark.parametrize("labels", [1, 4])
def test_parameters_are_counted(name: str, kwargs: dict[str, Any], labels: int) -> None:
    module = NETWORKS.load(name)
    settings = kwargs | {"residual": False, "out_channels": labels}
    config = module.NetworkConfig(**settings)
    n = sum(p.numel() for p in module.build(config).parameters())
    assert module.parameter_count(config) == n


def test_no_number_is_no_label() -> None:
    scores = torch.tensor([[[0.0, 2.0, 1.0, torch.nan], [1.0, 0.0, 1.0, 3.0]]])
    found = most_likely_label(scores)[0, 0]
    assert found[:3].tolist() == [1, 0, 0]
    assert found[3].isnan()


@pytest.mark.parametrize("name", ["msdnet", "unet"])
def test_the_input_is_not_added_to_scores(name: str) -> None:
    with pytest.raises(ConfigError, match="residual"):
        build_network(name, out_channels=2, residual=True)
