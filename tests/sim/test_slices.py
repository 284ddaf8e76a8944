"""Patterns of every slice of a Z stack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.steps import WarningIssued, never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.sim import SimConfig, check_steps, run_steps
from napari_geosr.operations.sim.pattern_search import PatternSearch
from sim.sim_scenes import OPTICS, PIXEL, correlation, scene

SIZE = 96
CONFIG = SimConfig(method="wiener", checks=False, threads=1)
#: Seeds of slices whose patterns have other directions and phases.
SEEDS = (1, 2, 3)


def stack(*blocks: np.ndarray) -> SimFrames:
    """Slices one after the other."""
    images = np.concatenate([b.reshape(-1, SIZE, SIZE) for b in blocks])
    volume = Volume(images, "ZYX", (0.2, PIXEL, PIXEL), "µm", name="raw")
    given = {"order": "zap", "optics": OPTICS, "offset": 100.0}
    return SimFrames.from_volume(volume, angles=3, phases=3, **given)


def slice_of(seed: int) -> np.ndarray:
    return scene("filaments", size=SIZE, snr=30, seed=seed).frames


def without_patterns(seed: int) -> np.ndarray:
    """Nine images of the object that differ only by noise."""
    mean = slice_of(seed).mean(axis=(0, 1)) - 100
    rng = np.random.default_rng(seed)
    return rng.poisson(np.maximum(mean, 0), (3, 3, SIZE, SIZE)).astype("f4") + 100


def warnings_of(steps) -> tuple[object, str]:
    """Return the result of the steps, and their warnings."""
    said: list[str] = []
    result = run_to_end(
        steps,
        lambda s: said.append(s.message) if isinstance(s, WarningIssued) else None,
    )
    return result, " ".join(said)


def test_every_slice_is_reconstructed_with_its_own_patterns():
    result, said = warnings_of(run_steps(stack(*map(slice_of, SEEDS)), CONFIG))
    for seed, image in zip(SEEDS, result.volume.data, strict=True):
        truth = scene("filaments", size=SIZE, snr=30, seed=seed).truth
        n = truth.shape[0] // len(image)
        binned = truth.reshape(len(image), n, len(image), n).mean((1, 3))
        assert correlation(image, binned) > 0.75
    assert "The patterns drift over the slices: in slice 1, one phase differs" in said
    assert said.count("drift over") == 1


def test_equal_patterns_in_all_slices_are_no_drift():
    scenes = [scene("er", size=SIZE, snr=10, seed=1, plane=p).frames for p in range(3)]
    frames = stack(*scenes)
    _, said = warnings_of(run_steps(frames, CONFIG))
    assert "drift" not in said
    given = replace(frames, patterns=scene("er", size=SIZE, snr=10, seed=1).patterns)
    search = PatternSearch(given, CONFIG, never_stop)
    run_to_end(search.time_steps(0, 0))
    assert run_to_end(search.misfit_steps(0, 0, range(3))) == []


def test_a_slice_without_patterns_uses_those_of_the_middle_one():
    frames = stack(without_patterns(1), slice_of(1), slice_of(1))
    result, said = warnings_of(run_steps(frames, CONFIG))
    assert np.isfinite(result.volume.data).all()
    assert "(slice 1): no pattern found" in said
    assert "The patterns of the middle slice (2) are used instead in slice 1;" in said


def test_given_patterns_are_compared_with_the_outer_slices():
    frames = stack(*map(slice_of, SEEDS))
    given = scene("filaments", size=SIZE, snr=30, seed=SEEDS[1]).patterns
    search = PatternSearch(replace(frames, patterns=given), CONFIG, never_stop)
    run_to_end(search.time_steps(0, 0))
    assert run_to_end(search.plane_steps(0, 0, 2)).patterns is given
    first, last = run_to_end(search.misfit_steps(0, 0, range(3)))
    assert first.startswith("Slice 1: one phase differs by ")
    assert last.startswith("Slice 3: one phase differs by ")


def test_a_check_reports_drift_over_the_slices():
    frames = stack(*map(slice_of, SEEDS))
    check = run_to_end(check_steps(frames, CONFIG, every_channel=True))
    assert check.to_json_dict()["slice"] == 2
    message = next(w for w in check.warnings if "drift over the slices" in w)
    assert "Do not use patterns.yaml for the whole stack" in message


@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_patterns_are_found_in_the_usable_slice_next_to_the_middle(value):
    bad = np.full((3, 3, SIZE, SIZE), value, np.float32)
    frames = stack(slice_of(1), bad, slice_of(1))
    check = run_to_end(check_steps(frames, CONFIG))
    assert check.plane == 0
    assert not check.estimate.problems
    search = PatternSearch(frames, CONFIG, never_stop)
    run_to_end(search.time_steps(0, 0))
    assert search.planes == {(0, 0): 0}


def test_given_harmonics_that_phases_cannot_separate_are_compared() -> None:
    """Three phases separate one harmonic of given patterns, which is compared."""
    frames = stack(slice_of(1), slice_of(1))
    known = scene("filaments", size=SIZE, snr=30, seed=1).patterns
    fringes = tuple(replace(f, modulation=(0.5, 0.2)) for f in known.fringes)
    frames = replace(frames, patterns=replace(known, fringes=fringes))
    config = SimConfig(method="widefield", harmonics=2, checks=True, threads=1)
    result, _ = warnings_of(run_steps(frames, config))
    assert np.isfinite(result.volume.data).all()


def test_patterns_of_another_time_point_are_named() -> None:
    """The middle slice of the second time point has no patterns of its own either."""
    blocks = [slice_of(1), slice_of(1), without_patterns(2), without_patterns(3)]
    images = np.stack([b.reshape(-1, SIZE, SIZE) for b in blocks])
    raw = images.reshape(2, 18, SIZE, SIZE)
    volume = Volume(raw, "TZYX", (0.2, PIXEL, PIXEL), "µm", name="raw")
    given = {"order": "zap", "optics": OPTICS, "offset": 100.0}
    frames = SimFrames.from_volume(volume, angles=3, phases=3, **given)
    search = PatternSearch(frames, CONFIG, never_stop)
    for time in (0, 1):
        for plane in (0, 1):
            run_to_end(search.plane_steps(time, 0, plane))
    assert "The patterns of time point 1 are used" in search.reused_warning()
