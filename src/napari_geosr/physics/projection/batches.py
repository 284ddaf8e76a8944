"""Choose how many slices one pass over the rays processes, and which loops it uses.

The loops for one slice, and those for several slices side by side in memory, give
results that differ in the last digits. The choice depends on the total number of
slices, so that results are the same when slices are processed in smaller parts because
memory is short.
"""

from __future__ import annotations

from collections.abc import Iterator

#: Maximum number of slices that one pass over the rays processes together.
MAX_JOINT_SLICES = 16
#: Minimum number of slices for a joint pass: fewer slices are faster one by one.
MIN_JOINT_SLICES = 4
_GROUP_BYTES = 64 * 2**20


def max_together(size: int, copies: int) -> int:
    """Return the maximum number of slices of `size` × `size` voxels in one pass.

    Parameters
    ----------
    copies : int
        Number of copies of each slice in memory, in float32.
    """
    return min(MAX_JOINT_SLICES, max(1, _GROUP_BYTES // (4 * copies * size**2)))


def passes(
    given: int, size: int, copies: int, batch: int
) -> Iterator[tuple[slice, bool]]:
    """Yield slices of each pass, and whether the pass uses the loops for many slices.

    Parameters
    ----------
    given : int
        Number of slices in this call.
    size, copies
        As for `max_together`.
    batch : int
        Total number of slices (`ParallelGeometry.batch`); 0 if all are in this call.
    """
    most = max_together(size, copies)
    start = 0
    while start < given:
        left = min(given - start, most)
        is_many = min(batch or left, most) >= MIN_JOINT_SLICES
        stop = start + (left if is_many else 1)
        yield slice(start, stop), is_many
        start = stop
