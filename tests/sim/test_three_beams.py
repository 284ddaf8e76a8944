"""Three-beam illumination: two patterns in each direction."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import NoteIssued, WarningIssued, run_to_end
from napari_geosr.operations.sim import (
    FramesConfig,
    PatternEstimate,
    SimConfig,
    SimulateSimConfig,
    frames_of,
    run_steps,
)
from napari_geosr.operations.sim.estimate import estimate_steps, search_steps
from napari_geosr.operations.sim.memory import most_harmonics
from napari_geosr.physics.illumination.simulation import (
    SimScene,
    SimulatedFrames,
    harmonic_amplitudes,
)
from sim.sim_scenes import frames_of_scene, scene, volume_of

STRUCTURES = ("filaments", "rings", "er", "spots")


def found_in(
    made: SimulatedFrames, **settings: int
) -> tuple[PatternEstimate, list[WarningIssued]]:
    """The patterns, and all warnings and notes."""
    seen: list[object] = []
    steps = estimate_steps(frames_of_scene(made), FramesConfig(**settings))
    found = run_to_end(steps, seen.append)
    return found, [step for step in seen if isinstance(step, WarningIssued)]


def phase_error(true: PatternSet, found: PatternSet) -> float:
    """Largest error of a phase in degrees, also if only the finer pattern is used."""
    largest = 0.0
    for one, other in zip(true.fringes, found.fringes, strict=True):
        k, new = np.asarray(one.wave_vector), np.asarray(other.wave_vector)
        sign = 1 if k @ new >= 0 else -1
        order = round(other.frequency / one.frequency)
        turns = sign * np.asarray(other.phases) - order * np.asarray(one.phases)
        largest = max(largest, np.degrees(np.abs(np.angle(np.exp(1j * turns)))).max())
    return largest


@pytest.mark.parametrize("snr", [10, 50])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_both_patterns_are_used_without_being_asked_for(structure, snr):
    made = scene(structure, snr=snr, seed=1, phases=5, beams=3)
    found, said = found_in(made)
    assert not found.problems
    assert phase_error(made.patterns, found.patterns) < 3
    for fringe in found.patterns.fringes:
        np.testing.assert_allclose(fringe.modulation, (1.2, 0.6), atol=0.06)
    assert [type(step) for step in said] == [NoteIssued]
    assert "Both are used" in said[0].message


@pytest.mark.parametrize(
    ("seed", "snr"),
    [
        (0, 10),
        *(
            pytest.param(seed, snr, marks=pytest.mark.slow)
            for seed, snr in ((0, 5), (0, 50), (1, 5), (1, 10), (1, 50))
        ),
    ],
)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_two_beams_have_one_pattern_in_each_direction(structure, seed, snr):
    found, said = found_in(scene(structure, snr=snr, seed=seed, phases=5))
    assert found.patterns.harmonics == 1
    assert not found.problems
    assert said == []


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_single_pattern_that_is_asked_for_is_used_with_a_warning(structure):
    made = scene(structure, snr=50, phases=5, beams=3)
    found, said = found_in(made, harmonics=1)
    assert found.patterns.harmonics == 1
    first = said[0]
    assert type(first) is WarningIssued
    assert "half the frequency" in first.message
    assert "Use --harmonics 2, or omit this setting." in first.message
    assert phase_error(made.patterns, found.patterns) > 30


def test_time_points_and_slices_have_as_many_harmonics_as_the_first():
    made = scene("er", snr=20, phases=5, beams=3)
    first, _ = found_in(made)
    two = scene("er", snr=20, phases=5)
    for frames, before in ((made, first), (two, first), (made, None)):
        steps = search_steps(
            frames_of_scene(frames),
            FramesConfig(),
            time=0,
            channel=0,
            before=None if before is None else before.patterns,
        )
        assert run_to_end(steps).patterns.harmonics == 2


def test_memory_is_planned_for_as_many_harmonics_as_can_be_chosen():
    assert [most_harmonics(FramesConfig(), n) for n in (3, 4, 5, 9)] == [1, 1, 2, 2]
    assert most_harmonics(FramesConfig(harmonics=3), 7) == 3


def test_three_beams_are_simulated_with_the_coarser_pattern_being_stronger():
    made = SimulateSimConfig(beams=3).scene()
    assert (made.angles, made.phases) == (3, 5)
    np.testing.assert_allclose(harmonic_amplitudes(made), (1.2, 0.6), rtol=1e-6)
    full = harmonic_amplitudes(SimScene(beams=3, modulation=1.0))
    turn = np.linspace(0, 2 * np.pi, 721)
    light = 1 + sum(a * np.cos((h + 1) * turn) for h, a in enumerate(full))
    assert light.min() == pytest.approx(0, abs=1e-3)
    fringe = scene(phases=5, beams=3).patterns.fringes[0]
    assert fringe.harmonics == 2
    assert fringe.frequency == pytest.approx(0.85 * 0.37 / 2)


@pytest.mark.parametrize("settings", [{"method": "wiener"}, {"iterations": 80}])
@pytest.mark.parametrize("haze", [0, 3])
def test_haze_is_reported_with_two_harmonics(settings, haze):
    made = scene("filaments", snr=50, size=96, phases=5, beams=3, haze=haze)
    config = SimConfig(
        na=1.4, wavelength=2 * 1.4 * 65 / 0.37, order="apz", threads=1, **settings
    )
    frames = frames_of(volume_of(made), config)
    result = run_to_end(run_steps(frames, config))
    assert result.patterns.harmonics == 2
    assert result.checks is not None
    said = [w for w in result.checks.warnings if "light from out of focus" in w]
    assert bool(said) == bool(haze)
