"""Finds cracks, walls and fibres of a scan, and measures their contrast in a result.

Averages over small plates (over short lines in an image) in all directions of the grid
reveal thin structures that are too weak to be seen in single voxels. Where such an
average of the scan differs from those on both sides by more than noise can explain,
there is a thin structure. The average of the result at the same position shows whether
the structure is still present.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.operations.restore.verdict.compared_block import (
    Array,
    ComparedBlock,
    Mask,
    Values,
    Vector,
    add_shifted,
    shifted,
)

#: Half the edge length of a plate in a volume, in voxels.
_HALF_SQUARE = 3.0
#: Half the length of a line in an image, in pixels.
_HALF_LINE = 6
#: Number of directions of lines in an image.
_DIRECTIONS = 16
#: Distance, in voxels, of a plate or line from its parallel neighbour on either side.
_DISTANCE = 3.0
#: Number of standard deviations by which a thin structure must exceed the expected
#: maximum of noise alone.
_MARGIN = 1.2
#: Minimum number of voxels at which thin structures must be found for their contrast to
#: be reported.
MIN_VOXELS = 20
#: Minimum sum of the contrasts in the two to four adjacent plates, relative to the
#: contrast of the plate in which a structure was found.
_MIN_CONTINUED = 0.25
#: Variance of noise in the difference between the mean of a plate and that of its two
#: parallel neighbours, relative to its variance in the mean of one plate.
_VARIANCE = 1.5


@dataclass(frozen=True)
class ThinStructures:
    """Thin dark or bright structures of a scan.

    Attributes
    ----------
    voxels : int
        Number of voxels at which the scan shows them.
    kept : float
        Contrast of the structures in the result, relative to that in the scan; NaN if
        there are no structures.
    """

    voxels: int
    kept: float


@dataclass(frozen=True, eq=False)
class Plate:
    """Offsets of the voxels of a small plate, and of its neighbouring plates.

    Attributes
    ----------
    step : ndarray of int
        Offset of the parallel plate on one side.
    stages : tuple of ndarray of int
        Offsets of each stage; the offset of a voxel is the sum of one offset from each
        stage.
    adjacent : ndarray of int
        Offsets of the adjacent plates in the same plane.
    """

    step: Vector
    stages: tuple[Vector, ...]
    adjacent: Vector


def thin_structures(
    blocks: Sequence[ComparedBlock],
) -> tuple[ThinStructures, ThinStructures]:
    """Find thin structures in a scan, and measure their contrast in the result.

    Structures are found in one plate and measured in the adjacent plates, because noise
    exaggerates the largest contrasts.

    Parameters
    ----------
    blocks : sequence of ComparedBlock
        Blocks, all with the same axes.

    Returns
    -------
    dark, bright : ThinStructures
        Structures that are darker, and structures that are brighter, than their
        surroundings.
    """
    totals = np.zeros((2, 4))
    for block in blocks:
        totals += _compare(block)
    return _summary(totals[0]), _summary(totals[1])


def _summary(totals: Array) -> ThinStructures:
    voxels, found, before, after = totals
    # Gaps between bright structures look like dark ones (and vice versa), but do not
    # continue in the adjacent plates.
    if voxels < MIN_VOXELS or before < _MIN_CONTINUED * found:
        return ThinStructures(0, math.nan)
    return ThinStructures(int(voxels), float(after / before))


def _compare(block: ComparedBlock) -> Array:
    """Return the numbers of voxels and the contrasts of dark and bright structures.

    There are three contrasts: that of the scan at the structures, and those of the scan
    and of the result in the adjacent plates.
    """
    shape = block.scan.shape
    plates = _plates(shape)
    # The first entry is the strength of a structure, and the others are its three
    # contrasts.
    best = np.zeros((2, 4, *shape), np.float32)
    scan, result, noise = (
        values.astype(np.float32) for values in (block.scan, block.result, block.noise)
    )
    level = block.level.astype(np.float32)
    for plate in plates:
        valid = _inside(block.inside, plate)
        if not valid.any():
            continue
        spread = float(np.std(_mean(noise, plate)[valid]))
        unit = np.maximum(spread * math.sqrt(_VARIANCE) * level, block.least_level)
        step = plate.step
        valid = shifted(valid, step) & shifted(valid, -step) & valid
        one = _mean(scan, plate)
        sides = shifted(one, step), shifted(one, -step)
        depth, left = (
            np.where(valid, (shifted(mean, step) + shifted(mean, -step)) / 2 - mean, 0)
            for mean in (one, _mean(result, plate))
        )
        before, after = _adjacent(depth, plate), _adjacent(left, plate)
        # Use the side nearer in grey value, because an edge differs from one side only.
        for sign, kind, nearer in ((1, best[0], np.minimum), (-1, best[1], np.maximum)):
            strength = np.where(valid, sign * (nearer(*sides) - one), 0) / unit
            better = strength > kind[0]
            for own, values in zip(
                kind, (strength, sign * depth, sign * before, sign * after), strict=True
            ):
                np.copyto(own, values, where=better)
    limit = math.sqrt(2 * math.log(max(2, len(plates) * block.scan.size))) + _MARGIN
    there = best[:, 0] > limit
    sums = [
        [one[mask].sum() for one in kind[1:]]
        for kind, mask in zip(best, there, strict=True)
    ]
    return np.column_stack([there.reshape(2, -1).sum(1), np.array(sums, np.float64)])


def _inside(inside: Mask, plate: Plate) -> Mask:
    """Return a mask of the voxels around which the whole plate lies in the sample."""
    for stage in plate.stages:
        inside = np.logical_and.reduce([shifted(inside, offset) for offset in stage])
    return inside


def _plates(shape: Sequence[int]) -> list[Plate]:
    """Return plates in all directions of the grid; for images, return lines.

    Examples
    --------
    >>> len(_plates((16, 96, 96))), len(_plates((1, 96, 96))), len(_plates((96, 96)))
    (13, 16, 16)
    """
    axes = [axis for axis, n in enumerate(shape) if n > 1]
    embed = np.eye(len(shape), dtype=np.intp)[axes]
    found = _lines() if len(axes) < 3 else _squares()
    return [
        Plate(
            step @ embed,
            tuple(stage @ embed for stage in stages),
            adjacent @ embed,
        )
        for step, stages, adjacent in found
    ]


def _lines() -> Iterator[tuple[Vector, list[Vector], Vector]]:
    """Yield lines in an image, in equally spaced directions."""
    steps = np.arange(-_HALF_LINE, _HALF_LINE + 1)
    for angle in np.arange(_DIRECTIONS) * math.pi / _DIRECTIONS:
        along = np.array([math.sin(angle), math.cos(angle)])
        across = _DISTANCE * np.array([along[1], -along[0]])
        line = np.rint(steps[:, None] * along)
        adjacent = np.rint(len(steps) * np.array([along, -along]))
        step, line, adjacent = (
            values.astype(np.intp) for values in (np.rint(across), line, adjacent)
        )
        yield step, [line], adjacent


def _squares() -> Iterator[tuple[Vector, list[Vector], Vector]]:
    """Yield plates in a volume, normal to the 13 directions to neighbouring voxels."""
    vectors = [
        np.array(v) for v in itertools.product((-1, 0, 1), repeat=3) if v > (0, 0, 0)
    ]
    for normal in vectors:
        across = sorted(
            (v for v in vectors if v @ normal == 0), key=lambda v: (v @ v, *-np.abs(v))
        )
        stages, adjacent = [], []
        # The first two vectors are not parallel to each other.
        for v in across[:2]:
            n = max(1, round(_HALF_SQUARE / math.hypot(*v)))
            stages.append(np.arange(-n, n + 1)[:, None] * v)
            adjacent += [(2 * n + 1) * v, -(2 * n + 1) * v]
        step = max(1, round(_DISTANCE / math.hypot(*normal))) * normal
        yield step, stages, np.array(adjacent)


def _mean(values: Values, plate: Plate) -> Values:
    """Return the mean over a plate around each voxel, with 0 outside of the block."""
    for stage in plate.stages:
        total = np.zeros_like(values)
        for offset in stage:
            add_shifted(total, values, offset)
        values = total / np.float32(len(stage))
    return values


def _adjacent(values: Values, plate: Plate) -> Values:
    """Return the sum of the values at the centres of the adjacent plates."""
    total = np.zeros_like(values)
    for offset in plate.adjacent:
        add_shifted(total, values, offset)
    return total
