from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from napari_geosr.core.errors import ConfigError
from napari_geosr.networks import build_network
from napari_geosr.networks.msdnet import MSDNet, NetworkConfig

CASES: list[dict[str, Any]] = [
    {"depth": 12, "dilations": (1, 2, 3)},
    {"depth": 9, "width": 3, "adjacent_slices": 3, "dilations": (1, 2, 4, 8)},
    {"depth": 21, "dilations": tuple(range(1, 11))},
    {"depth": 5, "ndim": 3, "width": 2, "dilations": (1, 2)},
]


def concatenated(network: MSDNet, x: torch.Tensor) -> torch.Tensor:
    """The network as defined in the paper: concatenate, convolve, rectify."""
    three = network.config.ndim == 3
    convolve = functional.conv3d if three else functional.conv2d
    maps = x
    layers = zip(network.weights, network.biases, network.dilations, strict=True)
    for weight, bias, d in layers:
        new = convolve(maps, weight, bias, padding=d, dilation=d)
        maps = torch.cat([maps, functional.relu(new)], dim=1)
    final = network.final_weight.view(1, -1, *[1] * network.config.ndim)
    out = convolve(maps, final, network.final_bias)
    if network.config.residual:
        centre = network.config.adjacent_slices // 2
        out = out + x[:, centre : centre + 1]
    return out


def _network(kwargs: dict[str, Any], dtype: torch.dtype) -> tuple[MSDNet, torch.Tensor]:
    torch.manual_seed(0)
    network = build_network("msdnet", **kwargs).to(dtype)
    with torch.no_grad():
        network.final_weight.normal_(0, 0.3)
        for bias in network.biases:
            bias.normal_(0, 0.1)
    # These intentionally include sizes below the largest dilations.
    size = (6, 19, 14) if network.config.ndim == 3 else (19, 14)
    x = torch.randn(2, network.config.adjacent_slices, *size, dtype=dtype)
    return network, x


@pytest.mark.parametrize("kwargs", CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 3e-6)]
)
def test_fast_forms_equal_the_paper(kwargs, dtype, tolerance) -> None:
    network, x = _network(kwargs, dtype)
    expected = concatenated(network, x).detach()
    with torch.no_grad():
        inferred = network(x)
    scale = expected.abs().max()
    assert (inferred - expected).abs().max() <= tolerance * scale
    assert (network(x).detach() - expected).abs().max() <= tolerance * scale


@pytest.mark.parametrize("strip", [1, 40, 10**9])
def test_strips_do_not_show(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_geosr.networks.layers import dense

    monkeypatch.setattr(dense, "STRIP_VALUES", strip)
    for kwargs in CASES:
        network, x = _network(kwargs, torch.float64)
        with torch.no_grad():
            assert (network(x) - concatenated(network, x)).abs().max() < 1e-12


@pytest.mark.parametrize("kwargs", CASES)
def test_gradients_equal_the_paper(kwargs: dict[str, Any]) -> None:
    network, x = _network(kwargs, torch.float64)
    x.requires_grad_(True)
    inputs = [x, *network.parameters()]
    ours = torch.autograd.grad(network(x).pow(2).sum(), inputs)
    theirs = torch.autograd.grad(concatenated(network, x).pow(2).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_gradcheck() -> None:
    torch.manual_seed(0)
    network = build_network("msdnet", depth=4, width=2, dilations=(1, 2)).double()
    torch.nn.init.normal_(network.final_weight)
    x = torch.randn(1, 1, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (x,), fast_mode=True)


def test_gradients_without_input_gradient_and_twice() -> None:
    network, x = _network(CASES[0], torch.float64)
    first = torch.autograd.grad(network(x).sum(), network.weights[0])[0]
    second = torch.autograd.grad(network(x).sum(), network.weights[0])[0]
    assert torch.equal(first, second)


def test_reduced_precision_training_stays_close() -> None:
    network, x = _network(CASES[1], torch.float32)
    exact = network(x).detach()
    network.training_dtype = torch.bfloat16
    reduced = network(x)
    assert reduced.dtype == torch.float32
    assert (reduced.detach() - exact).abs().max() < 0.1 * exact.std()
    reduced.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_training_keeps_one_buffer() -> None:
    """The memory of autograd grows with the depth, not with its square."""

    def kept(depth: int) -> int:
        network = build_network("msdnet", depth=depth, dilations=(1, 2))
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = network(torch.randn(1, 1, 64, 64))
            assert y.requires_grad
        return sum(sizes.values())

    plane = 64 * 64 * 4
    assert kept(40) < 1.2 * 41 * plane + 40 * 40 * 9 * 4


def test_a_fresh_network_returns_its_input() -> None:
    x = torch.randn(1, 3, 9, 9)
    network = build_network("msdnet", adjacent_slices=3, depth=3)
    with torch.no_grad():
        torch.testing.assert_close(network(x), x[:, 1:2])


def test_it_learns() -> None:
    """Noisy discs: the error falls far below that of the input in a hundred steps."""
    torch.manual_seed(0)
    network = build_network("msdnet", depth=8, dilations=(1, 2, 4), width=2)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(100):
        centre, r = 32 * torch.rand(4, 2, 1, 1), 4 + 6 * torch.rand(4, 1, 1)
        clean = (((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2).sqrt() < r).float()
        noisy = clean + 0.5 * torch.randn_like(clean)
        loss = (network(noisy[:, None])[:, 0] - clean).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) / 10 < 0.25 / 4


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"adjacent_slices": 4}, "odd"),
        ({"ndim": 3, "adjacent_slices": 3}, "not use adjacent"),
        ({"dilations": (1, 0)}, "dilation"),
        ({"depth": 0}, "depth"),
        ({"colour": 1}, "colour"),
    ],
)
def test_bad_settings_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network("msdnet", **kwargs)


def test_known_parameter_counts() -> None:
    from napari_geosr.networks.msdnet import parameter_count

    for depth, slices, ndim, n in (
        (30, 5, 2, 5331),
        (50, 1, 2, 11577),
        (50, 1, 3, 34527),
        (100, 1, 2, 45652),
        (100, 5, 2, 49256),
    ):
        config = NetworkConfig(depth=depth, adjacent_slices=slices, ndim=ndim)
        assert parameter_count(config) == n
