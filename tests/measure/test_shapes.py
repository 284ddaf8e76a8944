"""Agreement of shapes and surfaces, compared with closed forms and another program."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.measure.shapes import (
    check_surface,
    compare_shapes,
    describe_shape_steps,
    extract_surface,
    match_surface,
    merged_surface,
)
from napari_geosr.measure.shapes.match import euler_numbers
from napari_geosr.measure.shapes.quality import surface_areas
from napari_geosr.measure.shapes.surface import mesh_volume
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


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of shapes that agree to different degrees."""
    rng = np.random.default_rng(1)
    solid = sampled(trabeculae(np.random.default_rng(1)), (28, 30, 26))
    rough = solid.copy()
    rough[14] ^= rng.random(rough[14].shape) < 0.02
    smooth = ndimage.gaussian_filter(solid.astype(float), 0.8) > 0.5
    halves = solid.reshape(14, 2, 15, 2, 13, 2).mean((1, 3, 5))
    again = ndimage.zoom(halves, 2, order=1, grid_mode=True, mode="nearest") > 0.5
    moved = np.roll(solid, (1, 0, 2), (0, 1, 2)) & ball(30, 14)[1:29, :, 2:28]
    noise = rng.random(solid.shape) < 0.5
    return {
        "moved": (solid, moved),
        "flipped voxels": (rough, solid),
        "smoothed": (smooth, solid),
        "coarsened": (again, solid),
        "noise": (noise, noise ^ (rng.random(solid.shape) < 0.01)),
        "specks": (np.pad(noise & ~solid, 2), np.pad(~solid, 2)),
    }


PAIRS = pairs()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (2.5, 0.5, 0.7), (1.0, 0.8, 0.8)])
@pytest.mark.parametrize("name", PAIRS)
def test_distances_are_those_of_another_program(
    name: str, size: tuple[float, ...]
) -> None:
    other = pytest.importorskip(
        "surface_distance", reason="surface-distance is not installed"
    )
    one, two = PAIRS[name]
    found = compare_shapes(one, two, size, "mm", tolerance=1.0)
    theirs = other.compute_surface_distances(one, two, size)
    for percent, value in ((100, found.hausdorff), (95, found.hausdorff_95)):
        expected = other.compute_robust_hausdorff(theirs, percent)
        assert value == pytest.approx(expected, rel=1e-6)
    both = [
        (theirs[f"distances_{a}_to_{b}"], theirs[f"surfel_areas_{a}"])
        for a, b in (("gt", "pred"), ("pred", "gt"))
    ]
    total = sum(float((d * area).sum()) for d, area in both)
    mean = total / sum(float(area.sum()) for _, area in both)
    assert found.mean_distance == pytest.approx(mean, rel=1e-6)
    within = other.compute_surface_dice_at_tolerance(theirs, 1.0)
    assert found.surface_dice == pytest.approx(within, rel=1e-6)


def test_areas_between_eight_voxels_by_hand() -> None:
    """A plane, a cut corner, a cut edge, and the complement of each shape."""
    dz, dy, dx = size = (2.0, 0.5, 0.7)
    areas = surface_areas(size)
    assert areas[0b00001111] == pytest.approx(dy * dx)
    assert areas[0b00110011] == pytest.approx(dz * dx)
    corner = np.sqrt((dz * dy) ** 2 + (dz * dx) ** 2 + (dy * dx) ** 2) / 8
    assert areas[0b00000001] == pytest.approx(corner)
    assert areas[0b00000011] == pytest.approx(dx * np.hypot(dz, dy) / 2)
    assert areas[0b10000001] == pytest.approx(2 * corner)
    assert areas == pytest.approx(areas[::-1])
    assert (areas[1:-1] > 0).all()


def test_the_border_is_at_least_a_voxel_wide() -> None:
    ball = box((12, 12, 12), (3, 3, 3), (6, 6, 6))
    cut = ball & ~box((12, 12, 12), (8, 3, 3), (1, 6, 6))
    found = [compare_shapes(cut, ball, (2, 1, 1), "mm", t) for t in (0.1, 2.0, 4.0)]
    assert [one.tolerance for one in found] == [0.1, 2.0, 4.0]
    assert [one.border_distance for one in found] == [2.0, 2.0, 4.0]
    assert found[0].border_dice == found[1].border_dice < found[2].border_dice < 1


def test_a_distance_equal_to_the_tolerance_is_within_it() -> None:
    """Three voxels of 0.1 mm are slightly more than 0.3 mm in floating point."""
    one = box((24, 24, 24), (4, 4, 4), (8, 8, 8))
    other = box((24, 24, 24), (4, 4, 4), (8, 8, 11))
    small = compare_shapes(one, other, (0.1,) * 3, "mm", tolerance=0.3)
    large = compare_shapes(one, other, (1, 1, 1), "mm", tolerance=3)
    assert small.surface_dice == large.surface_dice == 1
    assert small.border_dice == large.border_dice
    assert small.tolerance == 0.3


def test_the_thickness_does_not_depend_on_the_order_of_the_edges() -> None:
    """If edges are slightly unequal, their geometric mean is used."""
    inside = box((16, 16, 16), (4, 4, 4), (8, 8, 8))
    edge = (0.105 * 0.1 * 0.1) ** (1 / 3)
    sizes = ((0.105, 0.1, 0.1), (0.1, 0.1, 0.105), (edge,) * 3)
    steps = [describe_shape_steps(inside, size, "mm") for size in sizes]
    first, second, cubic = (run_to_end(each)[0].thickness for each in steps)
    assert first == pytest.approx(cubic)
    assert second == pytest.approx(cubic)


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


def test_contacts_are_not_opposite_orientations() -> None:
    """Two tetrahedra that share an edge, or a face, still enclose a volume."""
    one = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [3, 2, 1]])
    edge = check_surface(np.concatenate([one, np.array([0, 1, 4, 5])[one]]))
    assert (edge.n_open, edge.n_shared, edge.n_reversed) == (0, 1, 0)
    # A mirrored tetrahedron, on the other side of the face 0 1 2.
    other = np.array([0, 1, 2, 4])[one][:, ::-1]
    face = check_surface(np.concatenate([one, other]))
    assert (face.n_open, face.n_shared, face.n_reversed) == (0, 3, 0)
    for check in (edge, face):
        assert (check.is_watertight, check.separates) == (False, True)
        assert "opposite" not in check.sentence
    flap = check_surface(np.concatenate([one, [[0, 1, 4]]]))
    assert (flap.n_open, flap.separates) == (3, False)


def test_triangles_collapse_when_vertices_are_equal() -> None:
    mesh = extract_surface(ball(12, 4), (1, 1, 1), "mm")
    vertices = mesh.vertices.copy()
    first, second = mesh.faces[0, :2]
    vertices[first] = vertices[second]
    merged, faces = merged_surface(vertices, mesh.faces)
    assert (len(merged), len(faces)) == (len(vertices) - 1, len(mesh.faces) - 2)
    assert check_surface(faces).is_watertight
    np.testing.assert_allclose(
        mesh_volume(merged, faces), mesh_volume(vertices, mesh.faces), rtol=1e-6
    )
    assert merged_surface(mesh.vertices, mesh.faces)[1] is mesh.faces


def area(inside: np.ndarray, size: tuple[float, ...] = (1, 1, 1)) -> float:
    return run_to_end(describe_shape_steps(inside, size, "mm"))[0].surface


def test_cuts_at_the_faces_of_the_volume_are_not_surface() -> None:
    plate = box((32, 64, 64), (12, 0, 0), (8, 64, 64))
    assert area(plate) == pytest.approx(2 * 64 * 64, rel=1e-4)
    assert area(plate, (3, 0.5, 2)) == pytest.approx(2 * 64 * 64, rel=1e-4)
    assert area(plate[12:]) == pytest.approx(64 * 64, rel=1e-4)
    whole = ball(40, 15)
    assert area(whole[20:]) == pytest.approx(area(whole) / 2, rel=0.01)
    assert area(whole[:20, 20:, :20]) == pytest.approx(area(whole) / 8, rel=0.01)


def test_an_empty_shape_has_no_surface() -> None:
    with pytest.raises(VolumeError, match="empty"):
        extract_surface(np.zeros((4, 4, 4), bool), (1, 1, 1), "mm")


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 6, 7), (33, 9, 8)])
def test_euler_numbers_are_those_of_another_program(shape: tuple[int, ...]) -> None:
    measure = pytest.importorskip("skimage.measure")
    for share in (0.05, 0.3, 0.7, 0.97):
        inside = np.random.default_rng(5).random(shape) < share
        padded = np.pad(inside, 1)
        expected = tuple(int(measure.euler_number(padded, n)) for n in (3, 1))
        assert euler_numbers(inside) == expected


def with_rod() -> np.ndarray:
    """A ball with a rod of 40 voxels that is one voxel thick."""
    inside = np.zeros((30, 30, 70), bool)
    inside[:, :, :30] = ball(30, 9.0)
    inside[15, 15, 24:64] = True
    return inside


@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (2.0, 0.5, 0.8)])
def test_a_thin_rod_is_not_lost(size: tuple[float, ...]) -> None:
    inside = with_rod()
    mesh = extract_surface(inside, size, "mm", (10, 20, 30))
    assert check_surface(mesh.faces).is_watertight
    end = 30 + (63 + 0.5) * size[2]
    assert mesh.vertices[:, 2].max() == pytest.approx(end, abs=0.2 * size[2])
    assert mesh.match.keeps_parts
    assert (mesh.match.pieces, mesh.match.euler) == (1, 1)
    assert "are not smoothed" in mesh.match.sentences[0]
    assert mesh.volume == pytest.approx(inside.sum() * np.prod(size), rel=0.01)
    alone = extract_surface(ball(30, 9.0), size, "mm").match
    assert (alone.sharp, mesh.match.sharp) == ("", "thin")


def test_specks_and_single_voxels_keep_their_number_and_volume() -> None:
    one = box((5, 5, 5), (2, 2, 2), (1, 1, 1))
    assert extract_surface(one, (1, 1, 1), "mm").volume == pytest.approx(1, rel=0.01)
    specks = np.random.default_rng(0).random((40, 40, 40)) < 0.004
    mesh = extract_surface(specks, (1, 1, 1), "mm")
    least, most = mesh.match.voxels.pieces
    assert least <= mesh.match.pieces <= most
    assert mesh.volume == pytest.approx(specks.sum(), rel=0.01)
    assert check_surface(mesh.faces).is_watertight


def test_what_a_surface_lacks_is_told(monkeypatch) -> None:
    """Without the meshes that are not smoothed."""
    from napari_geosr.measure.shapes import surface

    inside = with_rod()
    inside[3:5, 3:5, 60:62] = True  # a second piece
    monkeypatch.setattr(surface, "_changed_thin_voxels", lambda mask, *_: mask & False)
    monkeypatch.setattr(surface, "_KINDS", ("", "thin"))
    found = extract_surface(inside, (1, 1, 1), "mm").match
    assert not found.keeps_parts
    text = " ".join(found.sentences)
    assert "are missing from the surface" in text
    assert 30 < found.n_lost < 40
    hollow = box((20, 20, 20), (2, 2, 2), (16, 16, 16))
    hollow[10, 10, 10] = False
    closed = extract_surface(hollow, (1, 1, 1), "mm").match
    assert closed.keeps_parts
    assert "The Euler number of the surface is 1, that of the shape 2" in (
        " ".join(closed.sentences)
    )
    assert extract_surface(hollow, (1, 1, 1), "mm", smoothing=0).match.sentences == ()


def test_missing_and_broken_pieces_are_told() -> None:
    two = box((12, 12, 30), (3, 3, 3), (6, 6, 6)) | box(
        (12, 12, 30), (3, 3, 20), (6, 6, 6)
    )
    mesh = extract_surface(two, (1, 1, 1), "mm")
    assert mesh.match.sentences == ()
    first = mesh.faces[mesh.vertices[mesh.faces[:, 0], 2] < 12]
    voxels = mesh.match.voxels
    half = match_surface(mesh.vertices, first, voxels, (1, 1, 1), (0, 0, 0))
    used = mesh.vertices[np.unique(first)]
    assert used[:, 2].max() < 12
    assert (half.pieces, half.keeps_parts) == (1, False)
    text = " ".join(half.sentences)
    assert "consists of 1 closed parts, the shape of 2 pieces" in text
    assert "ends 16.8 voxels before" in text
    whole = extract_surface(two[:, :, :15], (1, 1, 1), "mm").match.voxels
    broken = match_surface(mesh.vertices, mesh.faces, whole, (1, 1, 1), (0, 0, 0))
    assert "thin parts are broken" in " ".join(broken.sentences)


def stripes(n_axes: int) -> np.ndarray:
    """Plates (1), rods (2) or single voxels (3) at distances of four voxels."""
    inside = np.zeros((32, 32, 32), bool)
    inside[(slice(None, None, 4),) * n_axes] = True
    return inside


HARD = {
    **{f"noise {n}": np.random.default_rng(1).random((24,) * 3) < n
       for n in (0.001, 0.01, 0.1, 0.3, 0.5, 0.7)},
    **{name: stripes(n) for n, name in enumerate(("plates", "rods", "voxels"), 1)},
    "gaps": np.pad(~stripes(1), 2, constant_values=True),
    "trabeculae": sampled(trabeculae(np.random.default_rng(1)), (40,) * 3),
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
def test_hard_shapes_keep_their_volume_and_parts(name: str) -> None:
    mesh = extract_surface(HARD[name], (1, 1, 1), "pixel")
    assert mesh.volume == pytest.approx(HARD[name].sum(), rel=0.006)
    assert mesh.match.keeps_parts
    assert check_surface(mesh.faces).is_watertight


def test_parts_that_touch_at_a_corner_are_separate_in_the_surface() -> None:
    two = box((16, 16, 16), (3, 3, 3), (5, 5, 5)) | box(
        (16, 16, 16), (8, 8, 8), (5, 5, 5)
    )
    match = extract_surface(two, (1, 1, 1), "mm", smoothing=0).match
    assert match.voxels.pieces == (1, 2)
    text = " ".join(match.sentences)
    assert match.pieces == 2
    assert "2 separate parts" in text
    assert "tunnels" not in text
