"""An untrained network that is fitted to frames of structured illumination."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import TrainingError
from napari_geosr.core.steps import run_to_end
from napari_geosr.learning.frame_fit import (
    FittedFringes,
    FrameFit,
    FrameFitSettings,
)
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.sim.planes import plane_steps
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.physics.illumination.simulation import SimScene, simulate_frames
from napari_geosr.sim.joint_rl import JointRichardsonLucy

SMALL = {"features": 4}


@pytest.fixture(scope="module")
def made():
    return simulate_frames("spots", SimScene(size=32, snr=10))


def fit_of(made, **settings) -> FrameFit:
    operator = IlluminationOperator.create(made.patterns, made.otf, 2)
    frames = torch.from_numpy(np.maximum(made.frames - 100, 0).reshape(9, 32, 32))
    start = torch.full(operator.grid.fine, float(frames.mean()))
    start[20:60, 20:60] *= 1.5
    variance = torch.full((32, 32), 100.0)
    return FrameFit(
        operator, frames, start, variance, FrameFitSettings(**SMALL, **settings)
    )


def test_it_starts_from_the_given_object(made):
    fit = fit_of(made)
    with torch.no_grad():
        torch.testing.assert_close(
            fit.image(), fit.start * fit.scale, rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize(("recipe", "n_inputs"), [("refine", 10), ("published", 9)])
def test_all_frames_and_the_start_are_channels_of_the_unet(made, recipe, n_inputs):
    fit = fit_of(made, recipe=recipe)
    assert fit.inputs.shape == (1, n_inputs, *fit.operator.grid.fine)
    assert fit.network.config.extra_channels == n_inputs - 1


def test_every_channel_reaches_the_result(made):
    fit = fit_of(made, recipe="published")
    fit.inputs.requires_grad_()
    slopes = torch.autograd.grad(fit.network(fit.inputs).sum(), fit.inputs)[0]
    assert (slopes.abs().amax(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize("recipe", ["refine", "published"])
def test_it_explains_the_frames_better_step_by_step(made, recipe):
    fit = fit_of(made, recipe=recipe)
    losses = [fit.step() for _ in range(40)]
    assert losses[-1] < 0.97 * losses[0]
    with torch.no_grad():
        assert (fit.image() >= 0).all()
    held = fit.frames + 10
    assert fit.held_out_misfit(held, torch.full((32, 32), 100.0)) > 0


def test_a_resumed_fit_gives_the_same_numbers(made):
    whole = fit_of(made)
    for _ in range(6):
        whole.step()
    first = fit_of(made)
    for _ in range(3):
        first.step()
    resumed = fit_of(made)
    resumed.restore(first.state())
    for _ in range(3):
        resumed.step()
    assert resumed.loss == whole.loss
    torch.testing.assert_close(resumed.result(), whole.result(), rtol=0, atol=0)
    with pytest.raises(TrainingError, match="different settings"):
        fit_of(made, recipe="published").restore(first.state())


def test_a_collapsed_fit_of_the_published_recipe_goes_back(made):
    fit = fit_of(made, recipe="published")
    for _ in range(30):
        fit.step()
    before = fit.loss
    with torch.no_grad():
        fit.network.get_submodule("head").bias.fill_(-10)
    assert not fit.image().any()  # black everywhere, without gradients
    assert fit.step() > before + 0.3
    assert fit.collapses == 1
    assert fit.step() < before + 0.05
    assert fit.optimiser.param_groups[0]["lr"] == pytest.approx(0.5e-3)
    resumed = fit_of(made, recipe="published")
    resumed.restore(copy.deepcopy(fit.state()))
    assert [resumed.step() for _ in range(3)] == [fit.step() for _ in range(3)]
    assert resumed.collapses == 1


@pytest.mark.parametrize("step", [10, 35])
def test_a_fit_makes_progress_after_a_collapse(made, step):
    """The step to which it goes back has a higher loss than the lowest one."""
    fit = fit_of(made, recipe="published")
    while fit.iteration < step:
        fit.step()
    lowest = fit.loss
    fit._lowest = min(fit._lowest, lowest - 0.4)
    with torch.no_grad():
        fit.network.get_submodule("head").bias.fill_(-10)
    while fit.iteration < max(step, 20) + 30:
        fit.step()
    assert fit.collapses == 1
    assert fit.loss < lowest


def test_a_fit_that_starts_from_another_goes_back_to_that_one(made):
    other = fit_of(made, recipe="published")
    for _ in range(25):
        other.step()
    fit = fit_of(made, recipe="published")
    fit.start_from(other.state())
    fit.iteration = 20  # the first steps do not count
    fit._lowest = -1.0
    before = fit.step()
    assert fit.collapses == 1
    assert fit.step() == before


def test_refine_needs_no_copy(made):
    fit = fit_of(made)
    fit.step()
    assert fit.state()["copy"] == {}


def test_checkpoints_without_a_copy_can_be_resumed(made):
    fit = fit_of(made, recipe="published")
    fit.step()
    state = copy.deepcopy(fit.state())
    for key in ("collapses", "copy", "lowest"):
        del state[key]
    resumed = fit_of(made, recipe="published")
    resumed.restore(state)
    assert resumed.step() == fit.step()


def moved_patterns(patterns):
    """Patterns whose first angle has another wave vector, phase and modulation."""
    first = patterns.fringes[0]
    ky, kx = first.wave_vector
    changed = replace(
        first,
        wave_vector=(ky + 0.3 / 32, kx - 0.2 / 32),
        phases=(first.phases[0] + 0.4, *first.phases[1:]),
        modulation=(0.8 * first.modulation[0],),
    )
    return replace(patterns, fringes=(changed, *patterns.fringes[1:]))


def test_corrected_patterns_give_the_operator_of_these_patterns(made):
    wrong = moved_patterns(made.patterns)
    operator = IlluminationOperator.create(wrong, made.otf, 2)
    fringes = FittedFringes(wrong, operator)
    image = torch.rand(operator.grid.fine, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        same = fringes.operator().forward(image)
        torch.testing.assert_close(same, operator.forward(image))
        fringes.cycles[0] = torch.tensor([-0.3, 0.2])
        fringes.phases[0, 0] = -0.4
        fringes.modulation[0, 0] = -np.log(0.8)
        right = IlluminationOperator.create(made.patterns, made.otf, 2)
        torch.testing.assert_close(
            fringes.operator().forward(image),
            right.forward(image),
            rtol=1e-3,
            atol=1e-3,
        )
    corrected = fringes.corrected(wrong).fringes[0]
    true = made.patterns.fringes[0]
    np.testing.assert_allclose(corrected.wave_vector, true.wave_vector, atol=1e-7)
    np.testing.assert_allclose(corrected.phases, true.phases, atol=1e-6)
    np.testing.assert_allclose(corrected.modulation, true.modulation, rtol=1e-6)


def test_patterns_are_fitted_after_their_step(made):
    first = made.patterns.fringes[0]
    off = replace(first, phases=(first.phases[0] + 0.3, *first.phases[1:]))
    wrong = replace(made.patterns, fringes=(off, *made.patterns.fringes[1:]))
    frames = torch.from_numpy(np.maximum(made.frames - 100, 0).reshape(9, 32, 32))
    operator = IlluminationOperator.create(wrong, made.otf, 2)
    rl = JointRichardsonLucy(operator, frames, shift=0.0)
    for _ in range(15):
        rl.step()
    settings = FrameFitSettings(**SMALL, patterns_after=5)
    variance = torch.full((32, 32), 100.0)
    fit = FrameFit(operator, frames, rl.image, variance, settings, wrong)
    for _ in range(5):
        fit.step()
    assert not fit.fringes.phases.any()
    for _ in range(100):
        fit.step()
    errors = np.subtract(fit.fringes.corrected(wrong).fringes[0].phases, first.phases)
    assert abs(errors[0] - errors[1:].mean()) < 0.2
    resumed = FrameFit(operator, frames, rl.image, variance, settings, wrong)
    resumed.restore(fit.state())
    assert resumed.step() == fit.step()


@pytest.mark.parametrize("recipe", ["refine", "published"])
def test_it_is_a_method_of_the_operation(made, recipe):
    config = SimConfig(
        method="pinn", recipe=recipe, steps=3, iterations=3, threads=1, **SMALL
    )
    steps = plane_steps(made.frames - 100, made.patterns, made.otf, config)
    image, iterations = run_to_end(steps)
    assert image.shape == (64, 64)
    assert np.isfinite(image).all()
    assert iterations == 3


def test_too_little_memory_is_said(made):
    config = SimConfig(method="pinn", iterations=3, threads=1, memory="100kB")
    with pytest.raises(Exception, match="--method joint-rl"):
        run_to_end(plane_steps(made.frames - 100, made.patterns, made.otf, config))
