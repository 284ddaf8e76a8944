from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_geosr.models import bundle
from napari_geosr.models.card import ModelCard

KWARGS = {"depth": 3, "width": 2, "adjacent_slices": 3, "dilations": [1, 2]}


def card_values(**changes: Any) -> dict[str, Any]:
    """A small valid card."""
    quantiles = [-1.5, -1.2, -0.7, 0.0, 0.7, 1.2, 1.5]
    spectrum = [1.0, 0.8, 0.5, 0.2, 0.0, -0.2, -0.4, -0.6, -0.8, -1.0, -1.2]
    values: dict[str, Any] = {
        "name": "tiny",
        "title": "A tiny model",
        "task": "denoise",
        "network": "msdnet",
        "network_kwargs": KWARGS,
        "axes": "YX",
        "adjacent_slices": 3,
        "halo": 4,
        "training": {
            "description": "nothing",
            "feature_radius": [2, 10],
            "noise": [0.1, 0.5],
            "blur": [0, 1],
            "intensity_quantiles": {"mean": quantiles, "sd": [0.1] * 7},
            "intensity_distance": [0.05, 0.2],
            "examples": [quantiles],
            "spectrum": {"mean": spectrum, "sd": [0.1] * 11},
            "spectrum_distance": [0.05, 0.2],
            "spectrum_examples": [spectrum],
        },
        "description": "For tests.",
        "intended_use": "Tests.",
        "not_for": "Anything else.",
        "licence": "BSD-3-Clause",
        "weights_sha256": "0" * 64,
        "n_parameters": 1,
    }
    return values | changes


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A complete bundle in a folder."""
    import torch

    from napari_geosr.networks import build_network

    torch.manual_seed(0)
    folder = tmp_path / "tiny"
    network = build_network("msdnet", **KWARGS)
    torch.nn.init.normal_(network.final_weight)
    bundle.save(folder, ModelCard.create(**card_values()), network)
    return folder
