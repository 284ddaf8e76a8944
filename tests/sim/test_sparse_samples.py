"""Samples that the stripes meet unequally: the light of the frames is found anyway."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_geosr.core.steps import run_to_end
from napari_geosr.operations.sim import FramesConfig, SimConfig, estimate_steps
from napari_geosr.operations.sim.check import check_steps
from napari_geosr.operations.sim.planes import plane_steps
from napari_geosr.physics.illumination import simulation
from napari_geosr.physics.illumination.simulation import SimScene
from sim.sim_scenes import correlation, frames_of_scene, scene
from sim.test_trust import CONFIG, checked, estimate_of, variants


def points(monkeypatch, n: int, **settings: object):
    """Frames of `n` equal points."""

    def draw(structure, shape, period, rng):
        light = np.zeros(shape, np.float32)
        y, x = (0.15 + 0.7 * rng.random((n, 2))).T * np.array(shape)[:, None]
        light[y.astype(int), x.astype(int)] = 1
        return light

    monkeypatch.setattr(simulation, "draw_structure", draw)
    return simulation.simulate_frames("spots", SimScene(size=128, **settings))


def lines(monkeypatch):
    """Frames of filaments and of parallel lines with nearly the period of a pattern."""
    drawn, made = simulation.draw_structure, scene()
    ky, kx = 1.02 * np.asarray(made.patterns.fringes[0].wave_vector) / 4

    def draw(structure, shape, period, rng):
        light = drawn(structure, shape, period, rng)
        y, x = np.indices(shape)
        grating = np.cos(2 * np.pi * (ky * y + kx * x)) > 0.7
        place = (slice(180, 380), slice(140, 420))
        light[place] += 12 * light.mean() * grating[place]
        return light

    monkeypatch.setattr(simulation, "draw_structure", draw)
    return simulation.simulate_frames("filaments", SimScene(size=128, snr=40))


def test_equal_light_is_found_if_the_stripes_meet_points_unequally(monkeypatch):
    made = points(monkeypatch, 100, snr=20)
    means = (made.frames - 100).mean(axis=(2, 3))
    assert np.ptp(means / means.mean()) > 0.15
    check = run_to_end(check_steps(frames_of_scene(made), FramesConfig()))
    assert check.warnings == ()
    np.testing.assert_allclose(check.intensities, 1, atol=0.02)
    stored = [row["intensity"] for row in check.to_json_dict()["patterns"]["angles"]]
    np.testing.assert_allclose(stored, check.intensities, rtol=1e-6)
    config = SimConfig(iterations=60, threads=1, upscale_factor=4)
    found = [
        run_to_end(plane_steps(made.frames - 100, patterns, made.otf, config))[0]
        for patterns in (made.patterns, check.estimate.patterns)
    ]
    best, own = (correlation(image, made.truth) for image in found)
    assert own > best - 0.005


def test_equal_light_is_found_for_lines_with_the_period_of_the_stripes(monkeypatch):
    made = lines(monkeypatch)
    means = (made.frames - 100).mean(axis=(2, 3))
    light = run_to_end(
        estimate_steps(frames_of_scene(made), FramesConfig())
    ).intensities
    assert np.ptp(light) < 0.6 * np.ptp(means / means.mean())


def test_uneven_light_and_bleaching_of_points_are_found(monkeypatch):
    made = points(monkeypatch, 100, snr=20)
    true = np.array([[1.2, 1.0, 0.9], [0.8, 1.1, 1.0], [1.0, 1.3, 0.7]], np.float32)
    frames = 100 + (made.frames - 100) * (true / true.mean())[:, :, None, None]
    uneven = replace(made, frames=frames)
    check = run_to_end(check_steps(frames_of_scene(uneven), FramesConfig()))
    np.testing.assert_allclose(check.intensities, true / true.mean(), rtol=0.03)
    assert any("the light is uneven" in text for text in check.warnings)
    made = points(monkeypatch, 100, snr=20, bleaching=0.4)
    check = run_to_end(check_steps(frames_of_scene(made), FramesConfig()))
    assert any("probably bleaches" in text for text in check.warnings)


def test_means_of_frames_are_called_so_if_the_light_is_not_known(monkeypatch):
    made = points(monkeypatch, 6, snr=20)
    check = run_to_end(check_steps(frames_of_scene(made), FramesConfig()))
    assert check.estimate.problems
    text = next(text for text in check.warnings if "intensity" in text)
    assert "or the stripes coincide with sparse or periodic structures" in text


@pytest.mark.parametrize("n", [1, 3, 10])
def test_true_patterns_of_a_few_points_are_not_called_wrong(monkeypatch, n):
    made = points(monkeypatch, n, snr=20)
    trust = checked(estimate_of(made), CONFIG, has_resolution=False)
    text = trust.warnings[0]
    assert "Angles 1, 2, 3: the frames show no clear pattern (confidence " in text
    assert not any("differs" in text for text in trust.warnings)
    values = trust.to_json_dict()
    assert values["wave_vector_errors_cycles"] == [None] * 3
    assert values["phase_errors_degrees"] == [[None] * 3] * 3
    assert values["no_value"]["modulation"] == text


def test_wrong_patterns_of_many_points_are_still_reported(monkeypatch):
    made = points(monkeypatch, 100, snr=20)
    assert checked(estimate_of(made), has_resolution=False).warnings == ()
    for name, (block, patterns) in variants(made, 0).items():
        estimate = replace(estimate_of(made, patterns), block=block)
        assert checked(estimate, has_resolution=False).warnings, name
