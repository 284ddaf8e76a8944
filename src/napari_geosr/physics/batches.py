"""How many slices one pass over the rays serves, and by which of two loops.

The loops for one slice and those for many, side by side in memory, give other last
digits. Which of them it is follows from the number of slices that belong together, so
that those which are computed in smaller parts, as memory is short, come out the same.
"""

from __future__ import annotations

from collections.abc import Iterator

#: Slices that one pass over the rays serves, side by side in memory.
TOGETHER = 16
#: Fewer of them are quicker one by one.
FEW = 4
_GROUP_BYTES = 64 * 2**20


def most_together(size: int, copies: int) -> int:
    """How many slices of `size` × `size` voxels one pass serves at most.

    Parameters
    ----------
    copies : int
        Of each slice, in float32.
    """
    return min(TOGETHER, max(1, _GROUP_BYTES // (4 * copies * size**2)))


def passes(
    given: int, size: int, copies: int, batch: int
) -> Iterator[tuple[slice, bool]]:
    """Slices that one pass serves after the other, and whether by the loops for many.

    Parameters
    ----------
    given : int
        How many there are.
    size, copies
        As for :func:`most_together`.
    batch : int
        How many they are a part of (`ParallelGeometry.batch`); 0 if they are all.
    """
    most = most_together(size, copies)
    start = 0
    while start < given:
        left = min(given - start, most)
        is_many = min(batch or left, most) >= FEW
        stop = start + (left if is_many else 1)
        yield slice(start, stop), is_many
        start = stop
