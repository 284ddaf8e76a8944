"""Wiener-SIM and joint Richardson–Lucy resolve details that widefield does not."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    DeviceMemoryError,
    VolumeError,
)
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.core.steps import BlockDone, PreviewReady, StageStarted, run_to_end
from napari_geosr.operations.sim import (
    SimConfig,
    estimate_steps,
    memory,
    planes,
    run_steps,
)
from napari_geosr.operations.sim.memory import plan_tiles
from napari_geosr.operations.sim.planes import (
    choose_iterations,
    most_iterations,
    plane_steps,
    trial_edge,
    widefield,
)
from napari_geosr.physics.illumination import IlluminationOperator, SimGrid
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.joint_rl import JointRichardsonLucy, best_iterations, thinned
from napari_geosr.sim.noise import frame_noise
from napari_geosr.sim.wiener import wiener_reconstruction
from sim.sim_scenes import correlation, fitted_psnr, frames_of_scene, scene

OTF = Otf(0.37)
#: Methods that take less than a minute.
METHODS = ("widefield", "wiener", "joint-rl")
THREADS = {"threads": 1, "upscale_factor": 4}


def answer(made, method: str, patterns: PatternSet | None = None, **settings):
    config = SimConfig(method=method, **THREADS, **settings)
    steps = plane_steps(made.frames - 100, patterns or made.patterns, made.otf, config)
    return run_to_end(steps)[0]


@pytest.mark.parametrize("structure", ["filaments", "er"])
def test_methods_are_better_one_after_the_other(structure):
    made = scene(structure, snr=20, size=96)
    images = [answer(made, method, iterations=40) for method in METHODS]
    found = [fitted_psnr(image, made.truth) for image in images]
    assert found[1] > found[0] + 1
    assert found[2] > found[1]
    ncc = [correlation(image, made.truth) for image in images]
    assert ncc[2] > ncc[0] + 0.1


def two_lines(distance: float) -> tuple[np.ndarray, PatternSet]:
    """Noise-free frames of two vertical lines, `distance` camera pixels apart."""
    patterns = PatternSet(
        tuple(
            FringePattern(
                (0.9 * 0.2 * np.sin(t), 0.9 * 0.2 * np.cos(t)),
                tuple(2 * np.pi * np.arange(3) / 3),
                (0.8,),
            )
            for t in (0.0, np.pi / 3, 2 * np.pi / 3)
        ),
        (96, 96),
    )
    operator = IlluminationOperator.create(patterns, Otf(0.2), 2)
    image = torch.zeros(operator.grid.fine)
    columns = operator.grid.inside_fine[1]
    middle = (columns.start + columns.stop) // 2
    half = round(distance)  # fine pixels are half as wide
    image[:, [middle - half // 2, middle - half // 2 + half]] = 100.0
    frames = operator.forward(image).clamp(min=0).numpy()
    return frames.reshape(3, 3, 96, 96), patterns


def valley(image: np.ndarray, distance: float) -> float:
    """Brightness between two lines, relative to that of the lines."""
    profile = image[40:-40].mean(axis=0)
    n, half = len(profile) // 2, round(distance)
    left = n - half // 2
    peaks = min(profile[left], profile[left + half])
    return float(profile[left + half // 2 : left + half // 2 + 2].mean() / peaks)


def test_two_lines_closer_than_abbe_are_resolved():
    """0.7 times the period of the cut-off, 5 pixels: merged in widefield."""
    distance = 2 * 0.7 * 5
    frames, patterns = two_lines(distance)
    assert valley(widefield(frames, 2), distance) > 0.95
    wiener = wiener_reconstruction(
        frames, patterns, Otf(0.2), 2, noise=0.0, regularisation=0.02
    )
    assert valley(wiener, distance) <= 0.4
    config = SimConfig(iterations=60, threads=1)
    joint, _ = run_to_end(plane_steps(frames, patterns, Otf(0.2), config))
    assert valley(joint, distance) <= 0.2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(61, 50), (48, 63)])
def test_odd_sizes_keep_their_place(method, shape):
    """A point in the middle remains there on the finer grid."""
    patterns = PatternSet(
        tuple(FringePattern(k, (0.0, 2.1, 4.2)) for k in ((0.2, 0.1), (-0.1, 0.25))),
        shape,
    )
    operator = IlluminationOperator.create(patterns, Otf(0.3), 2)
    y, x = operator.grid.positions()
    spot = np.exp(-0.5 * ((y - 3) ** 2 + (x + 4) ** 2) / 1.5**2).astype(np.float32)
    frames = 1000 * operator.forward(torch.from_numpy(spot)).numpy() + 1
    config = SimConfig(method=method, iterations=10, regularisation=0.1, threads=1)
    steps = plane_steps(frames.reshape(2, 3, *shape), patterns, Otf(0.3), config)
    image, _ = run_to_end(steps)
    assert image.shape == (2 * shape[0], 2 * shape[1])
    bright = np.maximum(image - 0.4 * image.max(), 0)
    centre = [
        (bright.sum(axis=1 - a) * np.arange(n)).sum() / bright.sum()
        for a, n in enumerate(image.shape)
    ]
    expected = [
        2 * ((n - 1) / 2 + d) + 0.5 for n, d in zip(shape, (3, -4), strict=True)
    ]
    np.testing.assert_allclose(centre, expected, atol=0.15)


def test_nonlinear_illumination_resolves_more():
    settings = {"snr": 0.0, "angles": 5, "phases": 7, "cut_off": 0.3, "size": 96}
    made = scene("spots", response="saturated", saturation=6.0, **settings)
    full = made.patterns
    linear = PatternSet(
        tuple(
            FringePattern(f.wave_vector, f.phases, f.modulation[:1], f.intensity)
            for f in full.fringes
        ),
        full.shape,
    )
    three = PatternSet(
        tuple(
            FringePattern(f.wave_vector, f.phases, f.modulation[:3], f.intensity)
            for f in full.fringes
        ),
        full.shape,
    )
    options = {"regularisation": 0.01}
    one, more = (
        correlation(answer(made, "wiener", p, **options), made.truth)
        for p in (linear, three)
    )
    assert more > one + 0.05


@pytest.mark.parametrize(
    ("phases", "harmonics", "saturation"), [(5, 2, 2.0), (9, 3, 4.0)]
)
def test_few_and_many_phases_of_nonlinear_frames(phases, harmonics, saturation):
    """Five angles; the patterns are found in the frames."""
    nonlinear = {"response": "saturated", "saturation": saturation, "snr": 30}
    made = scene("er", angles=5, phases=phases, size=64, **nonlinear)
    frames = frames_of_scene(made)
    config = SimConfig(
        method="wiener", harmonics=harmonics, iterations=20, checks=False, **THREADS
    )
    estimate = run_to_end(estimate_steps(frames, config))
    assert not estimate.problems
    ncc = {}
    for method in METHODS:
        settings = config.model_copy(update={"method": method})
        result = run_to_end(run_steps(frames, settings, patterns=estimate))
        ncc[method] = correlation(np.asarray(result.volume), made.truth)
    assert ncc["wiener"] > ncc["widefield"] + 0.25
    assert ncc["joint-rl"] > ncc["widefield"] + 0.1


def test_iterations_are_chosen_by_held_out_photons():
    """Close to the best number, which is known from the truth, at two noise levels."""
    chosen = []
    for snr in (2, 10):
        made = scene("filaments", snr=snr, size=96)
        block = made.frames - 100
        noise = frame_noise(block, OTF)
        operator = IlluminationOperator.create(made.patterns, OTF, 4)
        flat = np.maximum(block.reshape(9, 96, 96), 0)
        steps = best_iterations(
            operator,
            flat,
            noise.weights(block.mean(axis=(0, 1))),
            most=60,
            shift=noise.shift,
        )
        chosen.append(run_to_end(steps).best)
        fit = JointRichardsonLucy(operator, torch.from_numpy(flat), shift=noise.shift)
        quality = []
        for _ in range(60):
            with torch.inference_mode():
                fit.step()
            quality.append(fitted_psnr(fit.result(), made.truth))
        assert quality[chosen[-1] - 1] > max(quality) - 0.35
    assert chosen[1] > chosen[0]


def test_harmonics_decide_how_many_iterations_are_tried():
    one = FringePattern((0.0, 0.3), (0.0, 2.1, 4.2), (0.5,))
    two = FringePattern((0.0, 0.3), (0.0, 1.3, 2.5, 3.8, 5.0), (0.5, 0.1))
    assert most_iterations(PatternSet((one,), (32, 32))) == 300
    assert most_iterations(PatternSet((two,), (32, 32))) == 1000


@pytest.mark.slow
def test_nonlinear_frames_gain_from_more_iterations():
    """Higher harmonics are weak, and 300 iterations end too early."""
    settings = {"angles": 3, "phases": 7, "cut_off": 0.37, "size": 40, "snr": 20}
    made = scene("rings", response="saturated", saturation=6.0, **settings)
    fringes = tuple(
        FringePattern(f.wave_vector, f.phases, f.modulation[:3], f.intensity)
        for f in made.patterns.fringes
    )
    nonlinear = PatternSet(fringes, made.patterns.shape)
    plane = made.frames - 100, nonlinear, made.otf
    chosen = run_to_end(plane_steps(*plane, SimConfig(**THREADS)))
    assert 300 < chosen[1] <= 1000
    few = run_to_end(plane_steps(*plane, SimConfig(iterations=300, **THREADS)))
    gain = fitted_psnr(chosen[0], made.truth) - fitted_psnr(few[0], made.truth)
    assert gain > 0.5


def test_a_network_is_previewed_in_its_place(monkeypatch):
    monkeypatch.setattr(planes, "_PREVIEW_SECONDS", 0.0)
    made = scene("filaments", snr=20, size=96)
    config = SimConfig(
        method="pinn", recipe="published", steps=3, features=4, iterations=1,
        checks=False, threads=1, device="cpu",
    )  # fmt: skip
    seen = []
    result = run_to_end(run_steps(frames_of_scene(made), config), seen.append)
    previews = [step for step in seen if isinstance(step, PreviewReady)]
    assert [(step.done, step.total) for step in previews] == [
        (333, 1000),
        (666, 1000),
        (1000, 1000),
    ]
    for step in previews:
        assert step.volume.voxel_size == result.volume.voxel_size
        assert step.volume.origin == result.volume.origin
    images = [np.asarray(step.volume.data) for step in previews]
    np.testing.assert_array_equal(images[-1], np.asarray(result.volume.data))
    assert not np.array_equal(images[0], images[1])


def test_choice_of_iterations_ends_early_and_shows_its_progress():
    made = scene("filaments", snr=3, size=64)
    plane = made.frames - 100, made.patterns, made.otf
    seen = []
    n = run_to_end(
        choose_iterations(*plane, SimConfig(threads=1), "cpu", lambda: False),
        seen.append,
    )
    counts = [step for step in seen if isinstance(step, BlockDone)]
    assert [step.done for step in counts] == list(range(1, len(counts) + 1))
    assert counts[-1].total == 300
    assert n <= len(counts) < 150
    stages = [step.message for step in seen if isinstance(step, StageStarted)]
    assert stages == ["Choosing the number of iterations", "Joint Richardson–Lucy"]
    calls = iter(range(100))
    steps = choose_iterations(
        *plane, SimConfig(threads=1), "cpu", lambda: next(calls) > 3
    )
    with pytest.raises(Cancelled, match="iterations was being chosen"):
        run_to_end(steps)


def test_many_frames_are_tried_on_a_smaller_part():
    """The grey values for 25 frames equal those for 9."""
    assert trial_edge(np.zeros((3, 3, 1, 1), np.float32)) == 192
    assert trial_edge(np.zeros((5, 5, 1, 1), np.float32)) == 115
    assert trial_edge(np.zeros((9, 15, 1, 1), np.float32)) == 64


def test_thinned_halves_have_independent_noise():
    rng = np.random.default_rng(1)
    noise = 3 * rng.standard_normal((4, 64, 64)).astype(np.float32)
    one, other = thinned(100 + noise, np.full((64, 64), 9.0, np.float32))
    assert np.corrcoef((one - 100).ravel(), (other - 100).ravel())[0, 1] == (
        pytest.approx(0, abs=0.03)
    )
    np.testing.assert_allclose((one + other) / 2, 100 + noise, rtol=1e-5)


def test_total_variation_smooths():
    made = scene("filaments", snr=2, size=96)
    rough, smooth = (
        answer(made, "joint-rl", iterations=80, tv=tv) for tv in (0.0, 0.01)
    )
    assert np.abs(np.diff(smooth)).mean() < 0.9 * np.abs(np.diff(rough)).mean()
    assert fitted_psnr(smooth, made.truth) > fitted_psnr(rough, made.truth)


def test_haze_is_suppressed_by_the_notch():
    made = scene("filaments", snr=30, haze=2.0)
    plain, notched = (
        answer(made, "wiener", notch=value, regularisation=0.1) for value in (0.0, 0.9)
    )
    assert correlation(notched, made.truth) > correlation(plain, made.truth)


@pytest.mark.parametrize("notch", [0.0, 0.9])
@pytest.mark.parametrize("regularisation", [0.0, 0.1, 10.0])
def test_regularisation_keeps_the_brightness(regularisation, notch):
    """Even 0, with which frequencies without any signal were divided by zero."""
    made = scene("er", snr=20, size=96)
    image = answer(made, "wiener", notch=notch, regularisation=regularisation)
    mean = float((made.frames - 100).mean())
    assert np.isfinite(image).all()
    assert image.mean() == pytest.approx(mean, rel=0.02)
    if regularisation:
        assert correlation(image, made.truth) > 0.45


def test_results_with_nan_are_refused(monkeypatch):
    made = scene("er", snr=20, size=96)
    broken = np.full((192, 192), np.nan, np.float32)
    monkeypatch.setattr(planes, "wiener_reconstruction", lambda *_, **__: broken)
    with pytest.raises(VolumeError, match="Wiener-SIM failed: 36864 of 36864 pixels"):
        answer(made, "wiener")


def test_images_as_patterns():
    """Joint Richardson–Lucy accepts known patterns of any kind; Wiener does not."""
    rng = np.random.default_rng(0)
    fine = 128
    speckle = rng.random((12, fine, fine)).astype(np.float32)
    spectrum = np.fft.fft2(speckle) * Otf(0.3).at(
        np.fft.fftfreq(fine)[:, None], np.fft.fftfreq(fine)[None]
    )
    speckle = np.clip(np.fft.ifft2(spectrum).real - 0.45, 0, None).astype(np.float32)
    patterns = PatternSet((), (64, 64), images=speckle / speckle.mean())
    operator = IlluminationOperator.create(patterns, Otf(0.3), 2)
    truth = np.zeros(operator.grid.fine, np.float32)
    places = rng.integers(40, min(truth.shape) - 40, (60, 2))
    truth[tuple(places.T)] = 100
    frames = operator.forward(torch.from_numpy(truth)).clamp(min=0).numpy()
    config = SimConfig(iterations=60, threads=1)
    block = frames.reshape(4, 3, 64, 64)
    image, _ = run_to_end(plane_steps(block, patterns, Otf(0.3), config))
    inside = truth[operator.grid.inside_fine]
    assert correlation(image, inside) > correlation(widefield(block, 2), inside) + 0.2
    with pytest.raises(ConfigError, match="joint Richardson"):
        run_to_end(
            plane_steps(
                block, patterns, Otf(0.3), SimConfig(method="wiener", threads=1)
            )
        )


def test_tiles_give_the_same_result():
    made = scene("filaments", snr=20, size=200)
    block = made.frames - 100
    whole, tiled = (
        run_to_end(
            plane_steps(
                block,
                made.patterns,
                made.otf,
                SimConfig(iterations=20, threads=1, memory=memory),
            )
        )[0]
        for memory in ("1GB", "8MB")
    )
    assert np.abs(tiled - whole).max() < 0.01 * whole.max()


def test_tiles_cover_a_plane_and_fit():
    tiles = plan_tiles(
        (200, 301), pixel_bytes=256, budget=8 * 10**6, halo=20, margin=40
    )
    assert len(tiles) > 1
    seen = np.zeros((200, 301), int)
    for core, window in tiles:
        seen[core] += 1
        size = [w.stop - w.start + 40 for w in window]
        assert size[0] * size[1] * 256 <= 8 * 10**6
    assert (seen == 1).all()
    assert (
        len(plan_tiles((200, 301), pixel_bytes=1, budget=10**8, halo=20, margin=40))
        == 1
    )
    with pytest.raises(DeviceMemoryError, match="--memory"):
        plan_tiles((200, 301), pixel_bytes=256, budget=10**4, halo=20, margin=40)


def test_a_run_can_be_cancelled():
    made = scene()
    config = SimConfig(iterations=50, threads=1)
    calls = iter(range(100))
    steps = plane_steps(
        made.frames - 100,
        made.patterns,
        made.otf,
        config,
        should_stop=lambda: next(calls) > 3,
    )
    with pytest.raises(Cancelled):
        run_to_end(steps)


def test_the_memory_of_a_cuda_device_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda d: {"cpu": 100, "cuda": 8}[d])
    assert memory.memory_budget(SimConfig(), "cuda") == 4
    assert memory.memory_budget(SimConfig(), "cpu") == 50
    assert memory.memory_budget(SimConfig(memory="2GB"), "cuda") == 2 * 10**9


def test_wiener_keeps_to_the_memory():
    made = scene("er", snr=20)
    plane = made.frames - 100, made.patterns, made.otf
    config = SimConfig(method="wiener", threads=1, memory="5MB")
    with pytest.raises(DeviceMemoryError, match="Wiener-SIM needs .*5 MB allowed"):
        run_to_end(plane_steps(*plane, config))


@pytest.mark.parametrize(
    ("upscale", "phases", "harmonics", "notch"),
    [(1, 3, 1, 0.0), (1, 9, 1, 0.9), (1, 9, 3, 0.0), (2, 3, 1, 0.9), (4, 3, 1, 0.0)],
)
def test_the_estimated_memory_holds_wiener_reconstructions(
    upscale, phases, harmonics, notch
):
    """Also without upscaling and with many phases."""
    turns = tuple(2 * np.pi * np.arange(phases) / phases)
    fringes = tuple(
        FringePattern((0.3 * np.sin(a), 0.3 * np.cos(a)), turns, (0.8,) * harmonics)
        for a in (0.1, 1.2, 2.3)
    )
    patterns = PatternSet(fringes, (200, 200))
    frames = np.ones((3, phases, 200, 200), np.float32)
    grid = SimGrid.around(patterns.shape, upscale, OTF.cut_off)
    tracemalloc.start()
    wiener_reconstruction(frames, patterns, OTF, upscale, noise=0.1, notch=notch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    estimated = memory.wiener_bytes(grid, harmonics)
    assert 0.6 * estimated < peak < estimated


def test_the_estimated_memory_holds_the_pattern_terms():
    """The terms are computed in place: two copies would exceed the estimate."""
    fringes = tuple(
        FringePattern((0.3 * np.sin(a), 0.3 * np.cos(a)), (0.0,) * 7, (0.9, 0.4, 0.2))
        for a in np.linspace(0, 2.5, 5)
    )
    patterns = PatternSet(fringes, (64, 64))
    tracemalloc.start()
    operator = IlluminationOperator.create(patterns, Otf(0.37), 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert operator.basis.shape[0] == memory.n_terms(patterns) == 31
    assert peak < 1.2 * operator.basis.nbytes
    per_pixel = operator.basis.nbytes / np.prod(operator.grid.padded)
    assert memory.pixel_bytes(35, 31, 4) > 1.3 * per_pixel
    assert operator.grid.padded[0] - 64 <= memory.grid_margin(Otf(0.37))
    # The harmonics of the last angle, at a point of the fine grid.
    y, x = (
        v.ravel()[i] for v, i in zip(operator.grid.positions(), (7, 9), strict=True)
    )
    turn = 2 * np.pi * np.dot(fringes[-1].wave_vector, (y, x))
    expected = [v for h in (1, 2, 3) for v in (np.cos(h * turn), np.sin(h * turn))]
    np.testing.assert_allclose(operator.basis[-6:, 7, 9], expected, atol=1e-5)
