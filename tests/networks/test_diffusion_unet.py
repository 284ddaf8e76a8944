"""The U-Net of diffusion models: its time, its size and its conditioning."""

from __future__ import annotations

import pytest
import torch

from napari_geosr.inference.receptive_field import probe
from napari_geosr.networks import build_network
from napari_geosr.networks.diffusion_unet import NetworkConfig, parameter_count


def test_light_by_default() -> None:
    assert parameter_count(NetworkConfig()) == pytest.approx(4e5, rel=0.1)


def test_the_time_is_seen_and_is_fixed_without_one() -> None:
    torch.manual_seed(0)
    network = build_network("diffusion_unet", features=8, fixed_time=5).eval()
    x = torch.randn(2, 1, 8, 12)
    with torch.no_grad():
        both = network.output(x, torch.tensor([5, 900]))
        torch.testing.assert_close(network(x)[0], both[0])
        assert float((network(x)[1] - both[1]).abs().max()) > 1e-4


def test_conditioning_channels_are_read() -> None:
    torch.manual_seed(0)
    network = build_network("diffusion_unet", features=8, extra_channels=2).eval()
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    network(x).square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


def test_statistics_of_the_whole_image_are_declared() -> None:
    network = build_network("diffusion_unet", features=8, levels=1)
    assert not network.spec.local
    assert not probe(network, longest=64).local


def test_scores_in_training_and_labels_after_it() -> None:
    torch.manual_seed(0)
    network = build_network("diffusion_unet", features=8, out_channels=3)
    x = torch.randn(2, 1, 8, 8)
    scores = network.train()(x)
    assert scores.shape == (2, 3, 8, 8)
    labels = network.eval()(x)
    assert torch.equal(labels[:, 0].long(), scores.argmax(1))


def test_a_last_layer_that_sees_all_levels() -> None:
    torch.manual_seed(0)
    network = build_network(
        "diffusion_unet", features=8, levels=2, out_channels=3, decoder_head=16
    )
    config = network.config
    assert parameter_count(config) == sum(p.numel() for p in network.parameters())
    scores = network.train()(torch.randn(1, 1, 13, 10))
    assert scores.shape == (1, 3, 13, 10)
    scores.square().sum().backward()
    for mix in network.head.mix:
        assert float(mix.weight.grad.abs().max()) > 0
