"""Parts of an array that are missing from its file: their number and positions."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from napari_geosr.core.file_warnings import PartWarning

#: Maximum number of missing parts that a message lists with their positions.
_MAX_SHOWN = 3


@dataclass(frozen=True)
class MissingParts:
    """The cells of a grid over an array, and which of them are missing from its file.

    Attributes
    ----------
    there : collection of tuple of int
        Indices of the cells that are stored.
    shape : tuple of int
        Shape of the array.
    starts : tuple of sequence of int
        Along each axis, the first index of every cell.
    names : tuple of str
        Names of the axes, in stored order.
    sentences : str
        Template of the warning, with the fields ``{missing}`` and ``{all}`` (numbers of
        cells), ``{voxels}`` and ``{all_voxels}``, and ``{places}``.

    Examples
    --------
    >>> rows = MissingParts({(0, 0)}, (4, 8), (range(0, 4, 2), (0,)), ("Y", "X"), "")
    >>> rows.places()
    'Y 2–3'
    """

    there: Collection[tuple[int, ...]]
    shape: tuple[int, ...]
    starts: tuple[Sequence[int], ...]
    names: tuple[str, ...]
    sentences: str

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of cells along each axis."""
        return tuple(len(starts) for starts in self.starts)

    def warning(self) -> str:
        """Return the warning about the missing cells; ``""`` if there are none."""
        n_all = math.prod(self.grid)
        n_missing = n_all - len(self.there)
        if n_missing <= 0:
            return ""
        fields = {"missing": f"{n_missing:,}", "all": f"{n_all:,}"}
        if "{voxels}" in self.sentences:
            n_voxels = math.prod(self.shape)
            n_there = sum(self._n_voxels(index) for index in self.there)
            fields["voxels"] = f"{n_voxels - n_there:,}"
            fields["all_voxels"] = f"{n_voxels:,}"
        text = self.sentences.format(places=self.places(), **fields)
        return PartWarning(text, self.warning_within)

    def warning_within(self, axis: str, index: int) -> str:
        """Return the warning about one index of an axis; ``""`` if nothing is missing.

        Parameters
        ----------
        axis : str
            Name of the axis; for an unknown name, the warning is about the whole array.
        index : int
        """
        if axis not in self.names:
            return self.warning()
        i = self.names.index(axis)
        cell = bisect_right(self.starts[i], index) - 1
        return replace(
            self,
            there={(*at[:i], *at[i + 1 :]) for at in self.there if at[i] == cell},
            shape=(*self.shape[:i], *self.shape[i + 1 :]),
            starts=(*self.starts[:i], *self.starts[i + 1 :]),
            names=(*self.names[:i], *self.names[i + 1 :]),
        ).warning()

    def places(self) -> str:
        """Describe where the first missing cells are, and how many more there are."""
        places = self._places()
        shown = list(itertools.islice(places, _MAX_SHOWN))
        if len(shown) < _MAX_SHOWN:
            return "; ".join(text for text, _ in shown)
        n_all = math.prod(self.grid)
        n_more = n_all - len(self.there) - sum(n for _, n in shown)
        more = f"; and {n_more:,} more" if n_more > 0 else ""
        return "; ".join(text for text, _ in shown) + more

    def _places(self) -> Iterator[tuple[str, int]]:
        """Yield the position (as text) and the number of cells of each missing part.

        Consecutive cells count as one part if the grid divides only one axis.
        """
        divided = [i for i, n in enumerate(self.grid) if n > 1]
        if len(divided) != 1:
            for at in _indices(self.grid):
                if at not in self.there:
                    yield self._text(at, at), 1
            return
        axis = divided[0]
        first, last = [0] * len(self.grid), [0] * len(self.grid)
        stored = sorted(at[axis] for at in self.there)
        for before, after in itertools.pairwise((-1, *stored, self.grid[axis])):
            if after - before > 1:
                first[axis], last[axis] = before + 1, after - 1
                yield self._text(first, last), after - before - 1

    def _text(self, first: Sequence[int], last: Sequence[int]) -> str:
        """Return the position of a range of cells, omitting axes it fully spans."""
        spans = []
        for i, (begin, end) in enumerate(zip(first, last, strict=True)):
            start, stop = self.starts[i][begin], self._end(i, end)
            if stop - start < self.shape[i]:
                to = f"–{stop - 1}" if stop - start > 1 else ""
                spans.append(f"{self.names[i]} {start}{to}")
        return ", ".join(spans) or "all of it"

    def _end(self, axis: int, cell: int) -> int:
        starts = self.starts[axis]
        return starts[cell + 1] if cell + 1 < len(starts) else self.shape[axis]

    def _n_voxels(self, index: tuple[int, ...]) -> int:
        return math.prod(
            self._end(axis, cell) - self.starts[axis][cell]
            for axis, cell in enumerate(index)
        )


def missing_of_chunks(
    there: Collection[tuple[int, ...]],
    shape: tuple[int, ...],
    size: tuple[int, ...],
    names: Sequence[str],
    fill: float,
    why: str,
) -> MissingParts:
    """Describe the missing chunks of an array.

    Parameters
    ----------
    there : collection of tuple of int
        Indices of the chunks that are stored.
    shape, size : tuple of int
        Shape of the array and of a chunk.
    names : sequence of str
        Names of the axes, in stored order.
    fill : float
        Value of missing voxels.
    why : str
        Last sentence of the warning: possible causes, and what to do.
    """
    return MissingParts(
        there,
        shape,
        tuple(range(0, n, step) for n, step in zip(shape, size, strict=True)),
        tuple(names),
        f"{{missing}} of {{all}} chunks are not in the file and are read as {fill:g} "
        f"({{places}}). {why}",
    )


def _indices(grid: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield all indices of a grid lazily, last axis fastest; a grid may be huge."""
    for number in range(math.prod(grid)):
        index = list[int]()
        for n in reversed(grid):
            number, i = divmod(number, n)
            index.append(i)
        yield tuple(reversed(index))
