"""The statistics of batch norms are those of images that the model will restore."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.running_statistics import frozen_statistics
from napari_geosr.networks import build_network

UNET: dict[str, Any] = {
    "dimensions": "2D",
    "network": "unet",
    "layers": 1,
    "width": 2,
}


def mean_seen(network: torch.nn.Module) -> torch.Tensor:
    """The running mean of the first norm."""
    return network.down[0][1].running_mean.clone()


def first_maps(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network.down[0][0](image).mean((0, 2, 3))


def test_left_alone_they_norm_by_the_batch_and_remember_nothing() -> None:
    network = build_network("unet", levels=1, features=2, batch_norm=True).train()
    x = 3 + torch.randn(2, 1, 8, 8, generator=torch.manual_seed(0))
    before = mean_seen(network)
    with torch.no_grad(), frozen_statistics(network):
        alone = network(x)
    assert torch.equal(mean_seen(network), before)
    with torch.no_grad():
        assert torch.equal(network(x), alone)
    assert not torch.equal(mean_seen(network), before)


def test_a_failure_in_there_leaves_them_as_they_were() -> None:
    network = build_network("unet", levels=1, features=2, batch_norm=True)
    momentum = network.down[0][1].momentum
    with pytest.raises(KeyError), frozen_statistics(network):
        raise KeyError
    assert network.down[0][1].momentum == momentum != 0


def method(name: str, **settings: Any) -> Any:
    files = {"source": ["a.tif"]}
    kind = METHODS.load(name).Method
    if "target" in kind.roles:
        files["target"] = ["b.tif"]
    made = kind(config_class(name).create(**files, **UNET, **settings))
    torch.manual_seed(0)
    made.modules = made.build()
    for module in made.modules.values():
        module.train()
    return made


def test_cyclegan_remembers_sources_alone() -> None:
    """After ten equal steps, the running mean approaches that of the sources."""
    made = method("cyclegan", critic_width=2)
    batch = {
        "source": 2 + torch.randn(2, 1, 16, 16),
        "target": 40 + torch.randn(2, 1, 16, 16),
    }
    network = made.modules["network"]
    for _ in range(60):
        with torch.no_grad():
            made.generator_loss(batch)
    found = mean_seen(network)
    torch.testing.assert_close(
        found, first_maps(network, batch["source"]), rtol=0.02, atol=0.02
    )


def test_neighbor2neighbor_remembers_whole_images() -> None:
    made = method("neighbor2neighbor")
    whole = torch.randn(2, 1, 16, 16)
    whole[..., ::2] += 6  # it matters which half of a cell is drawn
    batch = {"source": whole, "choice": torch.zeros(2, 1, 8, 8, dtype=torch.long)}
    network = made.modules["network"]
    for _ in range(60):
        with torch.no_grad():
            made.loss(batch)
    torch.testing.assert_close(
        mean_seen(network), first_maps(network, whole), rtol=0.02, atol=0.02
    )


def test_a_patch_too_small_for_norms_is_refused_in_plain_words() -> None:
    network = build_network("unet", levels=3, features=2, batch_norm=True).train()
    with pytest.raises(ConfigError, match=r"8 × 8 .* too small for batch norm"):
        network(torch.zeros(1, 1, 8, 8))
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 1, 8, 8)
    assert network.eval()(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)
