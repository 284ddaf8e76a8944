"""Warnings about completed parts that cannot be trusted."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.networks.sparse._directions import direction_grid
from napari_geosr.networks.sparse._shells import (
    Ellipsoid,
    ShellMaps,
)
from napari_geosr.networks.sparse._walls import share_in_wall
from napari_geosr.operations.shapes import CompleteShapeConfig
from napari_geosr.operations.shapes.complete import complete_mask_steps
from napari_geosr.operations.shapes.parts import part_size_warning
from napari_geosr.physics.shapes import (
    DEFECTS,
    defect,
    sampled,
    skull,
    vault_direction,
)

EDGE = 56


def completed(inside: np.ndarray):
    """Return the completed part and the warnings."""
    said = []

    def keep(step) -> None:
        if isinstance(step, WarningIssued):
            said.append(step.message)

    config = CompleteShapeConfig(device="cpu", threads=1)
    return run_to_end(complete_mask_steps(inside, config), keep), said


def ring() -> np.ndarray:
    """A torus about Z."""
    z, y, x = np.indices((40, EDGE, EDGE)) - np.array([20, 28, 28])[:, None, None, None]
    return (np.hypot(y, x) - 19) ** 2 + z**2 < 6**2


@pytest.mark.parametrize("kind", DEFECTS)
def test_skulls_with_the_largest_missing_parts_are_no_surprise(kind: str) -> None:
    rng = np.random.default_rng([100, 20])
    complete = sampled(skull(rng), (EDGE,) * 3)
    hole = defect(rng, kind, 0.72 * vault_direction(rng), 0.4)
    found, said = completed(complete & ~sampled(hole, (EDGE,) * 3))
    assert not said
    assert found.reproduced > 0.97


def test_a_ring_is_unlike_the_training_shapes() -> None:
    found, said = completed(ring())
    assert found.implant.any()
    assert any("has a wall in only" in warning for warning in said)


def test_a_part_as_large_as_the_shape_is_mostly_invented() -> None:
    half = sampled(skull(np.random.default_rng([100, 20])), (EDGE,) * 3)
    half[:, :, : EDGE // 2] = False
    found, said = completed(half)
    share = found.implant.sum() / half.sum()
    assert share > 0.8
    assert any(f"its volume is {100 * share:.0f} % of" in text for text in said)


def test_only_unusual_sizes_are_told() -> None:
    assert "already be complete" in part_size_warning(10, 1000)
    assert not part_size_warning(11, 1000)
    assert not part_size_warning(200, 1000)
    assert "20 % were not tested" in part_size_warning(201, 1000)


def test_the_voxels_in_the_wall_are_counted() -> None:
    """Half of the voxels of a thick shell lie outside a thinner wall."""
    places = np.indices((40, 40, 40)) - 19.5
    radius = np.sqrt((places**2).sum(0))
    grid = direction_grid(400)
    ellipsoid = Ellipsoid(np.full(3, 19.5), np.full(3, 18.0))
    maps = ShellMaps(np.ones(400), np.full(400, 4 / 18))
    for inner in (10, 14, 16):
        inside = (radius <= 18) & (radius >= inner)
        expected = (inside & (radius >= 14)).sum() / inside.sum()
        found = share_in_wall(inside, maps, ellipsoid, grid)
        assert found == pytest.approx(expected, abs=0.01)
