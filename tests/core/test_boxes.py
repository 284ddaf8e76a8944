"""Boxes are found without comparing all pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_geosr.core.array_parts import boxes
from napari_geosr.core.array_parts.boxes import (
    Box,
    BoxIndex,
    boxes_from_lists,
    boxes_to_lists,
    n_voxels,
)


def tiles(shape: tuple[int, ...], tile: tuple[int, ...]) -> list[Box]:
    """Tiles of a volume; those at its end are smaller."""
    axes = [
        [slice(a, min(a + t, n)) for a in range(0, n, t)]
        for n, t in zip(shape, tile, strict=True)
    ]
    return list(itertools.product(*axes))


def test_boxes_are_written_down_and_read_back() -> None:
    before = tiles((5, 7), (2, 4))
    entries = boxes_to_lists(before)
    assert entries[1] == [[0, 2], [4, 7]]
    assert boxes_from_lists(entries) == before
    assert sum(map(n_voxels, before)) == 35


@pytest.mark.parametrize("seed", range(5))
def test_it_covers_what_lies_within_a_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    every = tiles((20, 30, 24), (6, 7, 10))
    chosen = [box for box in every if rng.random() < 0.6]
    index = BoxIndex(chosen)
    for _ in range(300):
        start = [int(rng.integers(0, n)) for n in (20, 30, 24)]
        size = rng.integers(1, 8, 3)
        place = tuple(
            slice(a, min(a + int(n), end))
            for a, n, end in zip(start, size, (20, 30, 24), strict=True)
        )
        expected = any(
            all(
                b.start <= p.start and p.stop <= b.stop
                for p, b in zip(place, box, strict=True)
            )
            for box in chosen
        )
        assert index.covers(place) is expected


def test_nothing_covers_nothing() -> None:
    index = BoxIndex([])
    assert not index
    assert not index.covers((slice(0, 1), slice(0, 1)))


@pytest.mark.parametrize("other", [(4, 4, 4), (2, 4, 4), (8, 8, 8)])
def test_the_work_grows_with_the_number_of_tiles(
    monkeypatch: pytest.MonkeyPatch, other: tuple[int, ...]
) -> None:
    """Eight times as many tiles take eight times as many comparisons."""
    n_compared: list[int] = []
    real = boxes.contains
    monkeypatch.setattr(
        boxes, "contains", lambda *given: n_compared.append(1) or real(*given)
    )
    counts = []
    for edge in (30, 60):
        shape = (edge, edge, edge)
        index = BoxIndex(tiles(shape, (4, 4, 4)))
        n_compared.clear()
        places = tiles(shape, other)
        found = [index.covers(place) for place in places]
        counts.append(len(n_compared))
        assert all(found) is (other != (8, 8, 8))
        assert len(n_compared) <= 16 * len(places)
    assert counts[1] <= 10 * max(1, counts[0])
