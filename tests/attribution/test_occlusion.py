"""Occlusion: cubes lose their structure, but keep their grey level and noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_geosr.attribution import occlusion
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
    # The cube keeps its mean, so eight ninths of the bright voxel are lost.
    assert figures["strongest"] == pytest.approx(-60 * 8 / 9, rel=0.01)
    assert finding.overlay is not None
    changed = np.argwhere(np.abs(finding.overlay.values) > 0.1)
    assert len(changed) <= 9


@pytest.mark.parametrize("seed", range(4))
def test_noise_alone_has_no_strongest_cube(seed: int) -> None:
    """In a flat scan, new noise changes as much as any cube does."""
    array = np.random.default_rng(seed).normal(100, 10, (48, 48)).astype(np.float32)
    scene = scene_of(copying_network(4), array)
    finding = ask("occlusion", request_at(scene, 24, 24, noise=10.0, seed=seed))
    assert finding.figures["strongest"] is finding.figures["strongest_at"] is None
    assert finding.figures["cubes_beyond_noise"] == 0
    assert finding.overlay is not None
    assert not finding.overlay.values.any()
    assert "no more than a new realisation of the noise does" in finding.sentence


def test_structure_in_noise_is_found_with_its_standard_error() -> None:
    array = np.random.default_rng(2).normal(100, 2, (48, 48)).astype(np.float32)
    array[24, 28] = 190
    scene = scene_of(copying_network(4), array)
    finding = ask("occlusion", request_at(scene, 24, 24, noise=2.0))
    figures = finding.figures
    assert figures["cubes_beyond_noise"] == 1
    assert figures["strongest"] == pytest.approx(-90 * 8 / 9, rel=0.05)
    # The noise of one voxel, and its mean over eight draws.
    assert figures["strongest_error"] == pytest.approx(2 * (8 / 9) ** 0.5, rel=0.6)
    assert np.abs(np.subtract(figures["strongest_at"], (24, 28))).max() <= 1
    assert "± " in finding.sentence


def test_cubes_that_do_not_matter_are_dropped_after_two_draws(scan: Any) -> None:
    array = scan(48, 48)
    array[24, 28] = 900
    scene = scene_of(copying_network(4), array)
    figures = ask("occlusion", request_at(scene, 24, 24, noise=15.0)).figures
    # One voxel determines the result, so only its cube is drawn eight times.
    assert figures["cubes_beyond_noise"] == 1
    assert figures["restorations"] == 1 + 2 * figures["cubes"] + 6
    assert figures["draws"] == 8


@pytest.mark.parametrize("change", [0.0, 0.8, 1.0, 1.3])
def test_dropping_cubes_early_loses_none_that_count(change: float) -> None:
    """`change` is relative to the significance limit; 0 is noise alone."""
    rng = np.random.default_rng(0)
    n, draws = 20_000, 8
    limit = occlusion._limit(216, draws)
    changes = change * limit * (1 + 1 / draws) ** 0.5 + rng.normal(size=(n, draws))
    changes -= rng.normal(size=(n, 1))  # the noise of the scan itself
    mean, error = occlusion._mean_and_error(changes)
    counts = np.abs(mean) > limit * error
    kept, drawn, done = np.ones(n, bool), np.zeros(n), 0
    for stage, share in occlusion._STAGES:
        drawn += kept * (stage - done)
        mean, error = occlusion._mean_and_error(changes[:, :stage])
        kept &= np.abs(mean) > share * limit * error
        done = stage
    drawn += kept * (draws - done)
    assert (counts & ~kept).sum() <= 0.002 * n
    if change == 0.0:
        assert counts.mean() < 0.05 / 216 * 2
        assert drawn.mean() < draws / 2.8


@pytest.mark.parametrize("slices", [1, 5])
def test_planes_that_do_not_see_a_cube_are_not_restored_again(
    scan: Any, slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_geosr.attribution import _window

    region = tuple(slice(a, b) for a, b in ((0, 12), (20, 24), (18, 21)))
    scene = scene_of(relu_network(slices=slices), scan(12, 40, 40))
    window = scene.window(region)
    before = window.values()
    changed = (slice(1, 3), slice(4, 7), slice(4, 7))
    occluded = window.network_input.copy()
    occluded[changed] += 3
    planes: list[int] = []
    part = _window.Window._part

    def counted(self: Any, block: Any, i: int, *more: Any) -> Any:
        planes.append(i)
        return part(self, block, i, *more)

    monkeypatch.setattr(_window.Window, "_part", counted)
    after = window.values_after(occluded, changed, before)
    # Planes beyond the border are reflections.
    assert planes == ([1, 2] if slices == 1 else [0, 1, 2, 3, 4])
    assert np.array_equal(after, window.values(occluded))
    assert not np.array_equal(after, before)


def test_structure_is_replaced_by_noise_of_the_scan_and_not_by_a_flat_box(
    scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_geosr.attribution import _window

    network_input: list[np.ndarray] = []
    values = _window.Window.values_after

    def watched(self: Any, given: Any, *more: Any) -> Any:
        network_input.append(np.asarray(given))
        return values(self, given, *more)

    monkeypatch.setattr(_window.Window, "values_after", watched)
    monkeypatch.setattr(occlusion, "_STAGES", ())
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
