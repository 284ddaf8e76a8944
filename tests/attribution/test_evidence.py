"""Evidence: pores that the scan shows, and pores that a network invents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.attribution import AttributionRequest, evidence
from napari_geosr.core.errors import ConfigError, VolumeError

from .conftest import ask, relu_network, request_at, scene_of, with_spec

CELL, RADIUS, NOISE = 20, 3, 0.08


def hallucinating_network() -> Any:
    """Smooths, and draws a pore in the middle of a cell if its far corner is dark.

    Pores lie on a grid and appear at random, depending on the noise of a few voxels far
    from the pore.
    """
    import torch
    from torch import nn

    class Hallucinating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            places = torch.arange(CELL) - CELL // 2
            disc = (places[:, None] ** 2 + places**2 <= RADIUS**2).float()
            self.register_buffer("disc", disc)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            smooth = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            corners = x[..., ::CELL, ::CELL] - x[..., 1::CELL, ::CELL]
            has_pore = (corners > 0).to(x)
            drawn = torch.kron(has_pore, self.disc)
            return smooth * (1 - drawn) - 5.0 * drawn

    return with_spec(Hallucinating(), CELL, stride=(CELL, CELL))


def overfitted_network(array: np.ndarray, has_pore: np.ndarray, steps: int) -> Any:
    """A bundled super-resolution network, over-fitted to one scan of solid and noise.

    Its target has a pore in the middle of each coarse voxel of `has_pore`.
    """
    import torch

    from napari_geosr.networks import fsrcnn

    torch.manual_seed(0)
    factor = 8
    network = fsrcnn.build(fsrcnn.NetworkConfig(ndim=2, upscale_factor=factor))
    places = torch.arange(factor) - (factor - 1) / 2
    pore = (places[:, None] ** 2 + places**2 <= (factor / 3) ** 2).float()
    target = -10 * torch.kron(torch.from_numpy(has_pore).float(), pore)
    scan = torch.from_numpy((array - array.mean()) / array.std())
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        loss = (network(scan[None, None])[0, 0] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.02 * float(target.square().mean())
    return network.eval().requires_grad_(False)


def planted_scan() -> tuple[np.ndarray, np.ndarray]:
    """Solid (1) with real pores (0) between the cell centres, and noise."""
    rng = np.random.default_rng(4)
    solid = np.ones((10 * CELL, 10 * CELL))
    grid_y, grid_x = np.indices(solid.shape)
    real = np.zeros(solid.shape, bool)
    for y in range(CELL, 10 * CELL, 2 * CELL):
        for x in range(CELL, 10 * CELL, 2 * CELL):
            # Away from the centres, and from the corners that determine the pores.
            real |= (grid_y - y - 4) ** 2 + (grid_x - x + 5) ** 2 <= 9
    solid[real] = 0
    return (solid + rng.normal(0, NOISE, solid.shape)).astype(np.float32), real


def pores_of(scene: Any) -> Iterator[tuple[AttributionRequest, np.ndarray]]:
    """A request for every pore of the result, and its position."""
    shape = scene.result_shape
    window = scene.window(tuple(slice(0, n) for n in shape))
    greys = window.grey(window.values())
    labels, _ = ndimage.label(greys <= 0.5, np.ones((3, 3, 3)))
    for i, box in enumerate(ndimage.find_objects(labels), start=1):
        mask = labels[box] == i
        if mask.sum() >= 8:
            request = request_at(
                scene,
                0,
                0,
                region=box,
                mask=mask,
                threshold=0.5,
                noise=NOISE,
                draws=8,
            )
            yield request, labels == i


def test_pores_that_the_network_draws_by_itself_are_of_the_prior() -> None:
    array, real = planted_scan()
    scene = scene_of(hallucinating_network(), array)
    planted, shown = [], []
    for request, where in pores_of(scene):
        figures = ask("evidence", request).figures
        (shown if (where[0] & real).any() else planted).append(figures)
    assert len(planted) >= 30
    assert len(shown) >= 20
    prior = [f["verdict"] == "prior only" for f in planted]
    assert np.mean(prior) >= 0.95
    supported = [f["verdict"] == "well supported" for f in shown]
    assert np.mean(supported) >= 0.95
    assert min(f["support"] for f in shown) > 5 > max(f["support"] for f in planted)
    assert min(f["log_ratio"] for f in shown) > max(f["log_ratio"] for f in planted)


@pytest.mark.parametrize(
    ("share", "steps", "cells"),
    [
        # Pores are drawn everywhere, regardless of the noise.
        pytest.param(1.0, 200, 10, id="pattern", marks=pytest.mark.slow),
        # Pores are drawn at half of the positions, recognised by the noise of the
        # training scan. Part of that noise is in the replaced voxels, which removes
        # some pores.
        pytest.param(0.5, 600, 10, id="memorised"),
        pytest.param(0.5, 1200, 12, id="memorised longer", marks=pytest.mark.slow),
    ],
)
def test_pores_of_an_overfitted_network_are_of_the_prior(
    share: float, steps: int, cells: int
) -> None:
    """The rates are those of docs/evidence/explanations.md."""
    rng = np.random.default_rng(8)
    array = rng.normal(1, NOISE, (cells, cells)).astype(np.float32)
    has_pore = rng.random(array.shape) < share
    scene = scene_of(overfitted_network(array, has_pore, steps), array)
    requests = [request for request, _ in pores_of(scene)]
    assert 0.9 * has_pore.sum() <= len(requests) <= has_pore.sum()
    found = [ask("evidence", request).figures for request in requests]
    verdicts = [figures["verdict"] for figures in found]
    print({name: verdicts.count(name) for name in sorted(set(verdicts))})
    assert verdicts.count("prior only") >= 0.95 * len(found)
    assert "well supported" not in verdicts


def test_a_pore_that_the_scan_does_not_show_is_of_the_prior() -> None:
    """Without its input, the pore disappears, as it resulted from a noise pattern."""
    assert evidence._verdict(0.1, 1.0, 1.9, is_shown=False) == "prior only"
    assert evidence._verdict(0.1, 1.0, 2.1, is_shown=True) == "weak"
    text = evidence._sentence("prior only", 0.1, 1.0, 1.9, is_shown=False)
    assert "the contrast at its position is 1.9 times the noise" in text
    # If the network draws the pore anyway, this is reported.
    text = evidence._sentence("prior only", 0.9, 1.0, 1.9, is_shown=False)
    assert "90 % of the pore's contrast would remain" in text


def test_a_pore_that_the_noise_made_does_not_survive_noise() -> None:
    """One voxel is dark by chance, and the network turns it into a pore."""
    import torch
    from torch import nn

    class Sharpening(nn.Module):
        """Draws a pore of nine voxels around every voxel that is dark enough."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            dark = (x < -3.2).to(x)
            return -6.0 * nn.functional.max_pool2d(dark, 3, 1, 1)

    rng = np.random.default_rng(1)
    array = rng.normal(1.0, 0.1, (40, 40)).astype(np.float32)
    array[20, 20] = 1.0 - 3.35 * array.std()
    network = with_spec(Sharpening(), 1)
    scene = scene_of(network, array)
    request = request_at(
        scene,
        20,
        20,
        region=(slice(0, 1), slice(19, 22), slice(19, 22)),
        mask=np.ones((1, 3, 3), bool),
        threshold=0.8,
        noise=0.1,
        draws=32,
    )
    figures = ask("evidence", request).figures
    assert figures["remains"] < 0.5
    assert figures["survival"] < 0.75
    # The scan of a pore of nine voxels would not look like one dark voxel.
    assert figures["support"] < 2
    assert figures["verdict"] == "prior only"


def test_bright_pores_are_weighed_alike() -> None:
    array, real = planted_scan()
    import torch
    from torch import nn

    network = with_spec(nn.AvgPool2d(3, 1, 1, count_include_pad=False), 1)
    dark = scene_of(network, array)
    bright = scene_of(network, 1 - array)
    labels, _ = ndimage.label(real)
    box = ndimage.find_objects(labels)[4]
    region = (slice(0, 1), *box)
    mask = real[box][None]
    found = [
        ask(
            "evidence",
            request_at(
                scene,
                0,
                0,
                region=region,
                mask=mask,
                threshold=0.5,
                phase=phase,
                noise=NOISE,
            ),
        ).figures
        for scene, phase in ((dark, "dark"), (bright, "bright"))
    ]
    assert found[0]["verdict"] == found[1]["verdict"] == "well supported"
    assert found[0]["darkness"] == pytest.approx(found[1]["darkness"], rel=1e-3)
    assert torch.is_grad_enabled()


def test_evidence_needs_a_threshold_and_solid_next_to_the_pore(scan: Any) -> None:
    scene = scene_of(relu_network(), scan(40, 40))
    with pytest.raises(ConfigError, match="--threshold"):
        ask("evidence", request_at(scene, 20, 20))
    with pytest.raises(VolumeError, match="too little solid near the pore"):
        ask("evidence", request_at(scene, 20, 20, threshold=1e6, noise=1.0))
