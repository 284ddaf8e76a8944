"""Pores and throats of shapes with a known network."""

from __future__ import annotations

import numpy as np
import pytest
from pore_shapes import ellipsoid

from napari_geosr.measure.morphometry.network import divide
from napari_geosr.measure.phases import Mask

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
