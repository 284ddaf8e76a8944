"""Integrated gradients along the path from a blurred scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .conftest import ask, linear_network, relu_network, request_at, scene_of


@pytest.mark.parametrize("feature", ["grey", "edge"])
def test_attributions_add_up_to_the_change(feature: str, scan: Any) -> None:
    scene = scene_of(relu_network(), scan(40, 40))
    region = (slice(0, 1), slice(18, 22), slice(18, 22))
    request = request_at(
        scene,
        18,
        18,
        region=region,
        mask=np.ones((1, 4, 4), bool),
        feature=feature,
        steps=96,
    )
    finding = ask("lam", request)
    assert finding.figures["completeness_error"] < 0.03
    assert finding.overlay is not None
    total = float(finding.overlay.values.sum())
    assert total == pytest.approx(finding.figures["attributed"], rel=1e-3)
    assert 0 < finding.figures["diffusion_index"] < 100


def test_of_a_linear_network_the_map_is_kernel_times_detail(scan: Any) -> None:
    from scipy import ndimage

    network = linear_network()
    request = request_at(scene_of(network, scan(40, 40)), 20, 20, steps=2)
    finding = ask("lam", request)
    network_input = request.window.network_input
    blurred = ndimage.gaussian_filter(network_input, (0, 4, 4), mode="nearest")
    kernel = network[0].weight.detach().numpy()[0]
    assert finding.overlay is not None
    std = request.scene.statistics.output_std
    np.testing.assert_allclose(
        finding.overlay.values, kernel * (network_input - blurred) * std, atol=1e-4
    )
    assert finding.figures["completeness_error"] < 1e-5


def test_too_few_steps_are_told(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_geosr.attribution.lam._MAX_ERROR", 1e-9)
    request = request_at(scene_of(relu_network(), scan(40, 40)), 20, 20, steps=2)
    assert "more steps" in ask("lam", request).notes[0]


def test_captum_integrates_to_the_same(scan: Any) -> None:
    """On a straight path, because captum has no blur path."""
    import captum.attr as captum
    import torch
    from scipy import ndimage

    network = relu_network()
    request = request_at(scene_of(network, scan(40, 40)), 20, 20, steps=256)
    finding = ask("lam", request)
    network_input = request.window.network_input
    blurred = ndimage.gaussian_filter(network_input, (0, 4, 4), mode="nearest")
    reference = captum.IntegratedGradients(lambda v: network(v)[:, 0, 4, 4])
    found = reference.attribute(
        torch.from_numpy(network_input)[None],
        torch.from_numpy(blurred)[None],
        n_steps=256,
    )[0].numpy()
    std = request.scene.statistics.output_std
    assert finding.overlay is not None
    ours = finding.overlay.values
    assert found.sum() * std == pytest.approx(ours.sum(), rel=0.05)
    assert np.corrcoef(found.ravel(), ours.ravel())[0, 1] > 0.8
