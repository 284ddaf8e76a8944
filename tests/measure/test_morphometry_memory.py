"""Morphometry with little memory: the same values, or a remark."""

from __future__ import annotations

import tracemalloc
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import pytest
from pore_shapes import ellipsoid
from test_morphometry import field, measured

from napari_geosr.core.steps import Step, run_to_end
from napari_geosr.measure import phases, thickness
from napari_geosr.measure.morphometry import trabecular
from napari_geosr.measure.phases import PhasePlanes, Phases, phases_of
from napari_geosr.measure.phases.shared import phase_thickness_steps

T = TypeVar("T")
NAMES = ("thickness", "trabecular")


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(thickness, "FIRST_MARGIN", 3)
    monkeypatch.setattr(phases, "SLAB_VOXELS", 2**14)
    return monkeypatch


def cubes(pores: np.ndarray, budget: int | None = None) -> Phases:
    """Return pores and solid, to be measured within a memory budget in bytes."""
    n = len(pores)
    slabs = [slice(z, min(z + 4, n)) for z in range(0, n, 4)]
    found = phases_of(
        lambda slab: PhasePlanes(pores[slab]), slabs, pores.shape, (1.0,) * 3, "µm"
    )
    return replace(found, budget=budget)


def traced(steps: Generator[Step, None, T]) -> tuple[T, int]:
    """Run steps; also return the largest memory in bytes."""
    tracemalloc.start()
    try:
        return run_to_end(steps), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_little_memory_gives_the_same_values(budget: pytest.MonkeyPatch) -> None:
    pores, available = field((60, 80, 84), 1.0) < -0.3, 3 * 10**6
    for steps_of in (
        partial(phase_thickness_steps, which="solid"),
        trabecular._between_axes_steps,
    ):
        whole, most = traced(steps_of(cubes(pores)))
        parts, peak = traced(steps_of(cubes(pores, available)))
        assert np.array_equal(parts.counts, whole.counts)
        assert peak <= available < most


def test_spheres_that_need_too_much_memory_are_refused(
    budget: pytest.MonkeyPatch,
) -> None:
    pores = ellipsoid((70, 70, 70), (35, 35, 35), 30)
    budget.setattr(Phases, "available_bytes", 10**6)
    found = measured(pores, *NAMES)
    for name in ("Tb.Th", "Tb.Sp", "Tb.N", "Tb.N(Th+Sp)"):
        assert found.figures[name] is None
    assert found.figures["BV/TV"] == pytest.approx(1 - pores.mean())
    remarks = [r for name in NAMES for r in found.morphometry[name].remarks]
    for what in ("The local thickness was", "Tb.N was", "Tb.N(Th+Sp) was"):
        assert any(r.startswith(f"{what} not measured: it needs ") for r in remarks)
