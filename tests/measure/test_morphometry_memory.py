"""Morphometry with little memory: the same values, or a remark."""

from __future__ import annotations

import tracemalloc
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import TypeVar

import numpy as np
import pytest
from pore_shapes import ellipsoid
from test_morphometry import field, measured

from napari_geosr.core.steps import Step, run_to_end
from napari_geosr.measure import phases
from napari_geosr.measure.local_thickness import spheres as thickness
from napari_geosr.measure.morphometry import anisotropy, partial_volume, trabecular
from napari_geosr.measure.phases import GreyPlanes, PhasePlanes, Phases, phases_of
from napari_geosr.measure.phases.findings import Findings
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
        start = f"{what} not measured: the measurement needs "
        assert any(r.startswith(start) for r in remarks)


def with_grey(phases: Phases, pores: np.ndarray) -> Phases:
    """Add grey values that are read in slabs of two planes."""
    grey = np.where(pores, 50, 200).astype(np.uint8)
    slabs = [slice(z, min(z + 2, len(grey))) for z in range(0, len(grey), 2)]
    planes = GreyPlanes(slabs, lambda slab: (grey[slab], pores[slab], None))
    return replace(phases, grey=planes)


@pytest.mark.parametrize(
    ("module", "available"), [(anisotropy, 4 * 10**6), (partial_volume, 5 * 10**6 // 2)]
)
def test_wide_planes_are_measured_in_blocks(module: ModuleType, available: int) -> None:
    pores = field((20, 360, 400), 2.5) < -0.3
    totals = SimpleNamespace(sample_voxels=pores.size)

    def steps(budget: int | None) -> Generator[Step, None, Findings]:
        return module.measure(with_grey(cubes(pores, budget), pores), totals)

    whole, most = traced(steps(None))
    parts, peak = traced(steps(available))
    assert None not in parts.values.values()
    assert parts.values == whole.values
    assert parts.remarks == whole.remarks
    assert peak <= available < most


@pytest.mark.parametrize(
    ("name", "figure", "what"),
    [
        ("anisotropy", "DA(a/c)", "DA and MIL were"),
        ("partial_volume", "φ(grey)", "φ(grey) was"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(
    name: str, figure: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Phases, "available_bytes", 10**5)
    found = measured(field((40, 50, 60), 2.0) < -0.3, name)
    assert found.figures[figure] is None
    remarks = found.morphometry[name].remarks
    start = f"{what} not measured: the measurement needs "
    assert any(r.startswith(start) for r in remarks)
