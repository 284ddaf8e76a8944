"""Agreement of shapes and surfaces, compared with closed forms and another program."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import VolumeError
from napari_geosr.measure.shapes import (
    check_surface,
    compare_shapes,
    extract_surface,
)
from napari_geosr.physics.shapes import sampled, trabeculae


def box(shape: tuple[int, ...], corner: tuple[int, ...], edges: tuple[int, ...]):
    inside = np.zeros(shape, bool)
    inside[tuple(slice(c, c + e) for c, e in zip(corner, edges, strict=True))] = True
    return inside


def ball(edge: int, radius: float, step=(1.0, 1.0, 1.0)) -> np.ndarray:
    axes = [(np.arange(edge) - (edge - 1) / 2) * s for s in step]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 < radius**2


def test_equal_shapes_agree_perfectly() -> None:
    inside = ball(20, 7)
    found = compare_shapes(inside, inside, (1, 1, 1), "mm")
    assert found.dice == found.surface_dice == 1
    assert found.hausdorff == found.hausdorff_95 == found.mean_distance == 0
    assert found.volume_error == found.euler_error == 0


def test_a_shifted_box_by_hand() -> None:
    """A shape shifted along Z by two planes of 1.5 mm."""
    one = box((16, 12, 12), (4, 2, 2), (6, 8, 8))
    other = box((16, 12, 12), (6, 2, 2), (6, 8, 8))
    found = compare_shapes(one, other, (1.5, 0.5, 0.5), "mm", tolerance=2.9)
    assert found.dice == pytest.approx(4 / 6)
    assert found.hausdorff == pytest.approx(3.0)
    assert found.volume == pytest.approx(6 * 8 * 8 * 1.5 * 0.25)
    assert found.volume_error == 0
    # At the top and bottom, 7² corners each in the next plane; 9² minus the overlap.
    assert 0.5 < found.surface_dice < 1
    wide = compare_shapes(one, other, (1.5, 0.5, 0.5), "mm", tolerance=3.1)
    assert wide.surface_dice == 1


def test_a_larger_ball_is_further_away_by_the_difference_of_radii() -> None:
    one, other = ball(64, 20.0), ball(64, 25.0)
    found = compare_shapes(one, other, (0.2, 0.2, 0.2), "mm")
    # Points of both surfaces are up to half a voxel off the sphere.
    assert found.mean_distance == pytest.approx(1.0, abs=0.1)
    assert found.hausdorff_95 == pytest.approx(1.0, abs=0.12)
    assert found.volume_error == pytest.approx((20 / 25) ** 3 - 1, abs=0.01)


def test_tunnels_are_counted() -> None:
    whole = box((12, 12, 12), (2, 2, 2), (8, 8, 8))
    drilled = whole.copy()
    drilled[:, 5:7, 5:7] = False
    found = compare_shapes(drilled, whole, (1, 1, 1), "pixel")
    assert (found.euler, found.reference_euler) == (0, 1)
    assert found.euler_error == -1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (2.0, 0.5, 0.7)])
def test_distances_are_those_of_another_program(size: tuple[float, ...]) -> None:
    other = pytest.importorskip(
        "surface_distance", reason="surface-distance is not installed"
    )
    one = sampled(trabeculae(np.random.default_rng(1)), (28, 30, 26))
    two = np.roll(one, (1, 0, 2), (0, 1, 2)) & ball(30, 14)[1:29, :, 2:28]
    found = compare_shapes(one, two, size, "mm", tolerance=1.0)
    theirs = other.compute_surface_distances(one, two, size)
    assert found.hausdorff == pytest.approx(
        other.compute_robust_hausdorff(theirs, 100), rel=1e-6
    )
    # The areas of the two programs differ slightly.
    both = [
        (theirs[f"distances_{a}_to_{b}"], theirs[f"surfel_areas_{a}"])
        for a, b in (("gt", "pred"), ("pred", "gt"))
    ]
    total = sum(float((d * area).sum()) for d, area in both)
    mean = total / sum(float(area.sum()) for _, area in both)
    assert found.mean_distance == pytest.approx(mean, rel=0.07)
    at_95 = other.compute_robust_hausdorff(theirs, 95)
    assert found.hausdorff_95 == pytest.approx(at_95, rel=0.1)
    within = other.compute_surface_dice_at_tolerance(theirs, 1.0)
    assert found.surface_dice == pytest.approx(within, abs=0.02)


def test_the_border_is_at_least_a_voxel_wide() -> None:
    ball = box((12, 12, 12), (3, 3, 3), (6, 6, 6))
    cut = ball & ~box((12, 12, 12), (8, 3, 3), (1, 6, 6))
    found = [compare_shapes(cut, ball, (2, 1, 1), "mm", t) for t in (0.1, 2.0, 4.0)]
    assert [one.tolerance for one in found] == [0.1, 2.0, 4.0]
    assert [one.border_distance for one in found] == [2.0, 2.0, 4.0]
    assert found[0].border_dice == found[1].border_dice < found[2].border_dice < 1


def test_shapes_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(VolumeError, match="same grid"):
        compare_shapes(ball(8, 3), ball(9, 3), (1, 1, 1), "mm")
    with pytest.raises(VolumeError, match="empty"):
        compare_shapes(ball(8, 3), np.zeros((8, 8, 8), bool), (1, 1, 1), "mm")


@pytest.mark.parametrize("smoothing", [0.0, 0.7])
@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (2.0, 0.5, 0.8)])
def test_the_surface_of_a_ball(smoothing: float, size: tuple[float, ...]) -> None:
    inside = ball(40, 14.0)
    mesh = extract_surface(inside, size, "mm", (10, 20, 30), smoothing)
    assert check_surface(mesh.faces).is_watertight
    assert mesh.volume == pytest.approx(inside.sum() * np.prod(size), rel=0.01)
    centre = (mesh.vertices.max(0) + mesh.vertices.min(0)) / 2
    expected = np.array((10, 20, 30)) + 19.5 * np.array(size)
    np.testing.assert_allclose(centre, expected, atol=0.3)


def test_trabeculae_that_are_cut_by_the_box_are_closed() -> None:
    inside = sampled(trabeculae(np.random.default_rng(3)), (40, 40, 40))
    mesh = extract_surface(inside, (1, 1, 1), "pixel")
    check = check_surface(mesh.faces)
    assert check.is_watertight, check.sentence
    assert mesh.volume == pytest.approx(inside.sum(), rel=0.01)


def test_holes_and_contacts_are_described() -> None:
    mesh = extract_surface(ball(12, 4), (1, 1, 1), "mm")
    torn = check_surface(mesh.faces[1:])
    assert (torn.n_open, torn.is_watertight) == (3, False)
    assert "3 edges at holes" in torn.sentence
    turned = mesh.faces.copy()
    turned[0] = turned[0, ::-1]
    assert check_surface(turned).n_reversed == 3
    twice = np.concatenate([mesh.faces, mesh.faces[:1]])
    assert "touches itself" in check_surface(twice).sentence


def test_an_empty_shape_has_no_surface() -> None:
    with pytest.raises(VolumeError, match="empty"):
        extract_surface(np.zeros((4, 4, 4), bool), (1, 1, 1), "mm")
