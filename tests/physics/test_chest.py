"""Simulated chest radiographs: seeded, with all organs, in one place at any size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.shapes.chest import FOREIGN, ORGANS, chest_radiographs


@pytest.fixture(scope="module")
def several() -> list:
    return list(chest_radiographs(12, 96, seed=0))


def test_each_is_a_function_of_seed_and_number(several) -> None:
    one = next(chest_radiographs(1, 96, seed=0, start=5))
    np.testing.assert_array_equal(one.grey, several[5].grey)
    np.testing.assert_array_equal(one.labels, several[5].labels)
    for a, b in itertools.pairwise(several):
        assert (a.labels != b.labels).mean() > 0.1


def test_the_anatomy_does_not_depend_on_the_resolution(several) -> None:
    fine = next(chest_radiographs(1, 288, seed=0, start=3))
    assert fine.pixel == pytest.approx(several[3].pixel / 3)
    assert (fine.labels[1::3, 1::3] == several[3].labels).mean() > 0.97


def test_every_organ_occurs_in_each(several) -> None:
    for each in several:
        assert set(np.unique(each.labels)) - {FOREIGN} == set(range(len(ORGANS)))
    labels = np.stack([each.labels for each in several])
    counts = np.bincount(labels.ravel(), minlength=256) / labels.size
    assert counts[: len(ORGANS)].min() > 0.01
    assert 0 < counts[FOREIGN] < 0.02


def test_air_is_dark_and_bone_is_bright_beside_it(several) -> None:
    lung, heart, rib = map(ORGANS.index, ("lung", "heart", "rib"))
    for each in several:
        middle = np.zeros(each.labels.shape, bool)
        middle[30:60, 20:76] = True
        grey = {
            k: np.median(each.grey[(each.labels == k) & middle])
            for k in (lung, heart, rib)
        }
        assert grey[lung] < grey[rib]
        assert grey[lung] < grey[heart]


def test_grey_values_alone_do_not_give_the_organ(several) -> None:
    """Even the best look-up table of grey values, learned with all labels, fails."""
    grey = np.stack([each.grey for each in several]).ravel() // 32
    labels = np.stack([each.labels for each in several]).ravel()
    table = np.zeros((128, len(ORGANS)), int)
    known = labels != FOREIGN
    np.add.at(table, (grey[known], labels[known]), 1)
    found = table.argmax(axis=1)[grey]
    overlaps = []
    for k in range(len(ORGANS)):
        one, other = (found == k) & known, labels == k
        overlaps.append((one & other).sum() / (one | other).sum())
    assert np.mean(overlaps) < 0.5
    assert overlaps[ORGANS.index("rib")] < 0.2


def test_too_few_pixels_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 32 pixels"):
        next(chest_radiographs(1, 16, seed=0))
