"""Branches match their definition, and are merged into one convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from napari_geosr.networks import build_network
from napari_geosr.networks.rep_sr import BranchedLayer, edge_filters

SETTINGS = [
    {"ndim": 2, "upscale_factor": 2},
    {"ndim": 2, "upscale_factor": 8, "adjacent_slices": 3},
    {"ndim": 3, "upscale_factor": 4},
]


def trained(**settings: int) -> nn.Module:
    """A network in which all branches contribute."""
    torch.manual_seed(0)
    network = build_network("rep_sr", features=4, blocks=3, **settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def branch_by_branch(layer: BranchedLayer, x: torch.Tensor) -> torch.Tensor:
    """The sum of all branches, each computed separately, as in the papers."""
    n = layer.ndim
    conv = functional.conv3d if n == 3 else functional.conv2d
    one = (..., *(None,) * n)
    total = conv(x, layer.weight, layer.bias, padding=1)
    total = total + conv(x, layer.point[one])
    total = total + conv(conv(x, layer.expand[one]), layer.contract, padding=1)
    for weight, mask in zip(layer.edges, layer.filters, strict=True):
        maps_out = weight.shape[0]
        depthwise = mask.expand(maps_out, 1, *mask.shape)
        total = total + conv(
            conv(x, weight[one]), depthwise, padding=1, groups=maps_out
        )
    return total + x if layer.adds_input else total


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("adds_input", [False, True])
def test_a_layer_is_the_sum_of_its_branches(ndim: int, adds_input: bool) -> None:
    torch.manual_seed(0)
    layer = BranchedLayer(ndim, 3, 3 if adds_input else 5, adds_input=adds_input)
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    x = torch.randn(2, 3, *(4, 5, 6)[:ndim], dtype=torch.float64)
    expected = branch_by_branch(layer, x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    plain = layer.merged()
    assert isinstance(plain, nn.Conv3d if ndim == 3 else nn.Conv2d)
    torch.testing.assert_close(plain(x), expected, rtol=1e-12, atol=1e-12)
    # Including border voxels, which were not tested above.
    ours = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    theirs = torch.autograd.grad(expected.square().sum(), list(layer.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("ndim", [2, 3])
def test_edge_filters_see_ramps_and_bumps(ndim: int) -> None:
    filters = edge_filters(ndim)
    grids = torch.meshgrid(*[torch.arange(-1.0, 2)] * ndim, indexing="ij")
    for axis, grid in enumerate(grids):
        slopes = [float((f * grid).sum()) for f in filters]
        assert slopes == pytest.approx([float(axis == i) for i in range(ndim)] + [0])
    bump = sum(g**2 for g in grids)
    assert isinstance(bump, torch.Tensor)
    assert float((filters[-1] * bump).sum()) == pytest.approx(1)
    assert filters.flatten(1).sum(1).abs().max() < 1e-12


@pytest.mark.parametrize("settings", SETTINGS)
def test_merged_is_the_same_network(settings: dict[str, int]) -> None:
    network = trained(**settings)
    merged = network.merged()
    x = torch.randn(2, network.spec.adjacent_slices, *(9, 8, 7)[: settings["ndim"]])
    with torch.no_grad():
        y = network(x)
        assert (merged(x) - y).abs().max() <= 1e-5 * y.abs().max()
    assert merged.config.merged
    assert merged.spec == network.spec
    assert merged.training == network.training
    assert merged.merged() is merged
    kinds = {type(m) for m in merged.modules() if any(True for _ in m.parameters())}
    assert BranchedLayer not in kinds
    fewer = sum(p.numel() for p in merged.parameters())
    assert 2 * fewer < sum(p.numel() for p in network.parameters())
    again = build_network("rep_sr", **merged.config.model_dump())
    again.load_state_dict(merged.state_dict())
    with torch.no_grad():
        assert torch.equal(again(x), merged(x))


def test_merging_is_as_exact_under_autocast() -> None:
    """Weights are merged in full precision, and then rounded."""
    network = trained(ndim=2, upscale_factor=2)
    x = torch.randn(1, 1, 9, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y, merged = network(x), network.merged()(x)
    assert (merged - y).abs().max() <= 1e-5 * y.abs().max()


def test_only_a_merged_one_has_something_to_say() -> None:
    network = trained(ndim=2, upscale_factor=2)
    assert network.remark == ""
    assert "without branches" in network.merged().remark
