"""Faithfulness of attributions: what they point at is what the network uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.attribution import AttributionRequest

from .conftest import ask, question_at, relu_network, scene_of, statistics_of

#: Shares of the window's voxels that are deleted or inserted.
SHARES = (0.0002, 0.0005, 0.001, 0.002, 0.005)


@pytest.fixture(scope="module")
def scan_of_blobs() -> np.ndarray:
    """Structure of a few voxels, and noise."""
    rng = np.random.default_rng(11)
    blobs = ndimage.gaussian_filter(rng.normal(size=(24, 96, 96)), 2.0)
    blobs = (blobs > 0).astype(np.float32)
    return (blobs + rng.normal(0, 0.15, blobs.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def bundled_question(scan_of_blobs: np.ndarray) -> AttributionRequest:
    """One voxel of what a bundled denoiser makes of it, without its bound."""
    from napari_geosr.models import zoo

    network = zoo.find("foam-denoise").network()
    scene = scene_of(network, scan_of_blobs, statistics_of(scan_of_blobs))
    return question_at(scene, 12, 48, 48, steps=24, blur=3.0)


def curve(
    question: AttributionRequest, order: np.ndarray, start: np.ndarray, end: np.ndarray
) -> float:
    """Mean change of the result while voxels go from `start` to `end` in that order."""
    window = question.window
    before = float((window.values(start) * question.weights).sum())
    changes = []
    for share in SHARES:
        chosen = order[: int(share * order.size)]
        changed = start.copy().ravel()
        changed[chosen] = end.ravel()[chosen]
        value = float(
            (window.values(changed.reshape(start.shape)) * question.weights).sum()
        )
        changes.append(value - before)
    return float(np.mean(changes))


def ranked(values: np.ndarray) -> np.ndarray:
    return np.argsort(-np.abs(values), axis=None)


def test_deletion_and_insertion_go_faster_than_by_chance_and_by_gradient(
    bundled_question: AttributionRequest,
) -> None:
    """Voxels are deleted by blurring them, as the path begins with a blurred scan."""
    question = bundled_question
    network_input = question.window.network_input
    blurred = ndimage.gaussian_filter(network_input, 3.0, mode="nearest")
    finding = ask("lam", question)
    assert finding.overlay is not None
    _, slope = question.mean_gradient()
    rng = np.random.default_rng(0)
    orders = {
        # What raises the value, before what lowers it.
        "lam": np.argsort(
            -finding.overlay.values * np.sign(finding.figures["change"]), axis=None
        ),
        "gradient": ranked(slope),
        "random": rng.permutation(network_input.size),
    }
    sign = np.sign(finding.figures["change"])
    deletion = {
        name: -sign * curve(question, order, network_input, blurred)
        for name, order in orders.items()
    }
    insertion = {
        name: sign * curve(question, order, blurred, network_input)
        for name, order in orders.items()
    }
    for found in (deletion, insertion):
        assert found["lam"] > 1.5 * abs(found["random"])
        assert found["lam"] > found["gradient"]


@pytest.mark.parametrize("method", ["filter", "lam"])
def test_attributions_depend_on_the_weights(
    method: str, bundled_question: AttributionRequest
) -> None:
    """Sanity check of Adebayo et al. (2018, arXiv:1810.03292): random weights.

    Maps that show edges of the scan whatever the network has learned would stay.
    """
    import copy
    from dataclasses import replace

    import torch

    question = replace(bundled_question, steps=6)
    network = copy.deepcopy(question.scene.network)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(
                weight.flatten()[torch.randperm(weight.numel())].view_as(weight)
            )
    scene = replace(question.scene, network=network)
    learned = ask(method, question).overlay
    shuffled = ask(method, replace(question, scene=scene, memory={})).overlay
    assert learned is not None
    assert shuffled is not None
    own = np.abs(learned.values).ravel()
    other = np.abs(shuffled.values).ravel()
    assert abs(np.corrcoef(own, other)[0, 1]) < 0.5


def test_the_last_layer_alone_changes_the_map(scan: Any) -> None:
    """Layers are randomised from the top: each changes the filter further."""
    import torch

    array = scan(30, 34)
    network = relu_network()
    learned = ask("filter", question_at(scene_of(network, array), 12, 15)).overlay
    torch.manual_seed(9)
    torch.nn.init.normal_(network[4].weight, std=float(network[4].weight.std()))
    changed = ask("filter", question_at(scene_of(network, array), 12, 15)).overlay
    assert learned is not None
    assert changed is not None
    found = np.corrcoef(learned.values.ravel(), changed.values.ravel())[0, 1]
    assert abs(found) < 0.7
