"""Number of pixels in the convex hull of a slice, as in scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.morphology import convex_hull_image

from napari_geosr.measure.reliability.hull import hull_area, hull_share_outside


@pytest.mark.parametrize("seed", range(8))
def test_the_area_is_that_of_scikit_image(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 60), bool)
    mask[rng.integers(5, 35, 12), rng.integers(5, 55, 12)] = True
    expected = convex_hull_image(mask, offset_coordinates=False).sum()
    assert hull_area(mask) == expected


def test_nothing_has_no_hull():
    assert hull_area(np.zeros((4, 5), bool)) == 0


def test_a_notch_that_an_envelope_follows_is_left_out():
    solid = np.ones((3, 20, 20), bool)
    assert hull_share_outside(solid, lambda z: solid[z]) == 0
    notched = solid.copy()
    notched[:, 5:15, 10:] = False
    assert hull_share_outside(notched, lambda z: notched[z]) == pytest.approx(100 / 400)
