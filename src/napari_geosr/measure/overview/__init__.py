"""The phases of a volume at a reduced resolution, for 3D views in a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeAlias
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
#: Index of a layer of cells, and the fractions of pores and of solid in each cell.
PlaneShares: TypeAlias = "tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]"

#: Maximum number of cells along an axis.
MOST_CELLS = 96


@dataclass(frozen=True, eq=False)
class Overview:
    """Fraction of each phase in the cells of a coarse grid.

    Attributes
    ----------
    pores, solid : ndarray of uint8, (Z, Y, X)
        For each cell, the fraction of the voxels read that are pores (`pores`) or
        solid within the sample (`solid`), scaled so that 255 means all.
    lengths : tuple of 3 float
        Edge lengths of the whole volume in `unit`.
    unit : str
        Unit of length; ``"pixel"`` if the voxel size is unknown.
    planes_apart : float
        Distance between the planes that were read, in planes of the volume.
    """

    pores: npt.NDArray[np.uint8]
    solid: npt.NDArray[np.uint8]
    lengths: tuple[float, float, float]
    unit: str
    planes_apart: float = 1.0

    @property
    def cell(self) -> tuple[float, ...]:
        """Edge lengths of a cell, in `unit`."""
        return tuple(n / k for n, k in zip(self.lengths, self.pores.shape, strict=True))

    def to_bytes(self) -> bytes:
        """Return the grid as the bytes of a compressed numpy file (``.npz``)."""
        stream = BytesIO()
        np.savez_compressed(
            stream,
            pores=self.pores,
            solid=self.solid,
            numbers=np.array([*self.lengths, self.planes_apart]),
            unit=np.array(self.unit),
        )
        return stream.getvalue()

    @classmethod
    def from_file(cls, path: Path) -> Overview | None:
        """Read a file that contains the bytes returned by `to_bytes`.

        Returns None if the file is missing or has another format.
        """
        try:
            with np.load(path, allow_pickle=False) as values:
                z, y, x, apart = values["numbers"].tolist()
                unit = str(values["unit"])
                return cls(values["pores"], values["solid"], (z, y, x), unit, apart)
        except (OSError, EOFError, ValueError, KeyError, BadZipFile):
            return None


class OverviewBuilder:
    """Collects one plane from each layer of cells while a volume is read.

    Parameters
    ----------
    shape : tuple of 3 int
        Number of voxels along Z, Y and X.
    voxel_size : tuple of 3 float
        Edge lengths of a voxel along Z, Y and X, in `unit`.
    unit : str

    Examples
    --------
    >>> import numpy as np
    >>> pores = np.zeros((4, 6, 8), bool)
    >>> pores[:, :3] = True
    >>> builder = OverviewBuilder((4, 6, 8), (1.0, 1.0, 1.0), "µm")
    >>> builder.add(slice(0, 4), pores, None)
    >>> overview = builder.finish()
    >>> overview.pores[0, :, 0].tolist(), overview.lengths
    ([255, 255, 255, 0, 0, 0], (4.0, 6.0, 8.0))
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        voxel_size: tuple[float, float, float],
        unit: str,
    ) -> None:
        lengths = [n * v for n, v in zip(shape, voxel_size, strict=True)]
        edge = max(lengths) / MOST_CELLS
        cells = [
            max(1, min(n, round(length / edge)))
            for n, length in zip(shape, lengths, strict=True)
        ]
        self._shape, self._lengths, self._unit = shape, lengths, unit
        self._pores, self._solid = np.zeros((2, *cells), np.uint8)
        #: Index of the plane that is read for each layer of cells.
        self._planes = (2 * np.arange(cells[0]) + 1) * shape[0] // (2 * cells[0])
        self._is_read = np.zeros(cells[0], bool)
        self._y, self._x = (
            np.arange(k) * n // k for k, n in zip(cells[1:], shape[1:], strict=True)
        )
        self._sizes = np.outer(
            np.diff([*self._y, shape[1]]), np.diff([*self._x, shape[2]])
        )

    def add(self, slab: slice, pores: Mask, sample: Mask | None) -> None:
        """Extract the planes needed for the overview from a slab.

        Parameters
        ----------
        slab : slice
            Position of the slab along Z.
        pores, sample : ndarray of bool, (Z, Y, X)
            `sample` is None if all voxels belong to it.
        """
        self.take(self.shares(slab, pores, sample))

    def shares(
        self, slab: slice, pores: Mask, sample: Mask | None
    ) -> list[PlaneShares]:
        """Return the planes that `add` would take from a slab, as input to `take`."""
        found = []
        wanted = (self._planes >= slab.start) & (self._planes < slab.stop)
        for i in np.flatnonzero(wanted):
            z = self._planes[i] - slab.start
            solid = ~pores[z] if sample is None else sample[z] & ~pores[z]
            found.append((int(i), self._share(pores[z]), self._share(solid)))
        return found

    def take(self, shares: Sequence[PlaneShares]) -> None:
        """Take the planes that `shares` has extracted."""
        for i, pores, solid in shares:
            self._pores[i], self._solid[i] = pores, solid
            self._is_read[i] = True

    def missing(self) -> list[slice]:
        """Return the planes that are still needed, as slices along Z."""
        return [slice(int(z), int(z) + 1) for z in self._planes[~self._is_read]]

    def finish(self) -> Overview:
        """Return the grid."""
        z, y, x = self._lengths
        apart = self._shape[0] / len(self._planes)
        return Overview(self._pores, self._solid, (z, y, x), self._unit, apart)

    def _share(self, mask: Mask) -> npt.NDArray[np.uint8]:
        rows = np.add.reduceat(mask, self._y, axis=0, dtype=np.int64)
        cells = np.add.reduceat(rows, self._x, axis=1)
        share: npt.NDArray[np.uint8] = (255 * cells // self._sizes).astype(np.uint8)
        return share
