from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.measure import euler_number, label

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.specimens.tubes import (
    bone_cells,
    cell_network,
    cortical_canals,
    render_tubes,
)


def test_a_straight_tube_has_the_volume_of_a_cylinder_and_two_half_balls() -> None:
    path = np.array([[20.0, 20.3, 20.6], [60.0, 20.3, 20.6]])
    fraction = render_tubes((80, 40, 40), [path], [5.0])
    expected = math.pi * 25 * 40 + 4 / 3 * math.pi * 125
    assert fraction.sum() == pytest.approx(expected, rel=0.01)
    assert fraction[40, 20, 20] == 1
    assert fraction[40, 20, 30] == 0


def test_the_graph_of_cells_is_the_topology_of_the_voxels() -> None:
    made = cell_network(
        (96, 96, 96), spacing=42, lacuna=8, canaliculus=2.0, neighbours=2, seed=4
    )
    assert len(made.cells) >= 6
    # 6-connected solid, 26-connected pores: the meaning of skimage's connectivity 3.
    assert euler_number(made.phantom.mask, connectivity=3) == made.euler_number
    inside = np.round(made.cells).astype(int)
    assert made.phantom.mask[tuple(inside.T)].all()


def test_canaliculi_join_cells() -> None:
    alone = cell_network((80, 80, 80), neighbours=0, spacing=30, seed=1)
    joined = cell_network((80, 80, 80), neighbours=5, spacing=30, seed=1)
    assert label(alone.phantom.mask).max() == len(alone.cells)
    assert label(joined.phantom.mask).max() == 1
    np.testing.assert_array_equal(alone.cells, joined.cells)


def test_canals_run_along_the_bone() -> None:
    mask = cortical_canals((64, 96, 96), number=8, links=0, bend=2.0, seed=0).mask
    assert (mask.reshape(64, -1).sum(1) > 0).all()
    assert 0.005 < mask.mean() < 0.4
    again = cortical_canals((64, 96, 96), number=8, links=0, bend=2.0, seed=0).mask
    np.testing.assert_array_equal(mask, again)


def test_no_room_for_cells_is_said() -> None:
    with pytest.raises(ConfigError, match="needs more than 25 voxels"):
        cell_network((16, 64, 64))


@pytest.mark.parametrize("porosity", [0.01, 0.02])
def test_bone_cells_have_the_porosity_that_was_asked_for(porosity: float) -> None:
    made = bone_cells((128, 128, 128), porosity=porosity, radius=(1.5, 9), seed=2)
    assert made.phantom.fraction.mean() == pytest.approx(porosity, rel=0.15)
    assert made.porosity == pytest.approx(made.phantom.fraction.mean(), rel=0.08)


def test_bone_cells_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(ConfigError, match="is at most about 0"):
        bone_cells((96, 96, 96), porosity=0.5, radius=(1, 9), seed=0)
    with pytest.raises(ConfigError, match="must be thinner than the cells"):
        bone_cells((96, 96, 96), porosity=0.01, radius=(5, 9), seed=0)
