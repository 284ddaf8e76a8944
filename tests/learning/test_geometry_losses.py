"""Geometric losses compared with hand calculations and scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage.measure import euler_number as reference
from skimage.measure import label
from torch import Tensor

from napari_geosr.learning.losses.boxes import box_means, box_sums
from napari_geosr.learning.losses.euler import euler_number
from napari_geosr.learning.losses.morphology import (
    dilated,
    eroded,
    signed_distance,
    soft_skeleton,
)
from napari_geosr.learning.losses.terms import (
    TERMS,
    GeometryScales,
    describe,
    needs_radius,
)
from napari_geosr.learning.target_loss import SoftPhase

GEOMETRY = [n for n in TERMS.names() if TERMS.load(n).KIND == "geometry"]
SCALES = GeometryScales(window=4, radius=2)


def batch(mask: npt.ArrayLike) -> Tensor:
    """One sample of one channel, 0 and 1."""
    return torch.as_tensor(np.asarray(mask), dtype=torch.float64)[None, None]


def loss(name: str, phase: Tensor, target: Tensor, **scales: Any) -> Tensor:
    found: Tensor = TERMS.load(name).loss(phase, target, GeometryScales(**scales))
    return found


def solids() -> dict[str, tuple[npt.NDArray[np.bool_], int]]:
    """Bodies in 3D and 2D with their Euler numbers."""
    z, y, x = np.indices((15, 17, 16)) - np.array([7, 8, 7])[:, None, None, None]
    r = np.sqrt(z**2 + y**2 + x**2)
    ring = np.hypot(np.hypot(y, x) - 5, z)
    aside = np.sqrt(z**2 + (y - 5) ** 2 + x**2)
    return {
        "ball": (r < 6, 1),
        "torus": (ring < 2.2, 0),
        "two balls": ((aside < 2.5) | (aside[:, ::-1] < 2.5), 2),
        "shell": ((r < 6) & (r > 3), 2),
        "disc": (r[7] < 6, 1),
        "ring": ((r[7] < 6) & (r[7] > 3), 0),
        "two discs": ((aside[7] < 2.5) | (aside[7, ::-1] < 2.5), 2),
    }


def test_every_loss_has_its_words() -> None:
    assert set(describe()) == set(TERMS.names())
    assert {"cldice", "euler", "porosity", "skeleton", "surface"} <= set(GEOMETRY)
    for name in TERMS.names():
        module = TERMS.load(name)
        assert module.KIND in ("voxels", "edges", "geometry")
        assert module.WEIGHT > 0
        assert 5 < len(module.TITLE) <= 20
        assert describe()[name] == module.ABOUT


@pytest.mark.parametrize("body", solids())
@pytest.mark.parametrize("by_faces", [False, True])
def test_euler_numbers_of_bodies(body: str, by_faces: bool) -> None:
    mask, number = solids()[body]
    assert float(euler_number(batch(mask), by_faces=by_faces)) == number


@pytest.mark.parametrize("shape", [(9, 8, 11), (14, 17)])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_euler_numbers_of_blobs_are_those_of_scikit_image(
    shape: tuple[int, ...], share: float, rng: np.random.Generator
) -> None:
    masks = rng.random((6, *shape)) < share
    found = torch.as_tensor(masks, dtype=torch.float32)[:, None]
    for by_faces, connectivity in ((True, 1), (False, len(shape))):
        numbers = [reference(mask, connectivity=connectivity) for mask in masks]
        assert euler_number(found, by_faces=by_faces).tolist() == numbers


def test_a_soft_map_has_the_mean_euler_number_of_its_thresholds() -> None:
    two = np.zeros((6, 12))
    two[1:5, 1:5] = two[1:5, 7:11] = 1
    two[2:4, 5:7] = 0.3  # joined below 0.3, two above
    assert float(euler_number(batch(two))) == pytest.approx(0.3 * 1 + 0.7 * 2)
    assert float(euler_number(batch(0.5 * np.ones((5, 5, 5))))) == pytest.approx(0.5)


def test_a_part_too_many_is_counted_in_its_box() -> None:
    one, two = (solids()[name][0][:, :16] for name in ("ball", "two balls"))
    found = float(loss("euler", batch(two), batch(one), window=16, radius=1))
    box = np.prod([15, 16, 16])
    assert found == pytest.approx(0.5 / np.sqrt(box))
    # One of two adjacent boxes, and not the one between them.
    wide = [np.concatenate([a, one], axis=2) for a in (two, one)]
    found = float(loss("euler", *map(batch, wide), window=16, radius=1))
    assert found == pytest.approx(0.5 / np.sqrt(box) / 3)


def test_erosion_and_dilation_of_windows_at_the_border() -> None:
    line = batch([[0, 0.2, 0.7, 1.0, 0.9]])
    assert eroded(line)[0, 0, 0].tolist() == [0, 0, 0.2, 0.7, 0.9]
    assert dilated(line)[0, 0, 0].tolist() == [0.2, 0.7, 1.0, 1.0, 1.0]
    corner = np.zeros((3, 3))
    corner[0, 0] = 1
    assert float(dilated(batch(corner)).sum()) == 4
    assert float(eroded(1 - batch(corner)).sum()) == 9 - 3


def test_equal_values_share_the_gradient() -> None:
    flat = batch(np.ones((3, 3))).requires_grad_(True)
    (found,) = torch.autograd.grad(eroded(flat)[0, 0, 1, 1], flat)
    cross = [[0, 0.2, 0], [0.2, 0.2, 0.2], [0, 0.2, 0]]
    assert found[0, 0].numpy() == pytest.approx(np.array(cross))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_line_is_its_own_skeleton(ndim: int) -> None:
    line = np.zeros((9,) * ndim)
    line[(4,) * (ndim - 1)] = 1
    assert torch.equal(soft_skeleton(batch(line), 4), batch(line))


def test_a_bar_has_a_line_in_its_middle_where_radius_allows() -> None:
    bar = np.zeros((17, 60))
    bar[5:12, 2:58] = 1  # 7 voxels wide
    assert float(soft_skeleton(batch(bar), 2).sum()) == 0
    found = soft_skeleton(batch(bar), 3)[0, 0].numpy()
    assert set(np.flatnonzero(found.sum(axis=1))) == {8}
    assert found.sum() == 50


@pytest.mark.parametrize("shape", [(16, 18), (10, 11, 12)])
def test_skeletons_lie_within(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    soft = torch.as_tensor(rng.random((2, 1, *shape)))
    skeleton = soft_skeleton(soft, 3)
    assert bool((skeleton <= soft + 1e-12).all())
    assert bool((skeleton >= 0).all())
    assert float(skeleton.sum()) > 0


def test_a_gap_in_a_line_by_hand() -> None:
    """56 voxels with a gap of 4: nothing is invented, 52 of 56 are found."""
    line = np.zeros((9, 60))
    line[4, 2:58] = 1
    cut = line.copy()
    cut[4, 28:32] = 0
    complete = (52 + 1) / (56 + 1)
    by_hand = 1 - 2 * complete / (1 + complete)
    given = {"window": 4, "radius": 2}
    assert float(loss("cldice", batch(cut), batch(line), **given)) == pytest.approx(
        by_hand
    )
    missing = float(loss("skeleton", batch(cut), batch(line), **given))
    assert missing == pytest.approx(4 / (56 + 1))
    # Invented structure does not affect recall.
    assert float(loss("skeleton", batch(line), batch(cut), **given)) == 0
    assert float(loss("cldice", batch(line), batch(cut), **given)) > 0.03


def test_patches_without_the_phase_are_right() -> None:
    nothing = batch(np.zeros((8, 8)))
    for name in GEOMETRY:
        assert float(loss(name, nothing, nothing, window=4, radius=2)) == 0


def test_boxes_overlap_by_half_and_the_last_may_be_cut() -> None:
    x = torch.arange(10.0)[None, None, None].expand(1, 1, 4, 10)
    assert box_means(x, 4)[0, 0, 0].tolist() == [1.5, 3.5, 5.5, 7.5]
    assert box_sums(x[..., :9], 4)[0, 0, 0].tolist() == [24, 56, 88, 84]
    assert box_means(x[..., :9], 4)[0, 0, 0].tolist() == [1.5, 3.5, 5.5, 7.0]


def test_porosity_is_compared_in_boxes_by_hand() -> None:
    chess = np.indices((8, 8)).sum(axis=0) % 2
    assert float(loss("porosity", batch(chess), batch(1 - chess), **vars(SCALES))) == 0
    pore = np.zeros((8, 8))
    pore[:2, :2] = 1
    # Three boxes of 4 along an axis: one has 4 of 16. Seven boxes of 2: 4, 2, 2, 1 of
    # 4.
    by_hand = (0.25 / 9 + 2.25 / 49) / 2
    found = loss("porosity", batch(pore), batch(0 * pore), **vars(SCALES))
    assert float(found) == pytest.approx(by_hand / 0.5)
    # A displaced pore is not compensated for by its new position.
    moved = loss(
        "porosity", batch(pore), batch(pore[::-1, ::-1].copy()), window=4, radius=1
    )
    assert float(moved) == pytest.approx(2 * by_hand / 0.5)


def test_depths_count_voxels_from_the_wall() -> None:
    slab = np.zeros((12, 5))
    slab[:6] = 1
    column = signed_distance(batch(slab), 4)[0, 0, :, 2].tolist()
    assert column == [4, 4, 4, 3, 2, 1, -1, -2, -3, -4, -4, -4]


@pytest.mark.parametrize("across", [(7,), (5, 6)])
def test_a_wall_costs_in_proportion_to_its_shift(across: tuple[int, ...]) -> None:
    def wall(at: int) -> Tensor:
        return batch((np.indices((40, *across))[0] < at).astype(float))

    found = [
        float(loss("surface", wall(16 + n), wall(16), window=4, radius=1))
        for n in range(6)
    ]
    assert found == pytest.approx([n / 40 / 0.5 for n in range(6)])


def test_a_hole_in_the_middle_costs_more_than_its_volume() -> None:
    thick = np.ones((21, 21))
    holed, notched = thick.copy(), np.zeros((21, 21))
    holed[10, 10] = 0
    notched[:, :10] = 1
    dented = notched.copy()
    dented[10, 9] = 0
    hole = float(loss("surface", batch(holed), batch(thick), window=4, radius=1))
    dent = float(loss("surface", batch(dented), batch(notched), window=4, radius=1))
    assert hole > 3 * dent > 0


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("shape", [(12, 13), (8, 9, 10)])
def test_gradients_are_numbers_and_right(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    phase = torch.rand(2, 1, *shape, dtype=torch.float64, requires_grad=True)
    target = (torch.rand_like(phase) < 0.4).double() * 0.98 + 0.01
    module = TERMS.load(name)
    (slope,) = torch.autograd.grad(module.loss(phase, target, SCALES), phase)
    assert bool(torch.isfinite(slope).all())
    assert bool((slope.flatten(1) != 0).any(dim=1).all())
    small = tuple(slice(n) for n in (1, 1, 5, 4, 5))[: phase.ndim]
    assert torch.autograd.gradcheck(
        lambda p: module.loss(p, target[small], SCALES), (phase[small],), fast_mode=True
    )


@pytest.mark.parametrize("name", GEOMETRY)
def test_a_loss_that_reads_the_radius_says_so(name: str) -> None:
    torch.manual_seed(5)
    wide = batch(np.pad(np.ones((14, 14)), 4))
    phase = wide * torch.rand_like(wide)
    one, other = (
        float(loss(name, phase, wide, window=4, radius=radius)) for radius in (1, 6)
    )
    assert (one != other) == needs_radius(TERMS.load(name))


@pytest.mark.parametrize("name", GEOMETRY)
def test_parts_of_a_batch_average_to_the_whole(name: str) -> None:
    torch.manual_seed(4)
    phase, target = torch.rand(2, 4, 1, 12, 11, dtype=torch.float64)
    module = TERMS.load(name)
    parts = [module.loss(phase[i : i + 2], target[i : i + 2], SCALES) for i in (0, 2)]
    whole = module.loss(phase, target, SCALES)
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("shape", [(20, 20), (12, 12, 12)])
def test_little_at_equality_and_more_for_other_things(
    name: str, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    hard = rng.random(shape) < 0.4
    other = rng.random(shape) < 0.4
    soft, wrong = (0.98 * batch(mask) + 0.01 for mask in (hard, other))
    same = float(loss(name, soft, soft, window=8, radius=2))
    assert same <= 0.02
    assert float(loss(name, wrong, soft, window=8, radius=2)) > 4 * same + 1e-3


def test_descent_on_the_euler_number_joins_a_neck_that_was_cut() -> None:
    """Only grey values are optimised: two bright spheres with a trace of their neck."""
    whole = np.zeros((9, 9, 24))
    z, y, x = np.indices(whole.shape)
    for centre in (6, 17):
        whole[(z - 4) ** 2 + (y - 4) ** 2 + (x - centre) ** 2 < 14] = 1
    whole[4, 4, 6:18] = 1
    cut = whole.copy()
    cut[4, 4, 11:13] = 0.3
    assert label(cut > 0.5, connectivity=3).max() == 2
    soft = SoftPhase(threshold=0.5, softness=0.1)
    image = batch(cut).float().requires_grad_(True)
    target = soft(batch(whole).float())
    for _ in range(8):
        error = loss("euler", soft(image), target, window=16, radius=1)
        (slope,) = torch.autograd.grad(error, image)
        image.data -= 4 * slope
    found = image.detach()[0, 0].numpy() > 0.5
    assert label(found, connectivity=3).max() == 1
    assert np.argwhere(found != (cut > 0.5)).tolist() == [[4, 4, 11], [4, 4, 12]]
