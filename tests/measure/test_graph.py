"""The graph of networks with known number, length and degree of branches."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_geosr.measure.graph import network_graph
from napari_geosr.measure.graph.agreement import graph_agreement
from napari_geosr.physics.specimens.tubes import render_tubes

SHAPE = (64, 64, 64)


def tubes(*paths: list[tuple[float, float, float]], radius: float = 3.0) -> np.ndarray:
    lines = [np.array(path, float) for path in paths]
    return render_tubes(SHAPE, lines, [radius] * len(lines)) >= 0.5


@pytest.mark.parametrize(
    "end", [(54, 32, 32), (32, 50, 54), (50, 50, 50), (45, 20, 54), (37, 12, 44)]
)
@pytest.mark.parametrize("radius", [1.0, 3.0])
def test_a_straight_tube_is_one_branch_of_its_length(
    end: tuple[int, int, int], radius: float
) -> None:
    begin = (10.0, 32.0, 32.0) if end[0] > 40 else (32.0, 12.0, 12.0)
    length = math.dist(begin, end)
    graph = network_graph(tubes([begin, end], radius=radius), (0.2,) * 3, unit="µm")
    assert (len(graph.paths), len(graph.nodes), graph.loops) == (1, 2, 0)
    assert graph.degrees.tolist() == [1, 1]
    # Thinning removes up to the radius of the round ends, and half a voxel.
    assert graph.length == pytest.approx(0.2 * length, abs=0.2 * (radius + 1))
    assert graph.mean_degree is None


def grid(radius: float = 2.5) -> np.ndarray:
    """Two rails along Z and three rungs between them."""
    rails = [[(4.0, y, 32.0), (60.0, y, 32.0)] for y in (16.0, 48.0)]
    rungs = [[(z, 16.0, 32.0), (z, 48.0, 32.0)] for z in (16.0, 32.0, 48.0)]
    return tubes(*rails, *rungs, radius=radius)


@pytest.mark.parametrize("radius", [1.0, 1.5, 2.5])
def test_a_ladder_has_the_nodes_branches_and_loops_of_a_ladder(radius: float) -> None:
    graph = network_graph(grid(radius), (0.5,) * 3, unit="µm")
    assert (graph.junctions, graph.free_ends) == (6, 4)
    assert len(graph.paths) == 11
    assert (graph.loops, graph.components) == (2, 1)
    assert graph.mean_degree == 3.0
    assert graph.length == pytest.approx(4 * 6 + 4 * 8 + 3 * 16, rel=0.03)
    # The centre of a junction is slightly inside the branch, so the rails are longer.
    assert np.allclose(np.sort(graph.lengths)[4:8], 8.0, rtol=0.08)
    assert np.allclose(np.sort(graph.lengths)[8:], 16.0, rtol=0.1)


def test_a_ring_has_one_loop() -> None:
    turn = np.linspace(0, 2 * math.pi, 60)
    ring = np.stack([np.full(60, 32.0), 32 + 20 * np.cos(turn), 32 + 20 * np.sin(turn)])
    mask = render_tubes(SHAPE, [ring.T], [2.0]) >= 0.5
    graph = network_graph(mask)
    assert (graph.loops, graph.components, len(graph.paths)) == (1, 1, 1)
    assert graph.length == pytest.approx(2 * math.pi * 20, rel=0.03)


def test_rough_surfaces_make_no_branches() -> None:
    rng = np.random.default_rng(0)
    path = np.array([[8.0, 32, 32], [56, 32, 32]])
    fraction = render_tubes(SHAPE, [path], [5.0])
    mask = fraction + rng.normal(0, 0.15, SHAPE) * (fraction > 0) >= 0.5
    graph = network_graph(mask)
    assert len(graph.paths) <= 2
    assert graph.length == pytest.approx(48, abs=7)


def test_tubules_are_counted_in_cross_section() -> None:
    """Nine tubes through the volume and two across: nine per face."""
    through = [
        [(-5.0, y, x), (70.0, y + 3, x)]
        for y in (10.0, 30.0, 50.0)
        for x in (10.0, 30.0, 50.0)
    ]
    across = [[(z, 10.0, 10.0), (z, 50.0, 10.0)] for z in (20.0, 40.0)]
    graph = network_graph(tubes(*through, *across, radius=2.0), (0.5,) * 3, unit="µm")
    assert graph.crossing(0) == 9
    assert graph.tubules_per_mm2(0) == pytest.approx(9 / 0.032**2)
    assert graph.joining == {"Z": 7, "Y": 0, "X": 0}
    assert graph.to_json_dict()["tubules_per_mm2"]["Z"] == graph.tubules_per_mm2(0)
    assert network_graph(tubes(*through)).tubules_per_mm2(0) is None


def test_components_join_faces_by_corners_too() -> None:
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    assert network_graph(mask).joining == {"Z": 1, "Y": 1, "X": 1}
    assert network_graph(mask, smallest=4).joining == {"Z": 0, "Y": 0, "X": 0}
    mask[1] = False
    assert network_graph(mask).joining == {"Z": 0, "Y": 0, "X": 0}


def test_lost_and_invented_branches_are_shares() -> None:
    """Three rungs of a ladder are lost, and one is invented."""
    true = network_graph(grid(), (0.5,) * 3, unit="µm")
    rails = [[(4.0, y, 32.0), (60.0, y, 32.0)] for y in (16.0, 48.0)]
    wrong = [(32.0, 48.0, 32.0), (32.0, 48.0, 56.0)]
    found = network_graph(tubes(*rails, wrong, radius=2.5), (0.5,) * 3, unit="µm")
    agreement = graph_agreement(found, true, 1.0)
    assert agreement.branch_recall == pytest.approx(8 / 11)
    assert agreement.branch_precision == pytest.approx(3 / 4)
    # The ends of a rung are near the rails, which exist.
    lost = 3 * (14.5 - 2 * 0.5) / true.length
    assert agreement.length_recall == pytest.approx(1 - lost, abs=0.04)
    assert agreement.length_precision == pytest.approx(
        1 - (12 - 1.5) / found.length, abs=0.05
    )
    same = graph_agreement(true, true, 0.01)
    assert (same.branch_precision, same.length_recall) == (1.0, 1.0)


def test_other_voxels_and_another_part_are_compared_in_place() -> None:
    mask = grid(radius=3.0)
    fine = network_graph(mask, (0.5,) * 3, unit="µm")
    coarse = network_graph(mask[::2, ::2, ::2], (1.0,) * 3, unit="µm")
    part = network_graph(mask[20:], (0.5,) * 3, (10.0, 0.0, 0.0), unit="µm")
    for other in (coarse, part):
        agreement = graph_agreement(other, fine, 1.2)
        assert agreement.length_recall > 0.95
        assert agreement.length_precision > 0.95
    moved = network_graph(mask[20:], (0.5,) * 3, unit="µm")
    assert graph_agreement(moved, fine, 1.2).length_precision < 0.8


def test_nothing_agrees_with_nothing() -> None:
    empty = network_graph(np.zeros(SHAPE, bool))
    full = network_graph(grid())
    assert (empty.components, empty.length, empty.mean_length) == (0, 0.0, None)
    assert graph_agreement(empty, empty, 1.0).branch_recall == 1.0
    assert graph_agreement(empty, full, 1.0).branch_recall == 0.0
    assert graph_agreement(empty, full, 1.0).length_precision == 0.0


def test_lone_voxels_are_nodes() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[4, 5, 6] = mask[20, 20, 20:22] = True
    graph = network_graph(mask)
    assert graph.components == 2
    assert sorted(graph.degrees.tolist())[0] == 0


def test_an_image_has_a_graph() -> None:
    mask = np.zeros((40, 40), bool)
    mask[19:22, 4:36] = mask[4:36, 19:22] = True
    graph = network_graph(mask, (0.5, 0.5), (0.0, 0.0), unit="µm")
    assert (graph.junctions, graph.free_ends, len(graph.paths)) == (1, 4, 4)
    assert graph.mean_degree == 4.0


def test_specks_are_left_out() -> None:
    mask = grid()
    mask[2, 2, 2:5] = True
    assert network_graph(mask).components == 2
    assert network_graph(mask, smallest=4).components == 1


def test_units_of_length_are_converted() -> None:
    graph = network_graph(grid(), (0.5,) * 3, unit="µm")
    other = graph.in_unit("mm")
    assert other.length == pytest.approx(graph.length / 1000)
    assert other.tubules_per_mm2(0) == pytest.approx(graph.tubules_per_mm2(0))
    assert graph_agreement(other.in_unit("µm"), graph, 0.1).length_recall == 1.0
