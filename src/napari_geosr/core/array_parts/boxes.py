"""Boxes of an array: conversion to and from lists, and fast look-up."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

#: One slice per axis, with explicit start and stop.
Box = tuple[slice, ...]
Index = tuple[int, ...]


def boxes_to_lists(boxes: Iterable[Box]) -> list[list[list[int]]]:
    """Return the boxes as lists of ``[start, stop]`` for JSON and YAML."""
    return [[[int(part.start), int(part.stop)] for part in box] for box in boxes]


def boxes_from_lists(entries: Iterable[Iterable[Sequence[int]]]) -> list[Box]:
    """Convert lists made by `boxes_to_lists` back to boxes."""
    return [tuple(slice(int(a), int(b)) for a, b in entry) for entry in entries]


def n_voxels(box: Sequence[slice]) -> int:
    """Return the number of voxels in a box."""
    return math.prod(part.stop - part.start for part in box)


def contains(outer: Sequence[slice], inner: Sequence[slice]) -> bool:
    """Whether `inner` lies within `outer`."""
    return all(
        o.start <= i.start and i.stop <= o.stop
        for o, i in zip(outer, inner, strict=True)
    )


class BoxIndex:
    """Index of disjoint boxes, to find the one that contains a given region.

    Boxes of the same shape are kept in a grid of cells of that shape: each box touches
    a few cells, and each cell holds a few boxes. Because tiles have few different
    shapes, looking up all tiles of a run takes time proportional to their number.

    Examples
    --------
    >>> index = BoxIndex([(slice(0, 4), slice(0, 8))])
    >>> index.covers((slice(1, 3), slice(0, 8)))
    True
    >>> index.covers((slice(3, 5), slice(0, 8)))
    False
    """

    def __init__(self, boxes: Iterable[Box]) -> None:
        self._grids: dict[Index, dict[Index, list[Box]]] = {}
        for box in boxes:
            shape = tuple(part.stop - part.start for part in box)
            if min(shape, default=0) < 1:
                continue
            grid = self._grids.setdefault(shape, defaultdict(list))
            for cell in _cells(box, shape):
                grid[cell].append(box)

    def __bool__(self) -> bool:
        return bool(self._grids)

    def covers(self, place: Sequence[slice]) -> bool:
        """Whether `place` lies within one of the boxes."""
        return any(contains(box, place) for box in self._candidates(place))

    def _candidates(self, place: Sequence[slice]) -> Iterator[Box]:
        """Yield boxes near the first voxel of `place` that could contain all of it."""
        for shape, grid in self._grids.items():
            if any(p.stop - p.start > n for p, n in zip(place, shape, strict=True)):
                continue
            cell = tuple(p.start // n for p, n in zip(place, shape, strict=True))
            yield from grid.get(cell, ())


def _cells(box: Box, shape: Index) -> Iterator[Index]:
    ranges = [
        range(part.start // n, (part.stop - 1) // n + 1)
        for part, n in zip(box, shape, strict=True)
    ]
    return itertools.product(*ranges)
