"""Occlusion: cubes that lose their structure, and keep their grey level and noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_geosr.core.noise import Noise

from .conftest import ask, relu_network, request_at, scene_of, with_spec


def copying_network(offset: int) -> Any:
    """Gives every voxel the value of the one `offset` columns to the right."""
    import torch
    from torch import nn

    network = nn.Conv2d(1, 1, 13, padding=6)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.zero_()
        network.weight[0, 0, 6, 6 + offset] = 1
    return with_spec(network, 6)


def test_the_cube_that_the_result_is_copied_from_is_found(scan: Any) -> None:
    array = np.full((40, 40), 100, np.float32)
    array[20, 24] = 160
    scene = scene_of(copying_network(4), array)
    request = request_at(scene, 20, 20, draws=4)
    finding = ask("occlusion", request)
    figures = finding.figures
    assert abs(figures["strongest_at"][0] - 20) <= 1
    assert abs(figures["strongest_at"][1] - 24) <= 1
    # The cube keeps its mean: eight ninths of the bright voxel are gone.
    assert figures["strongest"] == pytest.approx(-60 * 8 / 9, rel=0.01)
    assert finding.overlay is not None
    changed = np.argwhere(np.abs(finding.overlay.values) > 0.1)
    assert len(changed) <= 9


@pytest.mark.parametrize("seed", range(4))
def test_noise_alone_has_no_strongest_cube(seed: int) -> None:
    """A flat scan: whatever a cube changes, new noise changes as much."""
    array = np.random.default_rng(seed).normal(100, 10, (48, 48)).astype(np.float32)
    scene = scene_of(copying_network(4), array)
    finding = ask("occlusion", request_at(scene, 24, 24, noise=10.0, seed=seed))
    assert finding.figures["strongest"] is finding.figures["strongest_at"] is None
    assert finding.figures["cubes_beyond_noise"] == 0
    assert finding.overlay is not None
    assert not finding.overlay.values.any()
    assert "no more than new noise alone" in finding.sentence


def test_structure_in_noise_is_found_with_its_standard_error() -> None:
    array = np.random.default_rng(2).normal(100, 2, (48, 48)).astype(np.float32)
    array[24, 28] = 190
    scene = scene_of(copying_network(4), array)
    finding = ask("occlusion", request_at(scene, 24, 24, noise=2.0))
    figures = finding.figures
    assert figures["cubes_beyond_noise"] == 1
    assert figures["strongest"] == pytest.approx(-90 * 8 / 9, rel=0.05)
    # One voxel of noise, and its mean over eight draws.
    assert figures["strongest_error"] == pytest.approx(2 * (8 / 9) ** 0.5, rel=0.6)
    assert np.abs(np.subtract(figures["strongest_at"], (24, 28))).max() <= 1
    assert "± " in finding.sentence


def test_all_draws_are_used(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_geosr.attribution import _window

    n_calls, values = 0, _window.Window.values

    def counted(self: Any, given: Any = None) -> Any:
        nonlocal n_calls
        n_calls += 1
        return values(self, given)

    monkeypatch.setattr(_window.Window, "values", counted)
    request = request_at(scene_of(relu_network(), scan(40, 40)), 20, 20, draws=6)
    cubes = ask("occlusion", request).figures["cubes"]
    assert n_calls == 1 + 6 * cubes


def test_structure_is_replaced_by_noise_of_the_scan_and_not_by_a_flat_box(
    scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_geosr.attribution import _window

    network_input: list[np.ndarray] = []
    values = _window.Window.values

    def watched(self: Any, given: Any = None) -> Any:
        if given is not None:
            network_input.append(np.asarray(given))
        return values(self, given)

    monkeypatch.setattr(_window.Window, "values", watched)
    array = scan(40, 40)
    noise = Noise(level=15.0, contrast=60.0, correlation={"y": 0.0, "x": 0.6})
    request = request_at(scene_of(relu_network(), array), 20, 20, patch=9)
    request = replace(request, noise=lambda: noise)
    ask("occlusion", request)
    # The window is one cube of nine voxels.
    drawn = np.stack([w[0] for w in network_input])
    own = request.window.network_input[0]
    assert drawn.mean() == pytest.approx(own.mean(), abs=0.25)
    sd = 15.0 / request.scene.statistics.input_std
    assert drawn.std() == pytest.approx(sd, rel=0.35)
    centred = drawn - drawn.mean()
    along = float((centred[..., 1:] * centred[..., :-1]).mean() / centred.var())
    across = float((centred[:, 1:] * centred[:, :-1]).mean() / centred.var())
    assert along > 0.3
    assert abs(across) < 0.3


def test_far_cubes_are_left_out_with_a_word(
    scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_geosr.attribution.occlusion._MAX_CUBES", 4)
    request = request_at(scene_of(relu_network(), scan(40, 40)), 20, 20, draws=2)
    finding = ask("occlusion", request)
    assert finding.figures["cubes"] == 4
    assert finding.figures["cubes_left_out"] == 5
    assert "5 others were left out" in finding.notes[0]


def test_cubes_have_three_axes(scan: Any) -> None:
    scene = scene_of(relu_network(3), scan(16, 18, 20))
    finding = ask("occlusion", request_at(scene, 8, 9, 10, draws=2))
    assert finding.figures["cubes"] == 27
    assert len(finding.figures["strongest_at"]) == 3
