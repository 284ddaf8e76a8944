"""Wrong patterns cause a warning, correct ones do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import run_to_end
from napari_geosr.operations.sim import (
    FramesConfig,
    PatternEstimate,
    SimConfig,
    compare_answers,
    estimate_steps,
)
from napari_geosr.operations.sim.planes import plane_steps
from napari_geosr.operations.sim.support import fourier_support
from napari_geosr.operations.sim.trust import trust_steps
from napari_geosr.sim.noise import frame_noise
from sim.sim_scenes import frames_of_scene, scene

CONFIG = SimConfig(method="wiener", threads=1)
#: Structure, signal-to-noise ratio and seed of twenty scenes.
CASES = [
    (structure, snr, seed)
    for seed in range(2)
    for structure, snr in (
        ("filaments", 5), ("rings", 5), ("er", 5), ("spots", 5), ("filaments", 20),
        ("rings", 20), ("er", 20), ("spots", 20), ("filaments", 50), ("spots", 50),
    )
]  # fmt: skip
#: Seeds of the normal run.
FEW = CASES[:4:3]


def judged(block, patterns: PatternSet, otf, config=CONFIG) -> tuple[str, ...]:
    """Warnings about patterns for these frames."""
    estimate = PatternEstimate(patterns, (), otf, frame_noise(block, otf), block)
    return run_to_end(trust_steps(block, estimate, config)).warnings


def with_first(patterns: PatternSet, **changes: object) -> PatternSet:
    first = replace(patterns.fringes[0], **changes)
    return replace(patterns, fringes=(first, *patterns.fringes[1:]))


def variants(made):
    """Frames and patterns, by kind of error."""
    block, true = made.frames - 100, made.patterns
    first = true.fringes[0]
    k = tuple(1.01 * v for v in first.wave_vector)
    phases = (first.phases[0] + np.radians(30), *first.phases[1:])
    order = np.random.default_rng(0).permutation(9)
    while (order // 3 == np.arange(9) // 3).all():
        order = np.random.default_rng(1).permutation(9)
    shuffled = block.reshape(9, *block.shape[2:])[order].reshape(block.shape)
    return {
        "wave vector": (block, with_first(true, wave_vector=k)),
        "phase": (block, with_first(true, phases=phases)),
        "order": (shuffled, true),
    }


def count(cases) -> dict[str, int]:
    """Number of cases with a warning, by kind of error in the patterns."""
    found = dict.fromkeys(("right", "found", "wave vector", "phase", "order"), 0)
    for structure, snr, seed in cases:
        made = scene(structure, snr=snr, seed=seed, size=160)
        block = made.frames - 100
        estimate = run_to_end(estimate_steps(frames_of_scene(made), FramesConfig()))
        found["right"] += bool(judged(block, made.patterns, made.otf))
        found["found"] += bool(judged(block, estimate.patterns, made.otf))
        for name, (frames, patterns) in variants(made).items():
            found[name] += bool(judged(frames, patterns, made.otf))
    return found


def test_wrong_patterns_are_reported():
    found = count(FEW)
    assert found == {
        "right": 0,
        "found": 0,
        **dict.fromkeys(("wave vector", "phase", "order"), len(FEW)),
    }


@pytest.mark.slow
def test_wrong_patterns_are_reported_in_nineteen_of_twenty_cases():
    found = count(CASES)
    assert found["right"] <= 1
    assert found["found"] <= 1
    for name in ("wave vector", "phase", "order"):
        assert found[name] >= 19, name


def test_figures_of_a_good_result():
    made = scene("filaments", snr=20, size=160)
    block = made.frames - 100
    estimate = PatternEstimate(
        made.patterns, (), made.otf, frame_noise(block, made.otf), block
    )
    trust = run_to_end(trust_steps(block, estimate, CONFIG))
    assert trust.frame_residuals.shape == (3, 3)
    assert 0.8 < trust.frame_residuals.mean() < 2.5
    assert trust.held_out > trust.frame_residuals.mean()
    assert trust.residual.shape == (160, 160)
    assert trust.frc_resolution is not None
    assert trust.widefield_frc_resolution is not None
    # The support of linear illumination reaches 1.85 times that of the objective.
    gain = trust.widefield_frc_resolution / trust.frc_resolution
    assert 1.3 < gain < 2.2
    assert trust.decorrelation_resolution is not None
    values = trust.to_json_dict()
    assert values["warnings"] == []
    assert len(values["phase_errors_degrees"]) == 3


@pytest.mark.parametrize("structure", ["filaments", "spots"])
def test_images_of_patterns_in_the_wrong_order_are_reported(structure):
    from napari_geosr.physics.illumination import IlluminationOperator, fringe_values

    made = scene(structure, snr=20, size=64)
    grid = IlluminationOperator.create(made.patterns, made.otf, 2).grid
    values = fringe_values(made.patterns, grid)[(slice(None), *grid.inside_fine)]
    images = PatternSet((), (64, 64), images=np.maximum(values, 0))
    block = made.frames - 100
    config = SimConfig(iterations=5, threads=1)
    assert judged(block, images, made.otf, config) == ()
    swapped = replace(images, images=images.images[[1, 0, *range(2, 9)]])
    warnings = judged(block, swapped, made.otf, config)
    assert len(warnings) >= 2
    assert "Frame 1 fits pattern 2 better" in warnings[0]


def test_support_of_a_result_reaches_beyond_that_of_widefield():
    made = scene("spots", snr=50, size=96)
    block = made.frames - 100
    found = {}
    for method in ("widefield", "wiener"):
        config = SimConfig(method=method, threads=1)
        image, _ = run_to_end(plane_steps(block, made.patterns, made.otf, config))
        found[method] = fourier_support(
            image, made.patterns, made.otf, 2, is_widefield=method == "widefield"
        )
    first = made.patterns.fringes[0].frequency
    assert found["widefield"].reconstruction == found["widefield"].widefield
    wiener = found["wiener"]
    assert wiener.reconstruction == pytest.approx(made.otf.cut_off + first, rel=0.02)
    f = np.fft.fftshift(np.fft.fftfreq(192, 0.5))
    radius = np.hypot(f[:, None], f)
    assert wiener.radii(f[-1]) == pytest.approx((95, 95))
    inside = (radius > 1.2 * wiener.widefield) & (radius < 0.8 * wiener.reconstruction)
    outside = radius > 1.1 * wiener.reconstruction
    medians = {
        method: [np.median(each.spectrum[part]) for part in (inside, outside)]
        for method, each in found.items()
    }
    assert medians["wiener"][0] > medians["wiener"][1] + 1
    zero = [each.spectrum[radius < 0.1].max() for each in found.values()]
    drop = [z - m[0] for z, m in zip(zero, medians.values(), strict=True)]
    assert drop[0] > drop[1] + 1


def test_answers_that_disagree_are_reported():
    made = scene("er", snr=20, size=96)
    block = made.frames - 100
    estimate = PatternEstimate(
        made.patterns, (), made.otf, frame_noise(block, made.otf), block
    )
    answers = {}
    for method in ("widefield", "wiener", "joint-rl"):
        config = SimConfig(method=method, iterations=40, threads=1)
        steps = plane_steps(block, made.patterns, made.otf, config)
        answers[method] = run_to_end(steps)[0]
    assert compare_answers(answers, estimate) == ()
    spoiled = answers["joint-rl"].copy()
    spoiled[60:110, 60:110] = spoiled[60:110, 60:110].T * 2
    found = compare_answers({**answers, "joint-rl": spoiled}, estimate)
    assert len(found) == 1
    assert found[0].startswith("Joint Richardson–Lucy differs")
