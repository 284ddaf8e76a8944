"""Networks fitted to projections alone: better than FBP, same scale, resumable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import Cancelled, TrainingError
from napari_geosr.learning.sinogram_fit import (
    FitSettings,
    SinogramFit,
    field_of_view,
    fit_slices,
    roughness,
    variation,
)
from napari_geosr.physics.projection.geometry import ParallelGeometry
from napari_geosr.physics.projection.projector import project
from napari_geosr.physics.specimens.phantoms import sphere_foam
from napari_geosr.physics.tomography_simulation import cylinder_sample
from napari_geosr.tomography.algorithms import reconstruct_slices

N = 48


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scene(
    n_angles: int = 24, n: int = N
) -> tuple[torch.Tensor, ParallelGeometry, torch.Tensor, torch.Tensor]:
    """Clean slice, geometry, noisy sinogram and FBP of a foam."""
    foam = sphere_foam((6, n, n), porosity=0.3, radius=(3, 8), gap=1.0, seed=3)
    clean = torch.from_numpy(cylinder_sample(foam).attenuation[3:4]) * 0.05
    angles = np.arange(n_angles) * 180 / n_angles
    geometry = ParallelGeometry(angles, n + 8, size=n)
    lines = project(clean, geometry)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(lines.shape, generator=generator)
    sinogram = lines + 0.01 * noise * (lines / 2).exp()
    return clean, geometry, sinogram, reconstruct_slices("fbp", sinogram, geometry)


def psnr(found: torch.Tensor, clean: torch.Tensor, circle: torch.Tensor) -> float:
    error = ((found - clean) * circle).square().sum() / circle.sum()
    return float(10 * torch.log10(clean.max() ** 2 / error))


@pytest.mark.slow
def test_it_beats_fbp_in_the_same_circle_with_few_projections() -> None:
    clean, geometry, sinogram, fbp = scene()
    circle = field_of_view(geometry, "cpu")
    found = fit_slices(sinogram, geometry, fbp, FitSettings(iterations=120))
    ours, theirs = psnr(found, clean, circle), psnr(fbp, clean, circle)
    positive = psnr(fbp.clamp(min=0), clean, circle)
    assert ours > max(theirs, positive) + 1.5
    assert not found[:, circle == 0].any()
    made = project(found, geometry)
    scale = float((made * sinogram).sum() / made.square().sum())
    assert scale == pytest.approx(1, abs=1e-4)


def test_an_untrained_fit_is_near_its_start() -> None:
    """The last layer is zero, so nothing saturates before the first step."""
    _, geometry, sinogram, fbp = scene(n=24)
    fit = SinogramFit(sinogram, geometry, fbp, FitSettings())
    circle = field_of_view(geometry, "cpu")
    start = fbp.clamp(min=0) * circle
    assert np.corrcoef(fit.slices().ravel(), start.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("distance", ["jensen-shannon", "least-squares"])
def test_a_fit_goes_on_from_its_state_as_if_it_had_not_stopped(distance: Any) -> None:
    _, geometry, sinogram, fbp = scene(n=24, n_angles=10)
    settings = FitSettings(iterations=8, features=4, distance=distance)

    def begun() -> SinogramFit:
        return SinogramFit(sinogram, geometry, fbp, settings)

    whole, first, second = begun(), begun(), begun()
    for _ in range(8):
        whole.step()
    for _ in range(3):
        first.step()
    second.restore(first.state())
    while not second.done:
        second.step()
    assert torch.equal(whole.slices(), second.slices())
    assert {"critic", "adversarial"} <= whole.losses.keys()


def test_without_a_discriminator_there_is_none() -> None:
    _, geometry, sinogram, fbp = scene(n=24, n_angles=10)
    settings = FitSettings(iterations=2, features=4, adversarial=0)
    fit = SinogramFit(sinogram, geometry, fbp, settings)
    assert "critic" not in fit.step()


def test_the_discriminator_acts_on_the_generator() -> None:
    """With the adversarial loss, projections look more like measured ones."""
    _, geometry, sinogram, fbp = scene(n=24, n_angles=10)
    quiet = FitSettings(
        iterations=20, features=4, critic_rate=0.0, smoothness=0, details=0
    )
    opinions = {}
    for weight in (1e-12, 100.0):
        settings = replace(quiet, adversarial=weight)
        fit = SinogramFit(sinogram, geometry, fbp, settings)
        for _ in range(8):
            fit.step()
        opinions[weight] = fit.step()["adversarial"] / weight
    assert opinions[100.0] < 0.98 * opinions[1e-12]


def test_the_next_rows_begin_with_both_networks_of_those_before() -> None:
    _, geometry, sinogram, fbp = scene(n=24, n_angles=10)
    settings = FitSettings(iterations=4, features=4, critic_rate=1e-2)
    before, after, alone = (
        SinogramFit(sinogram, geometry, fbp, settings) for _ in range(3)
    )
    for _ in range(3):
        before.step()
    after.start_from(before)
    for name in ("generator", "critic"):
        ours, theirs, fresh = (
            torch.cat([p.detach().ravel() for p in getattr(fit, name).parameters()])
            for fit in (after, before, alone)
        )
        assert torch.equal(ours, theirs), name
        assert not torch.equal(ours, fresh), name


def test_a_state_of_other_networks_is_refused() -> None:
    _, geometry, sinogram, fbp = scene(n=24, n_angles=10)
    settings = FitSettings(iterations=2, features=4)
    state = SinogramFit(sinogram, geometry, fbp, settings).state()
    other = SinogramFit(sinogram, geometry, fbp, replace(settings, features=5))
    with pytest.raises(TrainingError, match="different settings"):
        other.restore(state)


def test_it_can_be_stopped() -> None:
    _, geometry, sinogram, fbp = scene(n=24, n_angles=10)
    seen: list[int] = []
    with pytest.raises(Cancelled):
        fit_slices(
            sinogram,
            geometry,
            fbp,
            FitSettings(features=4),
            should_stop=lambda: len(seen) == 2,
            on_iteration=lambda n, losses: seen.append(n),
        )
    assert seen == [1, 2]


def test_roughness_weighs_frequencies_and_variation_edges() -> None:
    x = torch.arange(64) * torch.pi / 4
    slow, fast = torch.sin(x / 2)[None], torch.sin(x * 2)[None]
    assert float(roughness(fast)) > 3 * float(roughness(slow))
    step = torch.zeros(1, 4, 4)
    step[:, :, 2:] = 1
    assert float(variation(step)) == pytest.approx(4 / 12)
