from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_geosr.measure.comparison.centrelines import (
    centreline_agreement,
    centrelines,
    connectivity,
)


def tube(shape: tuple[int, ...] = (24, 24, 60)) -> np.ndarray:
    z, y, _ = np.indices(shape)
    return (z - 12) ** 2 + (y - 12) ** 2 <= 9


def test_a_cut_costs_recall_and_an_invention_precision() -> None:
    truth = tube()
    cut = truth.copy()
    cut[:, :, 25:35] = False
    more = truth.copy()
    more[18:21, 4:7, :] = True
    same = centreline_agreement(truth, truth)
    assert (same.precision, same.recall, same.cldice) == (1, 1, 1)
    lost = centreline_agreement(cut, truth)
    assert lost.precision == 1
    assert lost.recall == pytest.approx(1 - 10 / 60, abs=0.05)
    made = centreline_agreement(more, truth)
    assert made.recall == 1
    assert made.precision == pytest.approx(0.5, abs=0.1)


def test_nothing_against_nothing_and_something() -> None:
    none = np.zeros((8, 8, 8), bool)
    assert centreline_agreement(none, none).cldice == 1
    assert centreline_agreement(none, tube((24, 24, 24))[8:16, 8:16, :8]).cldice == 0


def test_connectivity_counts_loops() -> None:
    mask = np.zeros((12, 12, 12), bool)
    mask[3:6, 3:10, 3:10] = True
    assert connectivity(mask) == 0
    mask[3:6, 5:8, 5:8] = False
    assert connectivity(mask) == 1


def test_connectivity_of_parts_adds_up(rng: np.random.Generator) -> None:
    mask = gaussian_filter(rng.standard_normal((24, 24, 41)), 2) > 0
    whole = connectivity(mask)
    parts = [mask[:, :, :21], mask[:, :, 20:]]
    assert sum(connectivity(part) - 1 for part in parts) == whole - 1


@pytest.mark.parametrize("width", [2, 3, 4, 6])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_no_tube_is_without_a_line(width: int, axis: int) -> None:
    """Thinning by scikit-image 0.26 deletes tubes that are 2 or 4 voxels wide."""
    mask = np.zeros((14, 14, 30), bool)
    mask[4 : 4 + width, 4 : 4 + width, 3:25] = True
    lines = centrelines(np.ascontiguousarray(np.moveaxis(mask, 2, axis)))
    assert 22 - width <= np.count_nonzero(lines) <= 22 + 2
    assert not (lines & ~np.moveaxis(mask, 2, axis)).any()


def test_every_component_has_a_line() -> None:
    mask = np.zeros((20, 20, 40), bool)
    for x, width in ((2, 1), (8, 2), (14, 4), (22, 6)):
        mask[5 : 5 + width, 5 : 5 + width, x : x + width] = True
    lines = centrelines(mask)
    assert [lines[..., x : x + 6].any() for x in (2, 8, 14, 22)] == [True] * 4
