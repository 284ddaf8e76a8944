"""The porosity as an input of the U-Net of diffusion models."""

from __future__ import annotations

import math

import torch

from napari_geosr.networks import build_network


def test_the_porosity_is_an_input() -> None:
    torch.manual_seed(0)
    network = build_network(
        "diffusion_unet", features=8, levels=1, condition="porosity"
    ).eval()
    x, time = torch.randn(1, 1, 8, 12).expand(4, -1, -1, -1), torch.tensor([700])
    with torch.no_grad():
        found = network.output(x, time, torch.tensor([0.2, 0.21, math.nan, 0.2]))
        unknown = network.output(x, time)
    torch.testing.assert_close(found[0], found[3])
    torch.testing.assert_close(found[2], unknown[0])
    for other in (1, 2):
        assert float((found[0] - found[other]).abs().max()) > 1e-4


def test_unknown_porosities_have_gradients() -> None:
    """All weights are trained in a batch without porosities as well."""
    network = build_network(
        "diffusion_unet", features=8, levels=1, condition="porosity"
    )
    x = torch.randn(2, 1, 8, 8)
    network.output(x, torch.tensor([3]), torch.full((2,), math.nan)).sum().backward()
    assert all(
        p.grad is not None and bool(p.grad.isfinite().all())
        for p in network.parameters()
    )
