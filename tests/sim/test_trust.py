"""Wrong patterns and bad results cause a warning, good ones do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.operations.sim import (
    FramesConfig,
    PatternEstimate,
    SimConfig,
    compare_answers,
    estimate_steps,
    run_steps,
)
from napari_geosr.operations.sim.planes import plane_steps
from napari_geosr.operations.sim.trust import SimTrust, trust_steps
from napari_geosr.operations.sim.trust.causes import offset_warnings, result_advice
from napari_geosr.operations.sim.trust.support import (
    fourier_support,
    highest_frequency,
)
from napari_geosr.sim.noise import dark_level, frame_noise
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


def estimate_of(made, patterns: PatternSet | None = None) -> PatternEstimate:
    """Given patterns for simulated frames; by default the true ones."""
    block = made.frames - 100
    return PatternEstimate(
        patterns or made.patterns, (), made.otf, frame_noise(block, made.otf), block
    )


def checked(estimate: PatternEstimate, config=CONFIG, **settings: object) -> SimTrust:
    """Checks of a reconstruction of the frames of an estimate."""
    block = estimate.block
    steps = plane_steps(block, estimate.patterns, estimate.otf, config)
    image, used = run_to_end(steps)
    return run_to_end(
        trust_steps(image, block, estimate, config, iterations=used, **settings)
    )


def judged(block, patterns: PatternSet, otf, config=CONFIG) -> tuple[str, ...]:
    """Warnings about patterns for these frames."""
    estimate = PatternEstimate(patterns, (), otf, frame_noise(block, otf), block)
    return checked(estimate, config, has_resolution=False).warnings


def with_first(patterns: PatternSet, **changes: object) -> PatternSet:
    first = replace(patterns.fringes[0], **changes)
    return replace(patterns, fringes=(first, *patterns.fringes[1:]))


def shuffled(made, number: int):
    """The same scene with frames in another order that mixes the angles."""
    rng = np.random.default_rng(number)
    orders = (rng.permutation(9) for _ in range(100))
    order = next(o for o in orders if np.ptp(o.reshape(3, 3) // 3, axis=1).any())
    frames = made.frames.reshape(9, *made.frames.shape[2:])[order]
    return replace(made, frames=frames.reshape(made.frames.shape))


def variants(made, number: int):
    """Frames and patterns, by kind of error."""
    block, true = made.frames - 100, made.patterns
    first = true.fringes[0]
    k = tuple(1.01 * v for v in first.wave_vector)
    phases = (first.phases[0] + np.radians(30), *first.phases[1:])
    changed = {f"modulation {m}": m for m in (0.2, 0.5, 1.5)}
    return {
        "wave vector": (block, with_first(true, wave_vector=k)),
        "phase": (block, with_first(true, phases=phases)),
        "order": (shuffled(made, number).frames - 100, true),
        **{
            name: (block, with_first(true, modulation=(m,)))
            for name, m in changed.items()
        },
    }


#: Errors in the patterns or frames, each of which must cause a warning.
WRONG = (
    "wave vector", "phase", "order", "estimated order", "modulation 0.2",
    "modulation 0.5", "modulation 1.5",
)  # fmt: skip


def is_reported(made) -> bool:
    """Whether patterns are refused or doubted if they are estimated from the frames."""
    said = []
    steps = estimate_steps(frames_of_scene(made), FramesConfig())
    estimate = run_to_end(steps, said.append)
    if estimate.problems or any(isinstance(step, WarningIssued) for step in said):
        return True
    return bool(checked(estimate, has_resolution=False).warnings)


def count(cases) -> dict[str, int]:
    """Number of cases with a warning, by kind of error in the patterns."""
    found = dict.fromkeys(("right", "found", *WRONG), 0)
    for number, (structure, snr, seed) in enumerate(cases):
        made = scene(structure, snr=snr, seed=seed, size=160)
        block = made.frames - 100
        found["right"] += bool(judged(block, made.patterns, made.otf))
        found["found"] += is_reported(made)
        found["estimated order"] += is_reported(shuffled(made, number))
        for name, (frames, patterns) in variants(made, number).items():
            found[name] += bool(judged(frames, patterns, made.otf))
    return found


def test_wrong_patterns_are_reported():
    found = count(FEW)
    assert found == {
        "right": 0,
        "found": 0,
        **dict.fromkeys(WRONG, len(FEW)),
    }


@pytest.mark.slow
def test_wrong_patterns_are_reported_in_nineteen_of_twenty_cases():
    found = count(CASES)
    assert found["right"] <= 1
    assert found["found"] <= 1
    for name in WRONG:
        assert found[name] >= 19, name


def test_figures_of_a_good_result():
    trust = checked(estimate_of(scene("filaments", snr=20, size=160)))
    assert trust.frame_residuals.shape == trust.pattern_residuals.shape == (3, 3)
    # The border, where light from outside is missing, is left out.
    assert trust.residual.shape == (150, 150)
    assert trust.place[0] == slice(5, 155)
    assert np.sqrt(np.mean(trust.residual**2)) == pytest.approx(trust.rms, rel=1e-3)
    assert trust.modulation == pytest.approx(0.9, abs=0.03)
    assert trust.frc_resolution is not None
    assert trust.widefield_frc_resolution is not None
    # The support of linear illumination reaches 1.85 times that of the objective.
    gain = trust.widefield_frc_resolution / trust.frc_resolution
    assert 1.3 < gain < 2.2
    assert trust.decorrelation_resolution is not None
    values = trust.to_json_dict()
    assert values["warnings"] == []
    assert values["held_out"] is None
    assert "all 3 phases" in values["no_value"]["held_out"]
    assert len(values["phase_errors_degrees"]) == 3


#: Results that do not explain the frames, by method.
BAD = {
    "wiener": {"regularisation": 10},
    "joint-rl": {"iterations": 1},
    "pinn": {"iterations": 10, "steps": 2, "features": 4, "recipe": "published"},
}


@pytest.mark.parametrize(("structure", "snr"), [("spots", 5), ("er", 20)])
def test_the_residual_is_that_of_the_result(structure, snr):
    estimate = estimate_of(scene(structure, snr=snr, size=96))
    found = {}
    for method, settings in (
        ("wiener", {}), ("joint-rl", {"iterations": 100}), *BAD.items()
    ):  # fmt: skip
        config = SimConfig(method=method, threads=1, **settings)
        trust = checked(estimate, config, has_resolution=False)
        is_bad = settings is BAD.get(method)
        assert bool(trust.warnings) == is_bad, (method, settings)
        found.setdefault(is_bad, []).append(trust.rms)
        found.setdefault("patterns", []).append(trust.pattern_residuals.mean())
    assert all(0.85 < rms < 1.15 for rms in found[False])
    assert min(found[True]) > 1.4 * max(found[False])
    # That of the patterns does not depend on the method.
    assert np.ptp(found["patterns"]) == 0


def test_a_part_of_a_large_result_is_checked_like_the_whole():
    """The checked part ends inside the image, where the object continues."""
    made = scene("filaments", snr=20, size=256)
    estimate = estimate_of(made)
    trust = checked(estimate, has_resolution=False)
    assert 100 < trust.residual.shape[0] <= 192
    assert 0.85 < trust.rms < 1.1
    assert trust.residual[:3].mean() < 1.3 * trust.residual.mean()


def test_widefield_has_a_residual_but_no_other_method_under_its_name():
    estimate = estimate_of(scene("er", snr=20))
    config = SimConfig(method="widefield", threads=1)
    trust = checked(estimate, config)
    assert 1.5 < trust.rms < 4
    assert trust.warnings == ()
    assert trust.held_out is None
    assert "stripes" in trust.reasons["held_out"]
    assert trust.frc_resolution == pytest.approx(trust.widefield_frc_resolution)


@pytest.mark.parametrize("snr", [0, 20, 50])
@pytest.mark.parametrize("factor", [2, 4])
def test_no_linear_method_resolves_detail_beyond_its_support(snr, factor):
    """Leakage beyond the support is alike in both halves, and correlates."""
    estimate = estimate_of(scene("filaments", snr=snr))
    otf, edge = estimate.otf, estimate.patterns.pixel_size
    limit = otf.cut_off + highest_frequency(estimate.patterns)
    config = SimConfig(method="wiener", threads=1, upscale_factor=factor)
    trust = checked(estimate, config)
    assert 1 <= trust.frc_resolution * limit / edge * (1 + 1e-6) < 1.2
    assert 1 <= trust.widefield_frc_resolution * otf.cut_off / edge * (1 + 1e-6) < 1.2


def test_figures_of_a_network_are_its_own():
    estimate = estimate_of(scene("spots", snr=20, size=96))
    config = SimConfig(method="pinn", threads=1, **BAD["pinn"])
    trust = checked(estimate, config)
    assert trust.frc_resolution is trust.held_out is None
    assert set(trust.reasons) >= {"frc_resolution", "held_out"}
    rubbish = np.random.default_rng(0).random((192, 192)).astype(np.float32)
    steps = trust_steps(rubbish, estimate.block, estimate, config)
    other = run_to_end(steps)
    assert other.decorrelation_resolution != trust.decorrelation_resolution
    assert abs(other.rms - trust.rms) > 1


def test_held_out_frames_are_predicted_with_the_settings_of_the_run():
    estimate = estimate_of(scene("er", snr=20, phases=5, size=96))
    found = {}
    for method, settings in (
        ("wiener", {}), ("wiener", BAD["wiener"]), ("joint-rl", {"iterations": 60}),
        ("joint-rl", BAD["joint-rl"]), ("joint-rl", {"iterations": 60, "tv": 0.5}),
    ):  # fmt: skip
        config = SimConfig(method=method, threads=1, **settings)
        trust = checked(estimate, config, has_resolution=False)
        assert "held_out" not in trust.reasons
        found[method, *settings.values()] = trust.held_out / trust.rms, trust.held_out
    assert all(0.98 < ratio < 1.4 for ratio, _ in found.values())
    good, bad = found["wiener",], found["wiener", 10]
    assert good[1] < 1.3 < 3 < bad[1]
    good, one, smooth = (found["joint-rl", *key] for key in ((60,), (1,), (60, 0.5)))
    assert good[1] < 1.6 < 3 < min(one[1], smooth[1])


def test_a_wrong_modulation_is_reported_with_both_numbers():
    made = scene("rings", snr=10)
    wrong = with_first(made.patterns, modulation=(0.5,))
    warnings = judged(made.frames - 100, wrong, made.otf)
    assert len(warnings) == 1
    assert "Angle 1: the modulation of the pattern is 0.50, but " in warnings[0]
    measured = float(warnings[0].split(", but ")[1].split()[0])
    assert measured == pytest.approx(0.9, abs=0.05)
    assert "offset" not in warnings[0]  # the modulation does not depend on it


@pytest.mark.parametrize("kind", ["wave vector", "phase", "modulation 0.5"])
@pytest.mark.parametrize("is_found", [False, True])
def test_warnings_about_patterns_say_what_to_do(kind, is_found):
    made = scene("er", snr=20, size=96)
    frames, wrong = variants(made, 0)[kind]
    estimate = run_to_end(estimate_steps(frames_of_scene(made), FramesConfig()))
    fits = estimate.fits if is_found else ()
    estimate = replace(estimate, block=frames, patterns=wrong, fits=fits)
    warning = checked(estimate, has_resolution=False).warnings[0]
    assert warning.startswith("Angle 1")
    assert ("Omit --patterns" in warning) == (not is_found)
    assert ("spectrum of the SIM dock" in warning) == is_found


@pytest.mark.parametrize(("structure", "snr"), [("er", 5), ("spots", 20)])
def test_wave_vectors_far_from_the_pattern_get_no_small_error(structure, snr):
    made = scene(structure, snr=snr)
    true = np.array(made.patterns.fringes[0].wave_vector)

    def warning(k) -> tuple[str, SimTrust]:
        """The warning about the wave vector of the first angle, and all checks."""
        given = estimate_of(made, with_first(made.patterns, wave_vector=tuple(k)))
        trust = checked(given, has_resolution=False)
        words = ("differs by", "no clear pattern near")
        return next(t for t in trust.warnings if any(w in t for w in words)), trust

    turned = 1.15 * 0.37 * np.array([[0, 1], [-1, 0]]) @ true / np.linalg.norm(true)
    text, trust = warning(turned)
    assert text.startswith("Angle 1: there is no clear pattern near the one used (conf")
    assert "Omit --patterns" in text
    assert np.isnan(trust.wave_vector_errors).tolist() == [True, False, False]
    assert "Angle 1" in trust.to_json_dict()["no_value"]["wave_vector_errors_cycles"]
    cycle = true / np.linalg.norm(true) / 128
    assert "differs by at least 2.9" in warning(true + 2.9 * cycle)[0]
    assert "differs by 1.0" in warning(true + cycle)[0]


@pytest.mark.parametrize("structure", ["filaments", "spots"])
def test_images_of_patterns_in_the_wrong_order_are_reported(structure):
    from napari_geosr.physics.illumination import IlluminationOperator, fringe_values

    made = scene(structure, snr=20, size=64)
    grid = IlluminationOperator.create(made.patterns, made.otf, 2).grid
    values = fringe_values(made.patterns, grid)[(slice(None), *grid.inside_fine)]
    images = PatternSet((), (64, 64), images=np.maximum(values, 0))
    block = made.frames - 100
    config = SimConfig(iterations=15, threads=1)
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
    estimate = estimate_of(made)
    block = estimate.block
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


@pytest.mark.parametrize("settings", [{"method": "wiener"}, {"iterations": 40}])
def test_a_hot_pixel_does_not_make_the_patterns_look_wrong(settings):
    made = scene("er", snr=20)
    spoiled = made.frames.copy()
    spoiled[:, :, 60, 41] = 60000
    config = SimConfig(threads=1, **settings)
    seen: list[object] = []
    frames = frames_of_scene(replace(made, frames=spoiled))
    result = run_to_end(run_steps(frames, config), seen.append)
    trust = result.checks
    assert trust is not None
    assert trust.warnings == ()
    assert trust.rms < 1.5
    assert trust.modulation == pytest.approx(
        [f.modulation[0] for f in made.patterns.fringes], abs=0.1
    )
    texts = [each.message for each in seen if isinstance(each, WarningIssued)]
    assert sum("hot pixel" in text for text in texts) == 1


@pytest.mark.parametrize("structure", ["filaments", "rings", "er", "spots"])
@pytest.mark.parametrize("snr", [5, 20, 85])
def test_an_offset_above_the_darkest_parts_is_reported(structure, snr):
    estimate = estimate_of(scene(structure, snr=snr, size=96))
    block = estimate.block
    assert offset_warnings(block, estimate) == []
    level = dark_level(block.reshape(-1, 96, 96))
    assert level is not None
    noise = float(np.sqrt(estimate.noise.weights(np.float32(level))))
    assert offset_warnings(block - level - noise, estimate) == []
    found = offset_warnings(block - level - 3 * noise, estimate)
    assert len(found) == 1
    assert "The offset is too high" in found[0]


@pytest.mark.parametrize("pixels", [0, 1])
def test_motion_between_the_angles_is_named(pixels):
    made = scene("filaments", snr=50)
    block = (made.frames - 100).copy()
    for angle in range(3):
        block[angle] = np.roll(block[angle], pixels * angle, axis=-1)
    warnings = judged(block, made.patterns, made.otf)
    assert any("moved: the mean" in w for w in warnings) == bool(pixels)


def test_settings_are_named_only_if_they_can_be_the_cause():
    block = scene("filaments", snr=50).frames - 100
    config = SimConfig(method="joint-rl", iterations=60, threads=1)
    assert "--iterations" in result_advice(block, config)
    for other in (config, SimConfig(method="joint-rl", threads=1)):
        said = result_advice(block, other, settings_matter=False)
        assert said.startswith("Possible causes")
