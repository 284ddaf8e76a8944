"""Say where the chunks are that a file lacks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence

#: Maximum number of missing chunks that the message locates.
_MAX_SHOWN = 3


def places_of_missing(
    there: Collection[tuple[int, ...]],
    shape: tuple[int, ...],
    size: tuple[int, ...],
    names: Sequence[str],
) -> str:
    """Describe the positions of missing chunks.

    Parameters
    ----------
    there : collection of tuple of int
        Indices of the chunks that are stored.
    shape, size : tuple of int
        Shape of the array and of a chunk.
    names : sequence of str
        Names of the axes, in stored order.

    Examples
    --------
    >>> places_of_missing({(0, 0)}, (4, 8), (2, 8), "YX")
    'Y 2–3'
    """
    grid = tuple(-(-n // s) for n, s in zip(shape, size, strict=True))
    first = itertools.islice((i for i in _indices(grid) if i not in there), _MAX_SHOWN)
    places = "; ".join(_place(index, size, shape, names) for index in first)
    n_more = math.prod(grid) - len(there) - _MAX_SHOWN
    return f"{places}; and {n_more:,} more" if n_more > 0 else places


def _indices(grid: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All indices of a grid, last axis fastest, generated lazily as it may be huge."""
    for number in range(math.prod(grid)):
        index = list[int]()
        for n in reversed(grid):
            number, i = divmod(number, n)
            index.append(i)
        yield tuple(reversed(index))


def _place(
    index: tuple[int, ...],
    size: tuple[int, ...],
    shape: tuple[int, ...],
    names: Sequence[str],
) -> str:
    """Position of a chunk, without the axes that it spans completely."""
    spans = []
    for i, s, n, name in zip(index, size, shape, names, strict=True):
        start, stop = i * s, min((i + 1) * s, n)
        if stop - start < n:
            end = f"–{stop - 1}" if stop - start > 1 else ""
            spans.append(f"{name} {start}{end}")
    return ", ".join(spans) or "all of it"
