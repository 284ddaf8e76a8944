"""Simulated radiographs: seeded, with all tissues, not solvable by grey values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.shapes.radiographs import RESTORATION, TISSUES, radiographs


@pytest.fixture(scope="module")
def several() -> list:
    return list(radiographs(16, 64, seed=0))


def test_each_is_a_function_of_seed_and_number(several) -> None:
    one = next(radiographs(1, 64, seed=0, start=5))
    np.testing.assert_array_equal(one.grey, several[5].grey)
    np.testing.assert_array_equal(one.labels, several[5].labels)
    for a, b in itertools.pairwise(several):
        assert (a.labels != b.labels).mean() > 0.1


def test_the_anatomy_does_not_depend_on_the_resolution(several) -> None:
    fine = next(radiographs(1, 192, seed=0, start=3))
    assert fine.pixel == several[3].pixel / 3
    assert (fine.labels[1::3, 1::3] == several[3].labels).mean() > 0.97


def test_every_tissue_is_frequent(several) -> None:
    labels = np.stack([each.labels for each in several])
    assert set(np.unique(labels)) == {*range(len(TISSUES)), RESTORATION}
    counts = np.bincount(labels.ravel(), minlength=256) / labels.size
    assert counts[: len(TISSUES)].min() > 0.01
    assert 0 < counts[RESTORATION] < 0.05


def test_denser_tissue_is_brighter_within_an_image(several) -> None:
    enamel, background, dentine = map(
        TISSUES.index, ("enamel", "background", "dentine")
    )
    for each in several:
        medians = [
            np.median(each.grey[each.labels == k]) for k in (background, dentine)
        ]
        assert medians[0] < medians[1]
        assert np.median(each.grey[each.labels == enamel]) > medians[0]


def test_grey_values_alone_do_not_give_the_tissue(several) -> None:
    """Even the best look-up table of grey values, learned with all labels, fails."""
    grey = np.stack([each.grey for each in several]).ravel() // 32
    labels = np.stack([each.labels for each in several]).ravel()
    table = np.zeros((128, len(TISSUES)), int)
    known = labels != RESTORATION
    np.add.at(table, (grey[known], labels[known]), 1)
    found = table.argmax(axis=1)[grey]
    overlaps = []
    for k in range(len(TISSUES)):
        one, other = (found == k) & known, labels == k
        overlaps.append((one & other).sum() / (one | other).sum())
    assert np.mean(overlaps) < 0.4
    assert overlaps[TISSUES.index("pulp")] < 0.1


def test_too_few_pixels_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 32 pixels"):
        next(radiographs(1, 16, seed=0))
