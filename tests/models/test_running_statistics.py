"""Networks with batch norms are trained in batches, and then equal for every tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from napari_geosr.core.steps import run_to_end
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.models import bundle
from napari_geosr.models.card import ModelCard
from napari_geosr.networks import build_network

from .conftest import card_values

KWARGS = {"levels": 1, "features": 4, "residual": False, "batch_norm": True}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A bundle whose running statistics differ greatly from the initial ones."""
    torch.manual_seed(0)
    network = build_network("unet", **KWARGS)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(20):
        x = 2 + 3 * torch.randn(4, 1, 16, 16)
        optimiser.zero_grad()
        (network(x) - x).square().mean().backward()
        optimiser.step()
    values = {
        "network": "unet",
        "network_kwargs": KWARGS,
        "adjacent_slices": 1,
        "halo": max(network.spec.halo),
    }
    card = ModelCard.from_values(card_values(**values))
    bundle.save(tmp_path / "m", card, network)
    return tmp_path / "m"


def test_statistics_are_kept_and_are_no_parameters(trained: Path) -> None:
    card = bundle.verify(trained)
    network = bundle.load(trained).network()
    assert card.n_parameters == sum(p.numel() for p in network.parameters())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 6
    assert all(not torch.equal(m.running_var, torch.ones(4)) for m in norms[:2])


def test_the_header_alone_tells_the_count(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "check", lambda _: pytest.fail("it was built"))
    bundle.check_weights(bundle.load(trained))


def test_tiles_give_the_numbers_of_the_whole(trained: Path) -> None:
    network = bundle.load(trained).network()
    rng = np.random.default_rng(0)
    volume = rng.normal(2, 3, (2, 60, 70)).astype(np.float32)
    with torch.no_grad():
        whole = network(torch.from_numpy(volume)[:, None])[:, 0].numpy()
    target = np.empty_like(volume)
    run_to_end(
        restore_tiles(
            network,
            volume,
            target,
            statistics=IntensityStatistics(0.0, 1.0, -10.0, 10.0, volume.size),
            budget=10**9,
            tile=(24, 24),
        )
    )
    np.testing.assert_allclose(target, whole, atol=1e-5)
