"""Patterns found in frames: wave vector, phases, modulation; and errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.sim import (
    FramesConfig,
    SimConfig,
    estimate,
    estimate_steps,
    run_steps,
)
from napari_geosr.operations.sim.check import check_steps
from napari_geosr.operations.sim.frame_checks import saturated_fraction
from napari_geosr.operations.sim.inputs import frames_of
from napari_geosr.operations.sim.known_patterns import read_patterns
from napari_geosr.operations.sim.planes import plane_steps
from napari_geosr.operations.sim.trust import trust_steps
from napari_geosr.operations.sim.trust.contrast import modulation_contrast
from napari_geosr.physics.illumination import simulation
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.physics.illumination.simulation import SimScene
from napari_geosr.sim.noise import frame_noise
from napari_geosr.sim.patterns import fit_fringe
from napari_geosr.sim.refine import circle_centre, support_factor
from napari_geosr.sim.wiener import unmixing
from sim.sim_scenes import OPTICS, frames_of_scene, scene, volume_of

CONFIG = FramesConfig()


def errors(made, patterns):
    """Largest error of wave vectors (cycles per field) and of phases (degrees)."""
    cycles, degrees = [], []
    for true, found in zip(made.patterns.fringes, patterns.fringes, strict=True):
        off = np.subtract(found.wave_vector, true.wave_vector) * patterns.shape
        cycles.append(np.hypot(*off))
        turned = np.exp(1j * np.subtract(found.phases, true.phases))
        degrees.append(np.degrees(np.abs(np.angle(turned))).max())
    return max(cycles), max(degrees)


@pytest.mark.parametrize("structure", ["filaments", "rings", "er", "spots"])
@pytest.mark.parametrize("snr", [5, 50])
def test_patterns_are_found(structure, snr):
    made = scene(structure, snr=snr, phase_error=5.0)
    found = run_to_end(estimate_steps(frames_of_scene(made), CONFIG))
    assert not found.problems
    cycles, degrees = errors(made, found.patterns)
    assert cycles < 0.05
    assert degrees < (7 if snr == 5 else 3)
    for fringe in found.patterns.fringes:
        assert fringe.modulation[0] == pytest.approx(0.9, abs=0.08)
    assert found.otf.cut_off == pytest.approx(0.37, rel=1e-6)


def test_refinement_improves_phases():
    """Spots correlate with themselves at the pattern's frequency; this is corrected."""
    made = scene("spots", snr=50, phase_error=5.0)
    frames = frames_of_scene(made)
    block, otf = frames.frames(), Otf(0.37)
    noise = frame_noise(block, otf).variance
    rough = [fit_fringe(part, otf, noise=noise).pattern.phases for part in block]
    true = [f.phases for f in made.patterns.fringes]
    off = np.degrees(np.abs(np.angle(np.exp(1j * np.subtract(rough, true))))).max()
    found = run_to_end(estimate_steps(frames, CONFIG))
    assert errors(made, found.patterns)[1] < 0.6 * off


def test_a_cut_off_beyond_all_searched_frequencies_is_reported(rng):
    frames = rng.normal(100, 1, (3, 32, 32)).astype(np.float32)
    assert "no pattern found" in fit_fringe(frames, Otf(1.2)).problem


@pytest.mark.parametrize("structure", ["filaments", "spots"])
def test_absent_patterns_are_refused_in_words(structure):
    made = scene(structure, modulation=0.0)
    found = run_to_end(estimate_steps(frames_of_scene(made), CONFIG))
    assert len(found.problems) == 3
    assert "no pattern found" in found.problems[0]
    with pytest.raises(Exception, match="Angle 1: no pattern found; confidence"):
        found.require()


def test_search_near_another_pattern_has_a_confidence():
    made = scene(snr=20)
    frames, otf = made.frames[0] - np.float32(100), Otf(0.37)
    noise = frame_noise(frames[None], otf).variance
    anywhere = fit_fringe(frames, otf, noise=noise)
    ky, kx = anywhere.pattern.wave_vector
    near = fit_fringe(frames, otf, noise=noise, near=(ky + 0.002, kx))
    assert near.pattern.wave_vector == pytest.approx((ky, kx), abs=1e-5)
    assert near.confidence == pytest.approx(anywhere.confidence, rel=1e-6)
    assert near.prominence == pytest.approx(1)
    away = fit_fringe(frames, otf, noise=noise, near=(ky - 0.04, kx + 0.04))
    assert away.confidence < 0.5 * near.confidence
    assert away.prominence < 0.5


def test_patterns_far_from_those_of_the_previous_time_point_are_found():
    times = [scene(snr=20, frequency=f) for f in (0.85, 0.9)]
    volumes = [volume_of(made) for made in times]
    data = np.stack([v.data for v in volumes])
    series = Volume(data, "TZYX", volumes[0].voxel_size, "µm", name="series")
    given = {"order": "apz", "optics": OPTICS, "offset": 100.0}
    frames = SimFrames.from_volume(series, angles=3, phases=3, **given)
    config = SimConfig(method="wiener", checks=False)
    result = run_to_end(run_steps(frames, config))
    for time, made in enumerate(times):
        assert errors(made, result.estimates[time, 0].patterns)[0] < 0.05


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"direction_degrees": 40}, "direction_degrees is 40, but the wave vector"),
        ({"period": 9.9}, "period is 9.9, but the wave vector"),
        ({"modulation": []}, "modulation of angle 2 must be above 0"),
        ({"modulation": [0.0]}, "modulation of angle 2 must be above 0"),
        ({"modulation": [5.0]}, "modulation of angle 2 must be above 0"),
        ({"intensity": [-1, 1, 1]}, "intensities for angle 2 is not positive"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_patterns_in_a_file_are_consistent(change, words):
    values = scene().patterns.to_dict()
    assert PatternSet.from_dict(values).to_dict() == values
    assert all(0 <= p < 360 for row in values["angles"] for p in row["phases_degrees"])
    values["angles"][1] |= change
    with pytest.raises(ConfigError, match=words):
        PatternSet.from_dict(values)


def test_frames_of_different_angles_are_refused():
    made = scene(snr=20)
    frames = frames_of_scene(made, order="paz")
    assert run_to_end(estimate_steps(frames, CONFIG)).problems


@pytest.mark.parametrize("response", ["saturated", "switching"])
def test_harmonics_are_found(response):
    made = scene(
        "filaments", snr=50, response=response, angles=3, phases=7, cut_off=0.3
    )
    block, otf = made.frames - 100, Otf(0.3)
    noise = frame_noise(block, otf).variance
    true = made.patterns.fringes[0].modulation[:3]
    for part in block:
        pattern = fit_fringe(part, otf, noise=noise, harmonics=3).pattern
        sign = np.sign(pattern.modulation[0] * true[0])
        assert pattern.modulation[0] * sign == pytest.approx(true[0], abs=0.03)
        assert pattern.modulation[1] == pytest.approx(true[1], abs=0.05)
        assert pattern.modulation[2] * sign == pytest.approx(true[2], abs=0.05)


def test_noise_free_bands_are_separated_exactly():
    made = scene("er", snr=0, phase_error=10.0)
    for frames, fringe in zip(made.clean, made.patterns.fringes, strict=True):
        spectra = np.fft.fft2(frames.astype(np.float64))
        weights = unmixing(fringe)
        centre, side = (np.tensordot(w, spectra, axes=1) for w in weights)
        factors = [np.ones(3), fringe.terms(), fringe.terms().conj()]
        other = np.conj(np.roll(np.flip(side), 1, axis=(0, 1)))
        again = sum(
            f[:, None, None] * band[None]
            for f, band in zip(factors, (centre, side, other), strict=True)
        )
        np.testing.assert_allclose(again, spectra, atol=1e-6 * np.abs(spectra).max())


def test_phases_that_do_not_separate_bands_are_refused():
    fringe = scene().patterns.fringes[0]
    equal = type(fringe)(fringe.wave_vector, (0.0, 0.0, 2.0), (0.9,))
    with pytest.raises(Exception, match="do not separate 3 bands"):
        unmixing(equal)


def test_circle_through_points():
    points = 3 + 2j + 4 * np.exp(1j * np.array([0.1, 2.0, 4.5]))
    assert circle_centre(points) == pytest.approx(3 + 2j)
    line = np.array([1 + 0j, 2 + 0j, 3 + 0j])
    assert circle_centre(line) == pytest.approx(2 + 0j)


@pytest.mark.parametrize(("gain", "read"), [(2.0, 0.0), (0.0, 5.0)])
def test_noise_is_measured_beyond_the_cut_off(gain, read):
    rng = np.random.default_rng(0)
    clean = 400 * scene(snr=0).clean
    noisy = rng.poisson(clean / gain) * gain if gain else clean
    noisy = noisy + read * rng.standard_normal(clean.shape)
    found = frame_noise(noisy.astype(np.float32), Otf(0.37))
    assert found.variance == pytest.approx(gain * clean.mean() + read**2, rel=0.1)
    assert found.gain == pytest.approx(gain, abs=0.2)
    weights = found.weights(np.array([0.0, 1000.0]))
    assert (weights > 0).all()


@pytest.fixture
def three_beams(monkeypatch):
    """Frames with two patterns in each direction, at .45 and .9 of the cut-off."""
    monkeypatch.setattr(simulation, "harmonic_amplitudes", lambda _scene: (0.6, 0.5))
    return lambda structure: simulation.simulate_frames(
        structure, SimScene(size=96, phases=5, snr=30, seed=1, frequency=0.45)
    )


@pytest.mark.parametrize("structure", ["er", "spots"])
def test_the_coarser_of_two_patterns_is_the_fundamental(three_beams, structure):
    made = three_beams(structure)
    frames = frames_of_scene(made)
    found = run_to_end(estimate_steps(frames, FramesConfig(harmonics=2)))
    assert not found.problems
    cycles, degrees = errors(made, found.patterns)
    assert cycles < 0.1
    assert degrees < 3
    for fringe in found.patterns.fringes:
        np.testing.assert_allclose(fringe.modulation, (0.6, 0.5), atol=0.05)
    seen = []
    steps = estimate_steps(frames, FramesConfig(harmonics=1))
    linear = run_to_end(steps, seen.append)
    assert linear.patterns.fringes[0].frequency == pytest.approx(0.9 * 0.37, rel=0.02)
    said = [step.message for step in seen if isinstance(step, WarningIssued)]
    assert "half the frequency" in said[0]
    assert "--harmonics 2" in said[0]


def test_two_beams_have_no_coarser_pattern():
    made = scene("er", snr=50, phases=5, size=96)
    seen = []
    found = run_to_end(
        estimate_steps(frames_of_scene(made), FramesConfig(harmonics=2)), seen.append
    )
    assert errors(made, found.patterns)[0] < 0.1
    assert not any(isinstance(step, WarningIssued) for step in seen)


def test_intensities_are_relative_to_all_frames():
    """Angles with less light, as an imperfect polariser causes."""
    made = scene("er", snr=30, size=96)
    light = np.array([1.2, 1.0, 0.5], np.float32)[:, None, None, None]
    dimmed = replace(made, frames=100 + (made.frames - 100) * light)
    found = run_to_end(estimate_steps(frames_of_scene(dimmed), CONFIG))
    means = [np.mean(fringe.intensity) for fringe in found.patterns.fringes]
    np.testing.assert_allclose(means, light.ravel() / light.mean(), rtol=0.02)
    config = SimConfig(method="joint-rl", iterations=15, threads=1)
    plane = found.block, found.patterns, found.otf
    image, _ = run_to_end(plane_steps(*plane, config))
    options = {"config": config, "has_resolution": False}
    trust = run_to_end(trust_steps(image, found.block, found, **options))
    assert trust.warnings == ()
    equal = replace(
        found.patterns,
        fringes=tuple(replace(f, intensity=(1.0,) * 3) for f in found.patterns.fringes),
    )
    other = replace(found, patterns=equal)
    image, _ = run_to_end(plane_steps(found.block, equal, found.otf, config))
    wrong = run_to_end(trust_steps(image, found.block, other, **options))
    assert "relative intensity of this frame" in wrong.warnings[0]
    assert trust.held_out < 0.7 * wrong.held_out


def test_frames_of_two_angles_that_are_swapped_are_noticed():
    made = scene("er", snr=20, size=96)
    mixed = made.frames.copy()
    mixed[0, 1], mixed[1, 1] = made.frames[1, 1], made.frames[0, 1]
    frames = frames_of_scene(replace(made, frames=mixed))
    problems = run_to_end(estimate_steps(frames, CONFIG)).problems
    assert "probably belongs to another angle" in problems[0]


def contrast(made) -> float:
    """Modulation contrast relative to the noise, with the patterns found."""
    found = run_to_end(estimate_steps(frames_of_scene(made), CONFIG))
    return float(np.percentile(modulation_contrast(found.block, found), 90))


def test_contrast_does_not_depend_on_intensity_and_order_of_phases():
    made = scene("er", snr=50, size=96, phases=5)
    plain = contrast(made)
    skipped = replace(made, frames=made.frames[:, [0, 2, 4, 1, 3]])
    assert contrast(skipped) == pytest.approx(plain, rel=0.02)
    flat = scene("er", snr=50, size=96, modulation=0.0)
    bleached = scene("er", snr=50, size=96, modulation=0.0, bleaching=0.4)
    assert contrast(flat) < 2
    assert contrast(bleached) == pytest.approx(contrast(flat), rel=0.1)


def test_clearest_pattern_of_a_small_field_is_found_near_a_given_one():
    """In small frames, the correlation peak is low; the user can still choose it."""
    made = scene("rings", snr=20, size=48)
    otf, true = Otf(0.37), made.patterns.fringes
    block = made.frames.astype(np.float32) - np.float32(100)
    noise = frame_noise(block, otf).variance
    anywhere = [fit_fringe(part, otf, noise=noise) for part in block]
    at = int(np.argmin([fit.confidence for fit in anywhere]))
    assert anywhere[at].confidence < 6
    assert "no pattern found" in anywhere[at].problem
    near = fit_fringe(block[at], otf, noise=noise, near=true[at].wave_vector)
    assert not near.problem
    assert near.pattern.wave_vector == pytest.approx(true[at].wave_vector, abs=1e-3)
    ky, kx = true[at].wave_vector
    assert fit_fringe(block[at], otf, noise=noise, near=(kx, -ky)).problem


def test_patterns_near_earlier_ones_are_kept_if_no_others_are_found(monkeypatch):
    made = scene(snr=20)
    frames = frames_of_scene(made)
    good = run_to_end(estimate_steps(frames, CONFIG))
    faint = replace(good, fits=tuple(replace(f, prominence=0.5) for f in good.fits))
    bad = replace(good, fits=tuple(replace(f, problem="none") for f in good.fits))
    found = {True: faint, False: bad}

    def steps(*_args, near=None, **_more):
        yield from ()
        return found[near is not None]

    monkeypatch.setattr(estimate, "estimate_steps", steps)
    options = {"time": 1, "channel": 0, "before": good.patterns}
    assert run_to_end(estimate.search_steps(frames, CONFIG, **options)) is faint
    found[False] = good
    assert run_to_end(estimate.search_steps(frames, CONFIG, **options)) is good


def test_images_of_patterns_do_not_show_the_order_of_slices():
    made = scene(snr=20, size=48)
    stack = np.concatenate([made.frames.reshape(-1, 48, 48)] * 2)
    volume = Volume(stack, "ZYX", (0.2, 0.065, 0.065), "µm", name="slices")
    images = Volume(np.ones((9, 48, 48), np.float32), "ZYX", name="patterns")
    with pytest.raises(ConfigError, match="Give the order: --order zap"):
        frames_of(volume, SimConfig(na=1.4, wavelength=(525.0,)), patterns=images)
    config = SimConfig(na=1.4, wavelength=(525.0,), order="zap")
    assert frames_of(volume, config, patterns=images).n_planes == 2


def test_other_channels_are_checked_if_one_cannot_be():
    made = scene(snr=20)
    data = np.stack([made.frames.reshape(-1, 128, 128)] * 2)
    data[1] = data[1].max()
    volume = Volume(data, "CZYX", (0.2, 0.065, 0.065), "µm", name="two")
    given = {"order": "apz", "optics": OPTICS, "offset": 100.0}
    frames = SimFrames.from_volume(volume, angles=3, phases=3, **given)
    check = run_to_end(check_steps(frames, CONFIG, every_channel=True))
    assert not check.estimate.problems
    assert "channel 2" in check.unchecked[0, 1]
    assert any("channel 2" in text for text in check.to_json_dict()["warnings"])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("limit", [1023, 2600])
def test_clipped_values_are_recognised_at_any_level(dtype, limit):
    made = scene("filaments", snr=20)
    frames = made.frames / np.percentile(made.frames, 97) * limit
    clipped = frames_of_scene(replace(made, frames=frames.clip(0, limit).astype(dtype)))
    share = saturated_fraction(clipped.frames(), clipped)
    assert share.mean() == pytest.approx(0.03, abs=0.002)
    whole = frames_of_scene(replace(made, frames=frames.astype(dtype)))
    assert not saturated_fraction(whole.frames(), whole).any()


def test_patterns_for_other_pixels_are_refused():
    made = scene(snr=20)
    frames = frames_of_scene(made)
    values = made.patterns.to_dict() | {"unit": "µm"}
    for row in values["angles"]:
        del row["period"]
    assert read_patterns(values | {"pixel_size": 0.065}, frames).unit == "µm"
    with pytest.raises(ConfigError, match="is for pixels of 0.13 µm, but those of"):
        read_patterns(values | {"pixel_size": 0.13}, frames)


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.5, (1, 2)])
def test_images_of_patterns_must_have_whole_pixels_per_camera_pixel(factor):
    """They are neither cropped nor stretched without notice."""
    frames = frames_of_scene(scene())
    whole = Volume(np.ones((9, 256, 256), np.float32), "ZYX", name="patterns")
    assert read_patterns(whole, frames).images.shape == (9, 256, 256)
    shape = tuple(int(n) for n in 128 * np.broadcast_to(factor, 2))
    images = Volume(np.ones((9, *shape), np.float32), "ZYX", name="patterns")
    with pytest.raises(ConfigError, match=rf"{shape[0]} × {shape[1]} pixels, but the"):
        read_patterns(images, frames)


def test_phases_may_be_60_degrees_apart(monkeypatch):
    """They are not mistaken for a frame of another angle, with a point near 0."""
    turned = np.exp(1j * np.deg2rad([10, 70, 130]))
    assert circle_centre(turned) == pytest.approx(0, abs=1e-9)
    swapped = turned * (1, 0, 1)
    assert circle_centre(swapped) == pytest.approx(swapped.mean())
    original = simulation.scene_patterns

    def close(given, rng):
        patterns = original(given, rng)
        fringes = tuple(
            replace(f, phases=tuple(f.phases[0] + np.deg2rad((0, 60, 120))))
            for f in patterns.fringes
        )
        return replace(patterns, fringes=fringes)

    monkeypatch.setattr(simulation, "scene_patterns", close)
    made = simulation.simulate_frames("er", SimScene(size=128, snr=20, seed=1))
    found = run_to_end(estimate_steps(frames_of_scene(made), CONFIG))
    assert found.problems == ()
    for fringe in found.patterns.fringes:
        steps = np.rad2deg(np.diff(np.unwrap(fringe.phases)))
        np.testing.assert_allclose(np.abs(steps), 60, atol=6)


def test_a_modulation_above_one_is_remarked_on():
    """A background that follows the image makes the stripes look too strong."""
    made = scene("rings", snr=30, size=96)
    frames = frames_of_scene(replace(made, frames=(made.frames - 100) * 1.3 + 100))
    weak = made.frames.mean(axis=(0, 1)) * 0.3
    said = []
    for each in (frames, frames_of_scene(replace(made, frames=made.frames - weak))):
        seen = []
        run_to_end(estimate_steps(each, CONFIG), seen.append)
        said.append([s.message for s in seen if isinstance(s, WarningIssued)])
    assert said[0] == []
    assert len(said[1]) == 1
    assert "with a single harmonic, it cannot exceed 1. Check the optics" in said[1][0]


def test_phases_are_refined_on_a_grid_that_contains_all_frequencies():
    linear = scene("rings", snr=30, size=96)
    assert support_factor(linear.patterns, linear.otf) == 2
    fringes = (FringePattern((0.33, 0.0), (0.0,) * 7, (0.9, 0.4, 0.2)),)
    assert support_factor(PatternSet(fringes, (64, 64)), linear.otf) == 3
