"""Faithfulness of attributions: they show the voxels that the network uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.attribution import AttributionRequest

from .conftest import ask, relu_network, request_at, scene_of, statistics_of

#: Fractions of the window's voxels that are deleted or inserted.
SHARES = (0.0002, 0.0005, 0.001, 0.002, 0.005)


@pytest.fixture(scope="module")
def scan_of_blobs() -> np.ndarray:
    """Structure of a few voxels, and noise."""
    rng = np.random.default_rng(11)
    blobs = ndimage.gaussian_filter(rng.normal(size=(24, 96, 96)), 2.0)
    blobs = (blobs > 0).astype(np.float32)
    return (blobs + rng.normal(0, 0.15, blobs.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def bundled_request(scan_of_blobs: np.ndarray) -> AttributionRequest:
    """One voxel of the result of a bundled denoiser, without its bound."""
    from napari_geosr.models import zoo

    network = zoo.find("foam-denoise").network()
    scene = scene_of(network, scan_of_blobs, statistics_of(scan_of_blobs))
    return request_at(scene, 12, 48, 48, steps=24, blur=3.0)


def curve(
    request: AttributionRequest, order: np.ndarray, start: np.ndarray, end: np.ndarray
) -> float:
    """Mean change of the result as voxels change from `start` to `end` in order."""
    window = request.window
    before = float((window.values(start) * request.weights).sum())
    changes = []
    for share in SHARES:
        chosen = order[: int(share * order.size)]
        changed = start.copy().ravel()
        changed[chosen] = end.ravel()[chosen]
        value = float(
            (window.values(changed.reshape(start.shape)) * request.weights).sum()
        )
        changes.append(value - before)
    return float(np.mean(changes))


def faithfulness(request: AttributionRequest, seed: int) -> dict[str, np.ndarray]:
    """Deletion and insertion by ranking: changes in the direction of the feature.

    Voxels are deleted by blurring them, as the path begins with a blurred scan. For
    each map, the voxels are ranked by their signed contribution.
    """
    network_input = request.window.network_input
    blurred = ndimage.gaussian_filter(network_input, 3.0, mode="nearest")
    finding = ask("lam", request)
    assert finding.overlay is not None
    _, slope = request.mean_gradient()
    sign = np.sign(finding.figures["change"])
    rng = np.random.default_rng(seed)
    contributions = {
        "lam": finding.overlay.values,
        "gradient × detail": slope * (network_input - blurred),
        "random": rng.normal(size=network_input.shape),
    }
    changes = {}
    for name, values in contributions.items():
        order = np.argsort(-sign * values, axis=None)
        deleted = -sign * curve(request, order, network_input, blurred)
        inserted = sign * curve(request, order, blurred, network_input)
        changes[name] = np.array([deleted, inserted])
    return changes


def faithfulness_at(
    request: AttributionRequest, voxels: Sequence[tuple[int, int, int]], steps: int
) -> dict[str, np.ndarray]:
    """Deletion and insertion for each voxel, in fractions of the contrast of 1.

    Returns arrays of shape (voxels, 2).
    """
    found = []
    for seed, (z, y, x) in enumerate(voxels):
        region = (slice(z, z + 1), slice(y, y + 1), slice(x, x + 1))
        single = replace(request, region=region, steps=steps, memory={})
        found.append(faithfulness(single, seed))
    std = request.scene.statistics.output_std
    return {name: std * np.stack([each[name] for each in found]) for name in found[0]}


def voxels_of(n: int) -> list[tuple[int, int, int]]:
    """Voxels of the scan of blobs, drawn once, away from the border."""
    rng = np.random.default_rng(20)
    low, high = (8, 24, 24), (16, 72, 72)
    return [tuple(int(i) for i in rng.integers(low, high)) for _ in range(n)]


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(axis=0), values.std(axis=0, ddof=1) / len(values) ** 0.5


def test_deletion_and_insertion_go_faster_than_by_chance(
    bundled_request: AttributionRequest,
) -> None:
    found = faithfulness_at(bundled_request, voxels_of(2), steps=6)
    for values in found["lam"]:
        assert (values > 0.03).all()
    assert (found["lam"].mean(axis=0) > 10 * np.abs(found["random"]).max()).all()


@pytest.mark.slow
def test_local_attribution_is_as_faithful_as_documented(
    bundled_request: AttributionRequest,
) -> None:
    """The figures of docs/evidence/explanations.md."""
    found = faithfulness_at(bundled_request, voxels_of(24), steps=16)
    for name, values in found.items():
        mean, error = mean_and_error(values)
        print(name, "deletion, insertion:", mean.round(3), "±", error.round(3))
    beyond_chance, error = mean_and_error(found["lam"] - found["random"])
    assert (beyond_chance > 5 * error).all()


@pytest.mark.parametrize("method", ["filter", "lam"])
def test_attributions_depend_on_the_weights(
    method: str, bundled_request: AttributionRequest
) -> None:
    """Sanity check of Adebayo et al. (2018, arXiv:1810.03292): random weights.

    Maps that show edges of the scan regardless of what the network has learned would
    not change.
    """
    import copy

    import torch

    request = replace(bundled_request, steps=6)
    network = copy.deepcopy(request.scene.network)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(
                weight.flatten()[torch.randperm(weight.numel())].view_as(weight)
            )
    scene = replace(request.scene, network=network)
    learned = ask(method, request).overlay
    shuffled = ask(method, replace(request, scene=scene, memory={})).overlay
    assert learned is not None
    assert shuffled is not None
    own = np.abs(learned.values).ravel()
    other = np.abs(shuffled.values).ravel()
    assert abs(np.corrcoef(own, other)[0, 1]) < 0.5


def test_the_last_layer_alone_changes_the_map(scan: Any) -> None:
    """Layers are randomised from the last one on; each changes the filter further."""
    import torch

    array = scan(30, 34)
    network = relu_network()
    learned = ask("filter", request_at(scene_of(network, array), 12, 15)).overlay
    torch.manual_seed(9)
    torch.nn.init.normal_(network[4].weight, std=float(network[4].weight.std()))
    changed = ask("filter", request_at(scene_of(network, array), 12, 15)).overlay
    assert learned is not None
    assert changed is not None
    found = np.corrcoef(learned.values.ravel(), changed.values.ravel())[0, 1]
    assert abs(found) < 0.7
