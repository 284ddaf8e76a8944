"""The persistence loss: diagrams by hand, Betti numbers, and gradient descent."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage.measure import label
from torch import Tensor

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.losses import choice
from napari_geosr.learning.losses.choice import parse_losses
from napari_geosr.learning.losses.terms import GeometryScales, persistence

SCALES = GeometryScales(window=16, radius=1)


def soft(values: npt.ArrayLike) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def loss(phase: npt.ArrayLike, target: npt.ArrayLike) -> float:
    return float(
        persistence.loss(soft(phase)[None, None], soft(target)[None, None], SCALES)
    )


def test_the_diagram_of_a_line_by_hand() -> None:
    """Parts are born at their maxima, and the younger one dies where the two join."""
    line = [[0.1, 0.9, 0.3, 0.7, 0.2]]
    parts, holes = persistence._features(soft(line))
    np.testing.assert_allclose(parts, [[0.9, 0.0], [0.7, 0.3]])
    assert len(holes) == 0


@pytest.mark.parametrize("kind", ["ball", "torus", "shell", "two"])
def test_features_of_bodies_are_their_betti_numbers(kind: str) -> None:
    z, y, x = np.indices((13, 17, 15)) - np.array([6, 8, 7])[:, None, None, None]
    r = np.sqrt(z**2 + y**2 + x**2)
    bodies = {
        "ball": (r < 5, (1, 0, 0)),
        "torus": (np.hypot(np.hypot(y, x) - 5, z) < 1.8, (1, 1, 0)),
        "shell": ((r < 5.5) & (r > 3), (1, 0, 1)),
        "two": (np.abs(np.abs(y) - 5) + np.abs(z) + np.abs(x) < 3, (2, 0, 0)),
    }
    mask, betti = bodies[kind]
    found = persistence._features(0.96 * soft(mask) + 0.02)
    # At 0.02, the whole volume is a single part, which is not counted as a further one.
    assert tuple(len(points) for points in found) == betti


def test_distances_by_hand() -> None:
    one, two = np.full((5, 9), 0.0), np.full((5, 9), 0.0)
    one[2, 2] = two[2, 2] = 1
    two[2, 6] = 0.8
    root = np.sqrt(45)
    assert loss(two, one) == pytest.approx(0.8**2 / 2 / root)  # to the diagonal
    assert loss(one, two) == pytest.approx(0.8**2 / 2 / root)
    other = two.copy()
    other[2, 6] = 0.5
    assert loss(other, two) == pytest.approx(0.3**2 / root)
    assert loss(two, two) == 0
    two[0, 0] = 0.04  # persistence too small
    assert loss(two, other) == pytest.approx(0.3**2 / root)


def test_a_tunnel_too_few_is_not_made_good_by_a_part_too_few() -> None:
    ring = np.zeros((9, 16))
    ring[1:8, 1:8] = 1
    ring[3:6, 3:6] = 0
    with_part = ring.copy()
    with_part[3:6, 11:14] = 1  # one part, one hole: the same Euler number 1 as a disc
    disc = np.zeros((9, 16))
    disc[1:8, 1:8] = 1
    assert loss(disc, with_part) > 0.05


def test_descent_joins_what_was_cut_and_nothing_else() -> None:
    whole = np.zeros((9, 24))
    whole[2:7, 3:9] = whole[2:7, 15:21] = 0.95
    whole[4, 9:15] = 0.95
    cut = whole.copy()
    cut[4, 12] = 0.3
    image = soft(cut)[None, None].requires_grad_(True)
    for _ in range(12):
        error = persistence.loss(image, soft(whole)[None, None], SCALES)
        (slope,) = torch.autograd.grad(error, image)
        image.data -= 2 * slope
    found = image.detach()[0, 0].numpy()
    assert label(found > 0.5, connectivity=2).max() == 1
    assert found[4, 12] > 0.8
    changed = np.argwhere((found > 0.5) != (cut > 0.5))
    assert changed.tolist() == [[4, 12]]


def test_it_is_said_which_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_losses("l1,persistence")["persistence"] == persistence.WEIGHT

    def without(name: str) -> object:
        return None if name == "gudhi" else find_spec(name)

    monkeypatch.setattr(choice, "find_spec", without)
    with pytest.raises(ConfigError, match=r"needs gudhi.*napari-geosr\[topology\]"):
        parse_losses("l1,persistence")
    assert "l1" in parse_losses("l1,euler")
