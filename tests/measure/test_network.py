"""Pores and throats of shapes with a known network."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from pore_shapes import ellipsoid
from scipy import ndimage
from test_morphometry import measured

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import run_to_end
from napari_geosr.measure.kernels.surface import STEPS
from napari_geosr.measure.morphometry import network
from napari_geosr.measure.morphometry.network import (
    divide,
    divide_steps,
)
from napari_geosr.measure.phases import Mask, Phases
from napari_geosr.measure.phases.findings import LittleMemoryError

PLACES = np.indices((60,) * 3) - np.array([29.7, 30.1, 29.4])[:, None, None, None]
OBLIQUE = (0.36, 0.48, 0.8)


def tube(along: tuple[float, float, float], radius: float, half: float = 99) -> Mask:
    """Return a straight tube through the centre."""
    unit = np.array(along) / np.linalg.norm(along)
    height = np.tensordot(unit, PLACES, 1)
    squares = (PLACES**2).sum(axis=0) - height**2
    found: Mask = (squares <= radius**2) & (np.abs(height) <= half)
    return found


@pytest.mark.parametrize("radius", [2.5, 5])
@pytest.mark.parametrize("along", [(0.985, 0.174, 0), (0, 1, 1), OBLIQUE])
def test_a_tube_is_one_pore(along: tuple[float, float, float], radius: float) -> None:
    labels, diameters, _ = divide(tube(along, radius))
    assert labels.max() == 1
    assert diameters[0] == pytest.approx(2 * radius, abs=0.7)


@pytest.mark.parametrize("along", [(1, 0, 0), OBLIQUE])
@pytest.mark.parametrize("half", [11, 16])
def test_a_tube_between_two_pores_is_a_throat(
    along: tuple[float, float, float], half: float
) -> None:
    space = tube(along, 3, half)
    for end in (-half, half):
        centre = end * np.array(along)[:, None, None, None]
        space |= ((PLACES - centre) ** 2).sum(axis=0) <= 64
    labels, diameters, _ = divide(space)
    assert labels.max() == 2
    assert diameters == pytest.approx([16, 16], abs=0.5)
    sizes = np.bincount(labels[space])[1:]
    assert sizes.min() > 0.4 * sizes.sum()


def test_the_tubes_of_a_lattice_are_throats() -> None:
    """27 spheres of radius 6 every 20 voxels, with tubes of 8 voxels between them."""
    at = np.abs((np.indices((60,) * 3) + 0.5) % 20 - 10)
    space = (at**2).sum(axis=0) <= 36
    for axis in range(3):
        space |= (np.delete(at, axis, axis=0) ** 2).sum(axis=0) <= 2.5**2
    labels, _, centres = divide(space)
    assert labels.max() == len(centres) == 27


@pytest.mark.parametrize("centre", [(20, 20, 20), (20.5, 20, 20), (19.5, 20, 20.5)])
def test_the_place_of_a_pore_is_its_centre(centre: tuple[float, ...]) -> None:
    _, _, places = divide(ellipsoid((40, 40, 40), centre, 9))
    np.testing.assert_allclose(places, [centre], atol=0.01)


@pytest.mark.parametrize("connectivity", [26, 6])
@pytest.mark.parametrize("shape", [(2, 40, 40), (24, 24, 24)])
def test_every_pore_voxel_belongs_to_a_pore(
    shape: tuple[int, ...], connectivity: int
) -> None:
    """With specks of one voxel, some of which touch only through edges or corners."""
    space = np.random.default_rng(0).random(shape) < 0.05
    labels, diameters, centres = divide(space, connectivity=connectivity)
    assert np.array_equal(labels > 0, space)
    neighbours = ndimage.generate_binary_structure(3, 3 if connectivity == 26 else 1)
    assert len(diameters) == len(centres) >= ndimage.label(space, neighbours)[1]
    assert np.array_equal(np.unique(labels[space]), np.arange(1, len(centres) + 1))


def test_a_single_voxel_at_the_last_face_is_a_pore() -> None:
    space = np.zeros((2, 8, 8), bool)
    space[1, 4, 4] = True
    labels, _, centres = divide(space)
    assert labels[1, 4, 4] == 1
    assert centres.tolist() == [[1, 4, 4]]


def test_pore_volumes_add_up_and_the_division_can_be_stopped() -> None:
    grey = np.where(np.random.default_rng(1).random((20, 20, 20)) < 0.1, 60, 180)
    table = measured(grey < 100, "network").morphometry["network"].tables["network"]
    assert table["pore.volume"].sum() * 1e18 == pytest.approx((grey < 100).sum())
    calls = []

    def check() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise Cancelled("Stopped.")

    steps = divide_steps(grey < 100, None, 26, check)
    with pytest.raises(Cancelled):
        run_to_end(steps)


def checkerboard(n: int) -> Mask:
    """Return pores of one voxel, which touch only through edges and corners."""
    found: Mask = np.indices((n,) * 3).sum(axis=0) % 2 == 0
    return found


@pytest.mark.parametrize("kind", ["noise", "checkerboard"])
def test_the_memory_is_what_was_checked(kind: str) -> None:
    n = 40
    space = np.random.default_rng(0).random((n,) * 3) < 0.1
    if kind == "checkerboard":
        space = checkerboard(n)
    with pytest.raises(LittleMemoryError) as refused:  # also loads and compiles
        run_to_end(divide_steps(space, connectivity=6, available=0))
    divide(space[:8, :8, :8], connectivity=6)
    tracemalloc.start()
    divide(space, connectivity=6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = network._BYTES_PER_VOXEL * space.size
    assert peak <= max(whole, refused.value.needed)
    assert (refused.value.needed > whole) == (kind == "checkerboard")


def test_too_many_maxima_for_the_budget_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Phases, "available_bytes", 5 * 10**6)
    found = measured(checkerboard(40), "network", connectivity=6)
    assert found.figures["Net.Po.N"] is None
    (remark,) = found.morphometry["network"].remarks
    assert remark.startswith(
        "The pore network was not measured: the measurement needs 9.03 MB"
    )


def _rough(seed: int) -> Mask:
    """Pores of many sizes with plane walls, so that many depths are equal."""
    noise = np.random.default_rng(seed).normal(size=(12, 14, 16))
    coarse = ndimage.gaussian_filter(noise, 0.8, mode="wrap") > 0
    found: Mask = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    return found


def test_a_turned_volume_has_the_same_network() -> None:
    """Turned about each axis, with a continuation of the pores outside the sample."""
    wide = _rough(1)
    space = wide & ~_rough(2)
    labels, diameters, centres = divide(space, wide)
    assert len(diameters) > 20
    for axes in ((0, 1), (0, 2), (1, 2)):
        for times in (1, 2, 3):
            turned = [np.rot90(part, times, axes) for part in (space, wide)]
            found, wide_as, at = divide(*map(np.ascontiguousarray, turned))
            assert np.array_equal(found, np.rot90(labels, times, axes))
            assert np.array_equal(wide_as, diameters)
            assert np.array_equal(
                ndimage.map_coordinates(found, at.T, order=0),
                ndimage.map_coordinates(labels, centres.T, order=0),
            )


def test_the_nearest_surface_depends_little_on_the_axes() -> None:
    """Far less than the surface at the first of several equally near voxels."""
    space = _rough(3)
    turned = network._depths(np.ascontiguousarray(np.rot90(space)))
    first, _, shortest = network._depths(space)
    changes = [
        np.abs(np.rot90(one.astype(float)) - other)[np.rot90(space)].mean()
        for one, other in ((first / STEPS, turned[0] / STEPS), (shortest, turned[2]))
    ]
    assert changes[1] < 0.2 * changes[0], changes
    assert (shortest <= first / STEPS + 1e-3)[space].all()
