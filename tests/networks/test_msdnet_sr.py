"""The dense trunk of super-resolution is the MSD-net's, switches included."""

from __future__ import annotations

import torch

from napari_geosr.inference.compute import interruptible
from napari_geosr.networks import build_network

SMALL = {"depth": 4, "width": 3, "dilations": (1, 3)}


def test_the_trunk_is_the_msd_nets() -> None:
    torch.manual_seed(0)
    fine = build_network("msdnet_sr", ndim=2, features=1, adjacent_slices=3, **SMALL)
    plain = build_network("msdnet", ndim=2, adjacent_slices=3, residual=False, **SMALL)
    plain.load_state_dict(
        {
            **fine.dense.state_dict(),
            "final_weight": fine.mix_weight[0],
            "final_bias": fine.mix_bias,
        }
    )
    x = torch.randn(2, 3, 9, 11)
    with torch.no_grad():
        torch.testing.assert_close(fine.trunk(x), plain(x))


def test_reduced_precision_training_reaches_the_trunk() -> None:
    torch.manual_seed(0)
    network = build_network("msdnet_sr", ndim=2, **SMALL)
    x = torch.randn(1, 1, 12, 12)
    exact = network.trunk(x).detach()
    network.training_dtype = torch.bfloat16
    reduced = network.trunk(x)
    assert reduced.dtype == torch.float32
    assert 0 < (reduced.detach() - exact).abs().max() < 0.1 * exact.std()
    network(x).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_inference_can_be_ended_within_the_trunk() -> None:
    network = build_network("msdnet_sr", ndim=2, **SMALL).eval()
    asked: list[None] = []
    with torch.no_grad(), interruptible(network, lambda: asked.append(None)):
        network(torch.randn(1, 1, 8, 8))
    layers = sum(1 for m in network.modules() if not any(True for _ in m.children()))
    assert len(asked) > layers / 2
    assert network.dense.between_strips is not None
