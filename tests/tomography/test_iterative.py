"""SIRT, CGLS and TV converge to the correct result, slice by slice."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from napari_geosr.core.errors import Cancelled, ConfigError, ProjectionsError
from napari_geosr.physics.projection import projector
from napari_geosr.physics.projection.geometry import (
    ConeGeometry,
    FanGeometry,
    ParallelGeometry,
)
from napari_geosr.physics.projection.projector import project
from napari_geosr.tomography import iterations as iterations_module
from napari_geosr.tomography.algorithms import (
    ALGORITHMS,
    beam_of,
    cgls,
    config_class,
    reconstruct_slices,
    titles,
)
from napari_geosr.tomography.iterations import Iteration, widest_dtype

N = 64
#: Centre (y, x) relative to the axis, radius, attenuation per pixel.
PARTS = ((0.0, 0.0, 28.0, 0.02), (-8.0, 6.0, 9.0, 0.01), (11.0, -9.0, 5.0, -0.015))
FEW_ANGLES = np.linspace(0, 180, 24, endpoint=False)
SMALL = ParallelGeometry(FEW_ANGLES, 32, 14.8, 30)
ITERATIVE = ("sirt", "cgls", "tv")


def image(parts: Any = PARTS, n: int = N) -> torch.Tensor:
    """The discs with soft edges, (N, N)."""
    y, x = (np.mgrid[: 4 * n, : 4 * n] + 0.5) / 4 - n / 2
    fine = sum(v * ((y - b) ** 2 + (x - a) ** 2 < r**2) for b, a, r, v in parts)
    return torch.from_numpy(fine.reshape(n, 4, n, 4).mean((1, 3)).astype(np.float32))


def relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Norm of the error relative to that of the truth."""
    return float((found - truth).norm() / truth.norm())


def run(name: str, sinogram: Any, geometry: Any, **values: Any) -> torch.Tensor:
    return reconstruct_slices(
        name, sinogram, geometry, config_class(name).create(**values)
    )


@pytest.fixture(scope="module")
def noisy() -> tuple[torch.Tensor, ParallelGeometry]:
    geometry = ParallelGeometry(FEW_ANGLES, N)
    sinogram = project(image(), geometry)[None]
    noise = torch.randn(sinogram.shape, generator=torch.Generator().manual_seed(0))
    return sinogram + 0.01 * sinogram.max() * noise, geometry


@pytest.mark.parametrize("name", ITERATIVE)
def test_residuals_fall(name: str) -> None:
    truth = torch.rand(3, 30, 30)
    seen: list[Iteration] = []
    reconstruct_slices(
        name,
        project(truth, SMALL),
        SMALL,
        config_class(name).create(iterations=40),
        on_iteration=seen.append,
    )
    assert [step.done for step in seen] == list(range(1, 41))
    residuals = [step.residual or 0.0 for step in seen]
    assert residuals[0] == pytest.approx(1)
    assert residuals[-1] < 0.1
    if name != "tv":  # the primal-dual method may increase temporarily
        assert all(b <= a * 1.001 for a, b in pairwise(residuals))


@pytest.mark.parametrize("name", ["sirt", "cgls"])
def test_enough_views_give_the_truth_back(name: str) -> None:
    geometry = ParallelGeometry(np.linspace(0, 180, 60, endpoint=False), 24, size=16)
    truth = torch.rand(2, 16, 16)
    found = run(name, project(truth, geometry), geometry, iterations=300)
    assert relative(found, truth) < (0.2 if name == "sirt" else 0.002)


def test_tv_is_best_at_few_noisy_views(noisy: Any) -> None:
    sinogram, geometry = noisy
    errors = {
        name: relative(run(name, sinogram, geometry)[0], image())
        for name in ("fbp", *ITERATIVE)
    }
    assert errors["tv"] < 0.75 * errors["sirt"]
    assert errors["tv"] < 0.4 * errors["fbp"]
    assert errors["cgls"] < errors["fbp"]


def test_tv_minimises_what_it_says() -> None:
    truth = torch.zeros(1, 30, 30)
    truth[:, 8:20, 11:25] = 0.5
    sinogram = project(truth, SMALL) + 0.2 * torch.randn(1, 24, 32)
    bound = 0.1 * float(sinogram.square().mean().sqrt())

    def energy(x: torch.Tensor) -> float:
        slopes = [torch.diff(x, dim=d, append=x.narrow(d, 29, 1)) for d in (1, 2)]
        variation = torch.stack(slopes).square().sum(0).sqrt().sum()
        misfit = (project(x, SMALL) - sinogram).square().sum() / 2
        return float(misfit + bound * variation)

    best = run("tv", sinogram, SMALL, weight=0.1, iterations=1000)
    least = energy(best)
    assert energy(run("tv", sinogram, SMALL, weight=0.1)) < 1.002 * least
    assert energy(run("tv", sinogram, SMALL, weight=0.11, iterations=1000)) > least
    for seed in range(5):
        other = torch.randn(30, 30, generator=torch.Generator().manual_seed(seed))
        assert energy((best + 3e-3 * other).clamp(min=0)) > least


@pytest.mark.parametrize("name", ITERATIVE)
def test_units_and_brightness_only_scale(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    sinogram = project(torch.rand(1, 30, 30, generator=random), SMALL)
    micrometres = ParallelGeometry(FEW_ANGLES, 32, 14.8, 30, pixel_size=25.0)
    plain = run(name, sinogram, SMALL, iterations=6)
    scaled = run(name, 5 * sinogram, micrometres, iterations=6)
    torch.testing.assert_close(scaled, plain / 5, rtol=1e-3, atol=1e-4)


FAN = FanGeometry(
    2 * FEW_ANGLES, 40, 18.3, 30, source_distance=60, detector_distance=20
)


@pytest.mark.parametrize("geometry", [SMALL, FAN], ids=["parallel", "fan"])
@pytest.mark.parametrize("name", ITERATIVE)
def test_blocks_are_the_whole_and_empty_slices_stay_empty(
    name: str, geometry: ParallelGeometry
) -> None:
    random = torch.Generator().manual_seed(0)
    sinogram = project(torch.rand(5, 30, 30, generator=random), geometry)
    sinogram[2] = 0
    whole = run(name, sinogram, geometry, iterations=12)
    # Each block has its own geometry, as in a run.
    blocks = [
        run(name, block, replace(geometry), iterations=12)
        for block in sinogram.split(2)
    ]
    torch.testing.assert_close(torch.cat(blocks), whole, rtol=1e-3, atol=1e-4)
    assert whole.isfinite().all()
    assert (whole[2] == 0).all()


@pytest.mark.parametrize("name", ITERATIVE)
def test_nonnegative_or_not(name: str) -> None:
    sinogram = project(torch.randn(1, 30, 30), SMALL)
    values = {"iterations": 10}
    assert float(run(name, sinogram, SMALL, nonnegative=True, **values).min()) >= 0
    assert float(run(name, sinogram, SMALL, nonnegative=False, **values).min()) < 0


@pytest.mark.parametrize("name", ITERATIVE)
@pytest.mark.parametrize("beam", ["fan", "cone"])
def test_fans_and_cones_from_part_of_a_turn(name: str, beam: str) -> None:
    angles = np.linspace(0, 210, 30)
    distances: Any = {"source_distance": 60, "detector_distance": 20}
    geometry: ParallelGeometry = FanGeometry(angles, 40, size=24, **distances)
    if beam == "cone":
        geometry = ConeGeometry(angles, 40, size=24, n_rows=7, **distances)
    truth = image(((1.0, -2.0, 8.0, 0.5),), 24).expand(7, 24, 24)
    found = run(name, project(truth, geometry), geometry, iterations=60)
    assert found.shape == truth.shape
    assert relative(found[3], truth[3]) < 0.2


def test_astra_agrees() -> None:
    astra = pytest.importorskip("astra")
    geometry = ParallelGeometry(FEW_ANGLES, N)
    sinogram = project(image(), geometry)
    scan = astra.create_proj_geom("parallel", 1.0, N, np.deg2rad(FEW_ANGLES))
    slices = astra.create_vol_geom(N, N)
    operator = astra.OpTomo(astra.create_projector("linear", scan, slices))
    for name, iterations in (("sirt", 25), ("cgls", 4)):
        ours = run(name, sinogram[None], geometry, iterations=iterations, nonnegative=0)
        theirs = operator.reconstruct(
            name.upper(), sinogram.numpy(), iterations=iterations
        )
        assert relative(ours[0], torch.from_numpy(theirs[::-1].copy())) < 1e-3


@pytest.mark.parametrize("name", ITERATIVE)
def test_stop_is_heard_before_the_first_iteration(name: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(projector, "_norms", {})
    pairs, asked = [], []
    real = projector.backproject
    monkeypatch.setattr(
        projector, "backproject", lambda *args: pairs.append(1) or real(*args)
    )

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(Cancelled):
        reconstruct_slices(
            name,
            torch.rand(1, 24, 32),
            SMALL,
            config_class(name).create(),
            should_stop=stop,
        )
    assert len(pairs) <= 4  # one per call, and the initial step


@pytest.mark.parametrize("name", ITERATIVE)
def test_stop_is_heard(name: str) -> None:
    seen: list[Iteration] = []
    with pytest.raises(Cancelled):
        reconstruct_slices(
            name,
            torch.rand(1, 24, 32),
            SMALL,
            should_stop=lambda: len(seen) == 3,
            on_iteration=seen.append,
        )
    assert len(seen) == 3


def test_cgls_needs_no_double_precision(
    noisy: tuple[torch.Tensor, ParallelGeometry], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert widest_dtype(torch.device("cpu")) == torch.float64
    assert widest_dtype(torch.device("mps")) == torch.float32
    usual = run("cgls", *noisy, iterations=10)

    class SinglePrecision(TorchFunctionMode):
        """Rejects float64, as MPS devices do."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            found = func(*args, **(kwargs or {}))
            assert getattr(found, "dtype", None) != torch.float64, func
            return found

    for module in (cgls, iterations_module):
        monkeypatch.setattr(module, "widest_dtype", lambda _: torch.float32)
    with SinglePrecision():
        single = run("cgls", *noisy, iterations=10)
    assert relative(single, usual) < 2e-3


def test_what_is_registered() -> None:
    assert {"cgls", "fbp", "fdk", "sirt", "tv"} <= set(ALGORITHMS.names())
    assert set(titles()) == set(ALGORITHMS.names())
    assert beam_of(SMALL) == "parallel"
    for name in ALGORITHMS.names():
        for field in config_class(name).model_fields.values():
            assert field.title
            assert field.description


def test_bad_input_is_told() -> None:
    good = torch.rand(1, 24, 32)
    with pytest.raises(ProjectionsError, match=r"FDK.*parallel-beam.*cgls, fbp"):
        reconstruct_slices("fdk", good, SMALL)
    with pytest.raises(ProjectionsError, match="24 angles and 32 columns"):
        reconstruct_slices("fbp", good[:, :20], SMALL)
    with pytest.raises(ProjectionsError, match="24 angles and 32 columns"):
        reconstruct_slices("fbp", good[0], SMALL)
    bad = good.clone()
    bad[0, 3, 4:6] = torch.nan
    with pytest.raises(ProjectionsError, match="2 line integrals are not finite"):
        reconstruct_slices("sirt", bad, SMALL)
    with pytest.raises(ConfigError, match="no reconstruction algorithm 'magic'"):
        reconstruct_slices("magic", good, SMALL)
    with pytest.raises(ConfigError, match="relaxation"):
        config_class("sirt").create(relaxation=2)
