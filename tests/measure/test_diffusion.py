"""Diffusion through a phase: exact solutions, convergence, memory and stopping."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import spsolve

from napari_geosr.core.steps import run_to_end
from napari_geosr.measure import diffusion
from napari_geosr.measure.morphometry.transport import _connecting


def foam(shape: tuple[int, ...], share: float, seed: int = 0) -> np.ndarray:
    """Pores of a random field that connect the first and the last face."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = gaussian_filter(noise, 1.5)
    found = _connecting(smooth < np.quantile(smooth, share))
    assert found.any()
    return found


def solved(phase: np.ndarray, tolerance: float = 0.005) -> diffusion.Solution:
    return run_to_end(diffusion.solution_steps(phase, tolerance, lambda: None))


def exact_flux(phase: np.ndarray) -> float:
    """Flux of the balances of all voxels, written one by one and solved directly."""
    number = {voxel: i for i, voxel in enumerate(map(tuple, np.argwhere(phase)))}
    matrix = sparse.lil_matrix((len(number),) * 2)
    right = np.zeros(len(number))
    for voxel, i in number.items():
        for axis in range(3):
            for way in (-1, 1):
                other = list(voxel)
                other[axis] += way
                j = number.get(tuple(other))
                if j is not None:
                    matrix[i, i] += 1
                    matrix[i, j] -= 1
                elif axis == 0 and other[0] in (-1, len(phase)):
                    matrix[i, i] += 2
                    right[i] += 2 * (way < 0)
    values = spsolve(matrix.tocsr(), right)
    return float(sum(2 * (1 - values[i]) for v, i in number.items() if v[0] == 0))


@pytest.mark.parametrize("direct", [1, 50, 10**6])
@pytest.mark.parametrize(
    ("shape", "share"), [((18, 20, 23), 0.4), ((2, 17, 19), 0.6), ((21, 24, 1), 0.7)]
)
def test_the_flux_is_that_of_a_direct_solution(
    monkeypatch, shape: tuple[int, ...], share: float, direct: int
) -> None:
    """With all numbers of grids, down to one unknown for every separate pore."""
    monkeypatch.setattr(diffusion, "_DIRECT", direct)
    monkeypatch.setattr(diffusion, "_BLOCK", 100)
    phase = foam(shape, share)
    found = solved(phase, 1e-4)
    assert found.spread < 1e-4
    assert found.flux == pytest.approx(exact_flux(phase), rel=2e-4)


def test_one_plane_touches_both_faces() -> None:
    assert solved(np.ones((1, 5, 6), bool)).flux == pytest.approx(30)


def test_the_number_of_iterations_hardly_grows_with_the_volume() -> None:
    """An over-relaxation needs a number proportional to the length, some hundred."""
    counts = []
    for edge in (32, 96):
        phase = foam((edge,) * 3, 0.4)
        steps = list(diffusion.solution_steps(phase, 0.005, lambda: None))
        counts.append(len(steps))
    assert max(counts) < 30


def test_a_solution_that_has_not_converged_says_so(monkeypatch) -> None:
    monkeypatch.setattr(diffusion, "_MOST_ITERATIONS", 2)
    found = solved(foam((40, 40, 40), 0.35), 1e-3)
    assert found.spread > 1e-3


def test_it_stops_when_the_measurement_is_cancelled() -> None:
    class StoppedError(Exception):
        pass

    def check() -> None:
        raise StoppedError

    phase = foam((20, 20, 20), 0.5)
    with pytest.raises(StoppedError):
        run_to_end(diffusion.solution_steps(phase, 0.005, check))


@pytest.mark.parametrize("share", [0.25, 0.95])
def test_the_memory_is_as_announced(monkeypatch, share: float) -> None:
    monkeypatch.setattr(diffusion, "_BLOCK", 2**12)  # as small a part as in large ones
    phase = foam((80, 80, 80), share)
    steps = diffusion.solution_steps(phase, 0.005, lambda: None)
    tracemalloc.start()
    try:
        run_to_end(steps)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    announced = diffusion.bytes_needed(phase.size, int(phase.sum()))
    assert 0.4 * announced < peak < 1.1 * announced
