"""The filter: known kernels, Euler's identity, and networks that have no filter."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from napari_geosr.core.errors import ModelError

from .conftest import (
    ask,
    linear_network,
    relu_network,
    request_at,
    scene_of,
    with_spec,
)


def kernel_of(network: Any) -> np.ndarray:
    """Weights of a linear network as (Z, Y, X)."""
    weight = next(network.parameters()).detach().numpy()[0]
    found: np.ndarray = weight[0] if weight.ndim == 4 else weight
    return found


@pytest.mark.parametrize(
    ("ndim", "slices", "shape", "at"),
    [
        (2, 1, (30, 34), (12, 15)),
        (2, 5, (9, 30, 34), (4, 12, 15)),
        (3, 1, (12, 14, 16), (5, 6, 7)),
    ],
)
def test_a_linear_network_has_its_own_kernel(
    ndim: int, slices: int, shape: tuple[int, ...], at: tuple[int, ...], scan: Any
) -> None:
    network = linear_network(ndim, slices)
    finding = ask("filter", request_at(scene_of(network, scan(*shape)), *at))
    assert finding.overlay is not None
    np.testing.assert_allclose(finding.overlay.values, kernel_of(network), atol=1e-5)
    start = [part.start for part in finding.overlay.place]
    reach = [s // 2 for s in finding.overlay.values.shape]
    assert start[-len(at) :] == [
        i - r for i, r in zip(at, reach[-len(at) :], strict=True)
    ]
    assert finding.figures["kind"] == "exact"
    assert finding.figures["sum"] == pytest.approx(kernel_of(network).sum(), abs=1e-5)


def test_at_the_border_what_lies_outside_is_cut_off(scan: Any) -> None:
    network = linear_network()
    finding = ask("filter", request_at(scene_of(network, scan(30, 34)), 0, 33))
    assert finding.overlay is not None
    np.testing.assert_allclose(
        finding.overlay.values, kernel_of(network)[:, 2:, :3], atol=1e-5
    )


def test_fine_voxels_have_kernels_of_their_own(scan: Any) -> None:
    """In super-resolution, sub-voxels are channels of the last layer."""
    import torch
    from torch import nn

    torch.manual_seed(2)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2))
    network = with_spec(layers, 1, upscale_factor=(2, 2))
    scene = scene_of(network, scan(20, 24))
    weight = layers[0].weight.detach().numpy()[:, 0]
    for at in ((10, 12), (10, 13), (11, 12), (11, 13)):
        finding = ask("filter", request_at(scene, *at))
        assert finding.overlay is not None
        channel = 2 * (at[0] % 2) + at[1] % 2
        np.testing.assert_allclose(
            finding.overlay.values[0], weight[channel], atol=1e-5
        )
        assert finding.overlay.place[1:] == (slice(4, 7), slice(5, 8))


@pytest.mark.parametrize(("ndim", "shape"), [(2, (30, 34)), (3, (16, 18, 20))])
def test_networks_of_rectifiers_are_filter_and_bias(
    ndim: int, shape: tuple[int, ...], scan: Any
) -> None:
    array = scan(*shape)
    scene = scene_of(relu_network(ndim), array)
    request = request_at(scene, *(n // 2 for n in shape), noise=1.0)
    finding = ask("filter", request)
    figures = finding.figures
    assert figures["kind"] == "exact"
    assert figures["identity_error"] < 1e-4
    window = request.window
    assert figures["output"] == pytest.approx(window.grey(window.values()).item())
    overlay = finding.overlay
    assert overlay is not None
    own = array[tuple(overlay.place[-array.ndim :])]
    part = float((overlay.values.reshape(own.shape).astype(float) * own).sum())
    assert part == pytest.approx(figures["filter_times_input"], rel=1e-4)
    total = figures["filter_times_input"] + figures["net_bias"]
    assert total == pytest.approx(figures["output"], rel=1e-6)
    assert "exactly a linear filter" in finding.sentence
    assert finding.notes == ()


@pytest.mark.parametrize("activation", ["SiLU", "GELU", "Tanh"])
def test_smooth_networks_are_said_to_be_linearised(activation: str, scan: Any) -> None:
    from torch import nn

    network = relu_network(activation=getattr(nn, activation))
    request = request_at(scene_of(network, scan(30, 34)), 12, 15, noise=15.0)
    finding = ask("filter", request)
    assert finding.figures["kind"] == "linearisation"
    assert finding.figures["noise_linearity_error"] > 0
    assert "not piecewise linear" in finding.notes[0]
    assert "For small changes" in finding.sentence


def test_a_bound_by_the_noise_is_linearised(scan: Any) -> None:
    from napari_geosr.core.noise import Noise
    from napari_geosr.networks.wrappers.bound import NoiseBound

    network = NoiseBound(relu_network(), 4.0)
    network.set_noise(Noise(level=0.3, contrast=2.0))
    finding = ask("filter", request_at(scene_of(network, scan(30, 34)), 12, 15))
    assert finding.figures["kind"] == "linearisation"


class Median:
    """A network without derivatives, created once torch is imported."""

    def __new__(cls) -> Any:
        import torch
        from torch import nn

        class Network(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                with torch.no_grad():
                    return nn.functional.avg_pool2d(x, 3, 1, 1)

        return Network()


def test_without_derivatives_there_are_finite_differences(scan: Any) -> None:
    network = with_spec(Median(), 1)
    finding = ask("filter", request_at(scene_of(network, scan(20, 22)), 8, 9))
    assert finding.overlay is not None
    np.testing.assert_allclose(
        finding.overlay.values, np.full((1, 3, 3), 1 / 9), atol=1e-3
    )
    assert finding.figures["kind"] == "finite differences"


def test_too_many_finite_differences_are_refused(scan: Any) -> None:
    network = with_spec(Median(), 45)
    request = request_at(scene_of(network, scan(120, 122)), 60, 61)
    with pytest.raises(ModelError, match="no gradients.*occlusion"):
        ask("filter", request)


def test_a_restoration_in_another_thread_keeps_its_weights(scan: Any) -> None:
    network = relu_network()
    ask("filter", request_at(scene_of(network, scan(20, 22)), 8, 9))
    assert not any(p.requires_grad for p in network.parameters())


def test_the_width_is_that_of_the_kernel(scan: Any) -> None:
    import torch
    from torch import nn

    places = torch.arange(-8.0, 9.0)
    line = torch.exp(-0.5 * (places / 2.0) ** 2)
    network = nn.Conv2d(1, 1, 17, padding=8)
    with torch.no_grad():
        network.weight.copy_(line[:, None] * line / line.sum() ** 2)
    request = request_at(
        scene_of(with_spec(network, 8), scan(40, 40)),
        20,
        20,
        voxel_size=(1.0, 0.5, 3.0),
    )
    width = ask("filter", request).figures["width"]
    assert width["y"] == pytest.approx(2.355 * 2 * 0.5, rel=0.01)
    assert width["x"] == pytest.approx(2.355 * 2 * 3.0, rel=0.01)


def test_captum_finds_the_same(scan: Any) -> None:
    import captum.attr as captum
    import torch

    array = scan(30, 34)
    network = relu_network()
    scene = scene_of(network, array)
    request = request_at(scene, 12, 15)
    window = request.window
    x = torch.from_numpy(window.network_input)[None].requires_grad_(True)
    reference = captum.Saliency(lambda v: network(v)[:, 0, 4, 4]).attribute(
        x, abs=False
    )
    _, slope = request.mean_gradient()
    np.testing.assert_allclose(slope, reference[0].detach().numpy(), atol=1e-6)
    assert "captum" in sys.modules
