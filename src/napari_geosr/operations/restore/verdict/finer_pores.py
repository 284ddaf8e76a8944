"""Finds the pores and thin structures that a super-resolution model loses.

Test pores of known sizes are added to blocks of the scan, and the scan's own objects
are looked for in the result, as for denoisers. The result is averaged over each voxel
of the scan, so that sizes are in voxels of the scan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_geosr.core.noise import Noise
from napari_geosr.inference.risk.evaluation import draw_sample, is_flat
from napari_geosr.operations.restore.verdict.inserted_pores import (
    Array,
    Restore,
    ball_offsets,
    insert_test_pores,
)
from napari_geosr.operations.restore.verdict.known_block_test import KnownBlockTest
from napari_geosr.operations.restore.verdict.known_blocks import (
    MIN_RADIUS,
    compared_blocks,
    known_blocks_of,
)
from napari_geosr.operations.restore.verdict.phase_levels import phase_levels
from napari_geosr.operations.restore.verdict.small_objects import small_objects
from napari_geosr.operations.restore.verdict.thin_structures import thin_structures

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.inference.risk.evaluation import EvaluationSample

#: Number of blocks of the scan that are used for the test.
_BLOCKS = 2
#: Number of slices of a block.
_DEPTH = 16
#: Shortest and longest edge of a block within slices, in voxels of the scan.
_EDGES = (32, 96)
#: Approximate maximum number of voxels of the result per block, to limit the time.
_VOXELS = 5_000_000


def draw_finer_sample(
    volume: Volume, noise: Noise, factors: Sequence[int]
) -> EvaluationSample:
    """Draw blocks of a scan; larger upscale factors require smaller blocks.

    Raises
    ------
    VolumeError
        If no part of the scan has enough varying voxels.
    """
    shape = None
    if not is_flat(volume.data.shape):
        edge = math.isqrt(_VOXELS // (_DEPTH * math.prod(factors)))
        edge = min(max(edge, _EDGES[0]), _EDGES[1])
        shape = (_DEPTH, edge, edge)
    return draw_sample(volume.data, noise, n=_BLOCKS, shape=shape)


def lost_finer_pores(
    restore: Restore, sample: EvaluationSample, noise: Noise, factors: Sequence[int]
) -> KnownBlockTest:
    """Find test pores in the results of a super-resolution model.

    Parameters
    ----------
    restore : callable
        Returns the model's result, with finer voxels, for the core of a window.
    sample : EvaluationSample
        Blocks of the scan, from `draw_finer_sample`.
    noise : Noise
        Noise of the scan.
    factors : sequence of int
        Upscale factor along each axis of the blocks.

    Returns
    -------
    KnownBlockTest
        Result with sizes in voxels of the scan, but without gain and counts.
    """

    def restore_coarsely(window: Array, core: tuple[slice, ...]) -> Array:
        return averaged(restore(window, core), factors)

    known, insides = known_blocks_of(sample)
    phases = phase_levels(sample, noise, insides)
    is_dark = phases is not None and phases.is_mostly_dark
    scans = [block.window[block.core] for block in sample.blocks]
    parts = [
        inside[block.core] for block, inside in zip(sample.blocks, insides, strict=True)
    ]
    is_scan_separated = phases is None or phases.are_separated_in_noise(scans, parts)
    compared = compared_blocks(
        scans,
        [restore_coarsely(block.window, block.core) for block in sample.blocks],
        parts,
        noise,
    )
    dark_objects, bright_objects = small_objects(compared)

    def found(bright: bool, other: KnownBlockTest | None) -> KnownBlockTest:
        test = insert_test_pores(
            restore_coarsely, sample, noise, known, insides, phases, bright=bright
        )
        return KnownBlockTest(
            gain=0.0,
            counts=(),
            small_counts=(),
            found=test.found,
            countable=test.countable,
            shown=test.shown,
            are_bright=bright,
            is_scan_separated=is_scan_separated,
            large=len(ball_offsets(MIN_RADIUS, known[0].shape)),
            objects_by_size=bright_objects if bright else dark_objects,
            other=other,
        )

    if is_dark:
        other = found(False, None)
    else:
        other = KnownBlockTest(
            0.0,
            (),
            (),
            are_bright=True,
            is_scan_separated=is_scan_separated,
            objects_by_size=bright_objects,
        )
    return replace(found(is_dark, other), thin=thin_structures(compared))


def averaged(values: Array, factors: Sequence[int]) -> Array:
    """Average an array over blocks with these edge lengths.

    Examples
    --------
    >>> import numpy as np
    >>> averaged(np.array([[1.0, 3.0, 5.0, 5.0]]), (1, 2)).tolist()
    [[2.0, 5.0]]
    """
    pairs = zip(values.shape, factors, strict=True)
    split = [part for length, factor in pairs for part in (length // factor, factor)]
    found: Array = values.reshape(split).mean(axis=tuple(range(1, len(split), 2)))
    return found
