"""Scan geometry: angles, detector and rotation axis of a tomographic scan."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from napari_geosr.core.angles import Arc
from napari_geosr.core.errors import ProjectionsError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ParallelGeometry:
    """Parallel rays through square slices that rotate about their centre.

    A pixel in row ``j`` and column ``i`` of a slice is located at
    ``x = i - (N - 1) / 2``, ``y = j - (N - 1) / 2`` voxels. At angle θ, it is projected
    onto the detector at ``t = x cos θ + y sin θ``, where
    ``t = (column - centre) · pixel_size``. The voxel size is the pixel size of the
    detector, demagnified to the rotation axis.

    Parameters
    ----------
    angles : array-like of shape (n_angles,)
        Angles of the projections in degrees, in any order and range.
    n_columns : int
        Number of pixels in a detector row.
    centre : float, optional
        Column of the rotation axis, 0 being the middle of the first column; by default
        the middle of the row.
    size : int, optional
        Edge length N of the slices in voxels; by default `n_columns`.
    pixel_size : float
        Width of a detector column, and unit of length of the line integrals.
    unseen : tuple of (float, float)
        Start and width, in degrees within half a turn, of known missing wedges, which
        cannot be recognised from a few angles.
    batch : int
        Total number of slices if they are processed in parts. It determines the choice
        of loops, so that results do not depend on the parts. 0 if all slices are
        processed together.
    """

    angles: FloatArray
    n_columns: int
    centre: float = field(default=math.nan)
    size: int = 0
    pixel_size: float = 1.0
    unseen: tuple[Arc, ...] = field(default=(), kw_only=True)
    batch: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        angles = np.array(self.angles, np.float64)
        if angles.ndim != 1 or not angles.size:
            raise ProjectionsError(
                "Angles must be a list of at least one number, in degrees."
            )
        if not np.isfinite(angles).all():
            bad = int(np.flatnonzero(~np.isfinite(angles))[0])
            raise ProjectionsError(
                f"The angle of projection {bad} is {angles[bad]}, which is not a "
                "valid angle in degrees. Correct the list of angles."
            )
        angles.flags.writeable = False
        self._set("angles", angles)
        self._count("n_columns")
        if not self.size:
            self._set("size", self.n_columns)
        self._count("size")
        if math.isnan(self.centre):
            self._set("centre", (self.n_columns - 1) / 2)
        self._set("centre", float(self.centre))
        if not math.isfinite(self.centre):
            raise ProjectionsError("The column of the rotation axis must be finite.")
        self._length("pixel_size")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _count(self, name: str) -> None:
        value = getattr(self, name)
        if int(value) != value or value < 1:
            raise ProjectionsError(
                f"{name} must be a whole number of at least 1, not {value}."
            )
        self._set(name, int(value))

    def _length(self, name: str) -> None:
        value = float(getattr(self, name))
        if not (math.isfinite(value) and value > 0):
            raise ProjectionsError(f"{name} must be greater than 0, not {value}.")
        self._set(name, value)

    @property
    def n_angles(self) -> int:
        return len(self.angles)

    @property
    def voxel_size(self) -> float:
        """Edge length of a voxel, in the unit of `pixel_size`."""
        return self.pixel_size

    @property
    def volume_shape(self) -> tuple[int, ...]:
        """Shape of a slice (cone beam: of the volume)."""
        return (self.size, self.size)

    @property
    def sinogram_shape(self) -> tuple[int, ...]:
        """Shape of the projections of a slice (cone beam: of the volume)."""
        return (self.n_angles, self.n_columns)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Hashable key, equal for identical geometries."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return type(self).__name__, *(
            value.tobytes() if name == "angles" else value for name, value in values
        )

    def subset(self, indices: slice | Sequence[int] | npt.NDArray[np.integer]) -> Self:
        """Return the geometry of some projections, e.g. ``slice(0, None, 4)``."""
        return replace(self, angles=self.angles[indices])


@dataclass(frozen=True, eq=False)
class FanGeometry(ParallelGeometry):
    """Rays from a point source onto a flat detector, slice by slice.

    The source is at (x, y) = (D sin θ, -D cos θ), and the detector is on the other side
    of the axis.

    Parameters
    ----------
    source_distance : float
        Distance from source to rotation axis (D), in the unit of `pixel_size`.
    detector_distance : float
        Distance from rotation axis to detector; 0 if `pixel_size` is the pixel size at
        the axis.
    """

    source_distance: float = math.nan
    detector_distance: float = math.nan

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("source_distance", "detector_distance"):
            if math.isnan(float(getattr(self, name))):
                raise ProjectionsError(
                    f"The {name.replace('_', ' ')} is missing: fan and cone beams need "
                    "the distances from source to axis and from axis to detector."
                )
        self._length("source_distance")
        if not (math.isfinite(self.detector_distance) and self.detector_distance >= 0):
            raise ProjectionsError(
                f"detector_distance must be 0 or greater, not {self.detector_distance}."
            )
        reach = self.size * self.voxel_size / math.sqrt(2)
        if reach >= self.source_distance:
            raise ProjectionsError(
                f"The source, {self.source_distance:g} from the axis, lies inside the "
                f"slices: their corners are {reach:g} from the axis. Choose a smaller "
                "size, or check distances and pixel size: they must be in the same "
                "unit."
            )

    @property
    def magnification(self) -> float:
        """Magnification from the rotation axis to the detector."""
        return (self.source_distance + self.detector_distance) / self.source_distance

    @property
    def voxel_size(self) -> float:
        return self.pixel_size / self.magnification


@dataclass(frozen=True, eq=False)
class ConeGeometry(FanGeometry):
    """Rays from a point source through a volume onto a flat detector.

    Parameters
    ----------
    n_rows : int
        Number of detector rows; they have the same order along Z as the slices.
    row_centre : float, optional
        Row at the height of the source; by default the middle.
    n_slices : int, optional
        Number of slices of the volume; by default `n_rows`.
    row_size : float, optional
        Height of a detector row; by default `pixel_size`.
    slice_centre : float, optional
        Slice at the height of the source; by default the middle of the volume.
    first_row, first_slice : int
        For a slab: index of its first row and slice in the whole scan; `row_centre` and
        `slice_centre` are relative to these.
    """

    n_rows: int = 0
    row_centre: float = math.nan
    n_slices: int = 0
    row_size: float = math.nan
    slice_centre: float = math.nan
    first_row: int = field(default=0, kw_only=True)
    first_slice: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._count("n_rows")
        if not self.n_slices:
            self._set("n_slices", self.n_rows)
        self._count("n_slices")
        if math.isnan(self.row_centre):
            self._set("row_centre", (self.n_rows - 1) / 2)
        self._set("row_centre", float(self.row_centre))
        if not math.isfinite(self.row_centre):
            raise ProjectionsError("The row of the central ray must be finite.")
        if math.isnan(self.slice_centre):
            self._set("slice_centre", (self.n_slices - 1) / 2)
        self._set("slice_centre", float(self.slice_centre))
        if not math.isfinite(self.slice_centre):
            raise ProjectionsError(
                "The index of the slice at the source's height must be finite."
            )
        if math.isnan(self.row_size):
            self._set("row_size", self.pixel_size)
        self._length("row_size")

    @property
    def volume_shape(self) -> tuple[int, ...]:
        return (self.n_slices, self.size, self.size)

    @property
    def sinogram_shape(self) -> tuple[int, ...]:
        return (self.n_rows, self.n_angles, self.n_columns)

    def rows_of(self, first: int, stop: int) -> tuple[int, int]:
        """Return the detector rows reached by rays through slices `first` … `stop` - 1.

        Returns
        -------
        first_row, stop_row : int
            First row and the one after the last, including neighbours needed for
            interpolation; at least one row.
        """
        # Compared with voxels on the axis, those nearer to the source are projected
        # farther from the middle row, and those nearer to the detector less far.
        reach = (self.size - 1) / math.sqrt(2) * self.voxel_size / self.source_distance
        heights = [
            (z - self.slice_centre) * self.pixel_size / self.row_size / depth
            for z in (first, stop - 1)
            for depth in (1 - reach, 1 + reach)
        ]
        low = math.floor(min(heights) + self.row_centre) - 1
        high = math.floor(max(heights) + self.row_centre) + 3
        low = min(max(low, 0), self.n_rows - 1)
        return low, min(max(high, low + 1), self.n_rows)

    def slab(self, first: int, stop: int) -> ConeGeometry:
        """Return the geometry of slices `first` … `stop` - 1 and the rows they need.

        Its projections consist of the rows given by `rows_of`.
        """
        first_row, stop_row = self.rows_of(first, stop)
        return replace(
            self,
            n_slices=stop - first,
            slice_centre=self.slice_centre - first,
            n_rows=stop_row - first_row,
            row_centre=self.row_centre - first_row,
            first_row=self.first_row + first_row,
            first_slice=self.first_slice + first,
        )
