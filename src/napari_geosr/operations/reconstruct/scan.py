"""A scan that is ready for reconstruction: geometry, memory, position in space."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_geosr.core.config import (
    Config,
    format_available,
    format_enough,
    parse_bytes,
)
from napari_geosr.core.errors import DeviceMemoryError, ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.core.types import AnyDict
from napari_geosr.inference.device import free_memory
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.physics.projection import batches
from napari_geosr.physics.projection.geometry import (
    ConeGeometry,
    FanGeometry,
    ParallelGeometry,
)
from napari_geosr.tomography.centre import Centre
from napari_geosr.tomography.full_turn import fold_full_turn

Rows = tuple[int, int]

#: Default memory budget of a run, as a fraction of the free memory.
FREE_SHARE = 0.5
#: Maximum distance of the rotation axis from the detector's centre, as a fraction of
#: the detector's width; above it, the offset is considered intentional (extended field
#: of view).
_OFF_MIDDLE = 0.05
#: Peak memory per row during reconstruction, as a multiple of the size of the row's
#: sinogram: padded spectra.
_SINOGRAM_COPIES = 12
#: Peak memory per slice, as a multiple of the size of the slice: estimate, update, dual
#: variables, weights.
_SLICE_COPIES = 10
#: Maximum number of slices per group on a CPU.
_GROUP_CPU = 16
#: Number of slices per group on other devices.
_GROUP_DEVICE = 64
#: Number of slices per group for a cone beam.
_GROUP_CONE = 64
#: Number of positions along Z for which the memory of a block is estimated.
_PLACES = 17
#: Fraction of the memory budget for rows that are read ahead.
_BAND_SHARE = 0.3
#: Fixed memory of a run in bytes: threads, ray tables, file buffers (up to 14 MB were
#: observed).
_FIXED_BYTES = 16 * 10**6


@dataclass(frozen=True, eq=False)
class ReconstructionInput:
    """A scan with everything needed to reconstruct any of its rows.

    Attributes
    ----------
    scan : Projections
        The selected projections and rows.
    given : Projections
        The projections as given, to which the checksum refers.
    first_row : int
        Detector row of the first row of `scan`.
    centre : Centre
        Column of the rotation axis, and how it was determined.
    algorithm : Config
        Settings of the algorithm.
    joined : bool
        Whether opposite views are joined.
    n_columns : int
        Width of the reconstructed sinograms; wider than the detector if views are
        joined.
    incident : float or None
        Intensity without a sample, for the whole scan, if there are no flat fields.
    """

    scan: Projections
    given: Projections
    config: ReconstructConfig
    algorithm: Config
    centre: Centre
    device: str
    first_row: int
    joined: bool
    n_columns: int
    incident: float | None = None

    @property
    def is_cone(self) -> bool:
        """Whether several detector rows contribute to a slice."""
        return self.scan.geometry == "cone"

    @property
    def whole(self) -> bool:
        """Whether slices depend on each other and must be reconstructed together."""
        return self.is_cone and self.iterates

    @property
    def size(self) -> int:
        """Edge length of the slices in voxels."""
        return self.config.size or self.n_columns

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume."""
        return self.n_slices, self.size, self.size

    @property
    def n_slices(self) -> int:
        """Number of slices: one per row.

        For cone beams, this is the number of cubic voxels that cover the same height.
        """
        if not self.is_cone:
            return self.scan.n_rows
        height, width = self.scan.pixel_size
        return max(1, round(self.scan.n_rows * height / width))

    def slice_of(self, row: int) -> int:
        """Return the slice where the rays of a detector row cross the rotation axis."""
        if not self.is_cone:
            return row
        height, width = self.scan.pixel_size
        above = (row - (self.scan.n_rows - 1) / 2) * height / width
        nearest = round((self.n_slices - 1) / 2 + above)
        return min(max(nearest, 0), self.n_slices - 1)

    @property
    def group(self) -> int:
        """Number of slices in a group, i.e. of slices that are reconstructed together.

        The number depends only on the settings, shape and device, and never on memory
        or time, because it affects rounding. If memory is short, fewer slices are
        computed at once, with the same result.
        """
        if self.whole:
            return self.n_slices
        if self.is_cone:
            return _GROUP_CONE
        if self.device != "cpu":
            return _GROUP_DEVICE
        copies = 2 if self.iterates else 1
        return min(_GROUP_CPU, batches.max_together(self.size, copies))

    def group_of(self, at: int) -> Rows:
        """Return the range of slices of the group that contains slice `at`."""
        start = at - at % self.group
        return start, min(start + self.group, self.n_slices)

    @property
    def iterates(self) -> bool:
        """Whether the algorithm is iterative."""
        return "iterations" in type(self.algorithm).model_fields

    @property
    def n_steps(self) -> int:
        """Number of iterations of a block; 1 for algorithms that do not iterate."""
        return int(getattr(self.algorithm, "iterations", 1))

    @property
    def budget(self) -> int:
        """Number of bytes that a run may use if it starts now."""
        if self.config.memory is not None:
            return parse_bytes(self.config.memory)
        return int(free_memory(self.device) * FREE_SHARE)

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Voxel size of the volume: the pixel size at the rotation axis."""
        height, width = self.scan.pixel_size
        m = magnification(self.scan)
        return (width if self.is_cone else height) / m, width / m, width / m

    @property
    def origin(self) -> tuple[float, float, float]:
        """Position of the first voxel, relative to the first row and column.

        The slices have the same position for any size, even if only some of the rows
        are reconstructed.
        """
        z, y, x = self.voxel_size
        before = (self.scan.n_columns - self.size) / 2
        first = self.first_row * z
        if self.is_cone:  # the volume is centred on the detector rows
            height, width = self.scan.pixel_size
            seen = (self.scan.n_rows - 1) * height
            first = (seen - (self.n_slices - 1) * width) / magnification(self.scan) / 2
        return first, before * y, before * x

    @cached_property
    def geometry(self) -> ParallelGeometry:
        """Geometry of all rows and slices; see `sinogram` for joined views."""
        shape = (self.scan.n_rows, self.scan.n_angles, self.n_columns)
        return make_geometry(
            self.scan,
            self.scan.angles,
            self.centre.column,
            shape,
            self.size,
            self.n_slices,
        )

    def detector_rows(self, slices: Rows) -> Rows:
        """Return the range of detector rows that are needed for some slices."""
        if not self.is_cone:
            return slices
        if self.whole:
            return 0, self.scan.n_rows
        return cast("ConeGeometry", self.geometry).rows_of(*slices)

    def first_unreported_row(self, at: int) -> int:
        """Return the row after the last detector row used by the slices before `at`."""
        return self.detector_rows((0, at))[1] if at else 0

    def sinogram(
        self,
        rows: npt.NDArray[np.float32],
        slices: Rows | None = None,
        batch: int = 0,
    ) -> tuple[npt.NDArray[np.float32], ParallelGeometry]:
        """Return line integrals and geometry, with opposite views joined if necessary.

        Parameters
        ----------
        rows : ndarray of shape (row, angle, column)
            The `detector_rows` of the slices.
        slices : (int, int), optional
            First slice and the one after the last, for a cone beam; all by default.
        batch : int
            Number of slices in the whole group; by default, the number of `rows`.
        """
        if self.is_cone:
            geometry = cast("ConeGeometry", self.geometry)
            if slices is not None and not self.whole:
                geometry = geometry.slab(*slices)
            return rows, geometry
        angles, centre = self.scan.angles, self.centre.column
        if self.joined:
            rows, angles, centre = fold_full_turn(rows, angles, centre)
        made = make_geometry(self.scan, angles, centre, rows.shape, self.size)
        return rows, replace(made, batch=batch)

    def bytes_of(self, slices: Rows) -> int:
        """Return the peak memory for reconstructing a range of slices, in bytes."""
        first, stop = self.detector_rows(slices)
        sinogram = self.scan.n_angles * self.n_columns * 4
        n = slices[1] - slices[0]
        return (
            stop - first
        ) * _SINOGRAM_COPIES * sinogram + n * _SLICE_COPIES * 4 * self.size**2

    def max_rows(self) -> int:
        """Return the number of slices that fit into the memory budget at any position.

        Raises
        ------
        DeviceMemoryError
            If not even one slice fits.
        """
        n_slices = self.n_slices
        budget = int((self.budget - _FIXED_BYTES) * (1 - _BAND_SHARE))

        def needed(n: int) -> int:
            # In a cone beam, slices farther from the centre need more rows, except near
            # the edge, where the detector ends.
            starts = {int(s) for s in np.linspace(0, n_slices - n, _PLACES)}
            return max(self.bytes_of((start, start + n)) for start in starts)

        least = n_slices if self.whole else 1
        if needed(least) > budget:
            what = "The volume" if self.whole else "A slice"
            remedy = (
                ", or use fdk, which processes the slices in blocks"
                if self.whole
                else ""
            )
            enough = needed(least) / (1 - _BAND_SHARE) + _FIXED_BYTES
            raise DeviceMemoryError(
                f"{what} of {self.size} × {self.size} voxels from "
                f"{self.scan.n_angles} projections needs {format_enough(enough)} of "
                f"memory, but the budget is {format_available(self.budget)}. Raise the "
                f"budget (--memory), or make the slices smaller (--size){remedy}.",
                enough=enough,
            )
        fits = range(least, n_slices + 1)
        return bisect_right(fits, budget, key=needed) + least - 1

    @property
    def _row_bytes(self) -> int:
        """Size of a row in all projections, flat and dark fields together, in bytes."""
        scan = self.scan
        frames = sum(frame_count(f) for f in (scan.data, scan.flats, scan.darks))
        return int(frames * scan.n_columns * np.dtype(scan.data.dtype).itemsize)

    def band_rows(self) -> int:
        """Return the number of rows to read from a file at a time."""
        share = (self.budget - _FIXED_BYTES) * _BAND_SHARE
        return int(max(1, share // self._row_bytes))

    def peak_bytes(self, n: int) -> int:
        """Return the peak memory of a run with blocks of up to `n` slices, in bytes."""
        first, stop = self.detector_rows((0, self.n_slices))
        band = min(self.band_rows(), stop - first) * self._row_bytes
        middle = (self.n_slices - n) // 2
        return _FIXED_BYTES + band + self.bytes_of((middle, middle + n))


def frame_count(frames: Any) -> int:
    """Return the number of projections or of flat or dark fields; 0 for None."""
    return 0 if frames is None else int(frames.shape[0])


def magnification(scan: Projections) -> float:
    """Return the magnification from the rotation axis to the detector."""
    source, detector = scan.source_distance, scan.detector_distance
    if scan.geometry == "parallel" or source is None or detector is None:
        return 1.0
    return (source + detector) / source


def make_geometry(
    scan: Projections,
    angles: npt.NDArray[np.float64],
    centre: float,
    shape: tuple[int, ...],
    size: int,
    n_slices: int = 0,
) -> ParallelGeometry:
    """Return the geometry of a range of rows of a scan, for the projectors.

    Parameters
    ----------
    shape : tuple of int
        Numbers of rows, angles and columns.
    """
    common: AnyDict = {
        "angles": angles,
        "n_columns": shape[2],
        "centre": centre,
        "size": size,
        "pixel_size": scan.pixel_size[1],
    }
    if scan.geometry == "parallel":
        return ParallelGeometry(**common, unseen=scan.unseen)
    common["source_distance"] = scan.source_distance
    common["detector_distance"] = scan.detector_distance
    if scan.geometry == "fan":
        return FanGeometry(**common)
    return ConeGeometry(
        **common, n_rows=shape[0], n_slices=n_slices, row_size=scan.pixel_size[0]
    )


def used_projections(
    projections: Projections, config: ReconstructConfig
) -> Projections:
    """Select the projections that the settings ask for: every n-th, or half of them."""
    step, first = config.every, 0
    if config.half != "all":
        first = step if config.half == "odd" else 0
        step *= 2
    return projections.every(step, first) if step > 1 else projections


def ready_scan(
    given: Projections,
    scan: Projections,
    config: ReconstructConfig,
    centre: Centre,
    device: str,
    first_row: int,
    incident: float | None = None,
) -> ReconstructionInput:
    """Assemble a `ReconstructionInput`; decide whether opposite views are joined.

    Parameters
    ----------
    given : Projections
        Projections as opened.
    scan : Projections
        The selected part of the projections.
    config : ReconstructConfig
    centre : Centre
        Column of the rotation axis.
    device : str
    first_row : int
        Detector row of the first row of `scan`.
    incident : float, optional
        Intensity without a sample, if no flat field was recorded.

    Raises
    ------
    ProjectionsError
        If there are too few projections, or the axis is not on the detector.
    """
    if scan.n_angles < 2:
        raise ProjectionsError(
            f"{scan.title}: only one of {given.n_angles} projections is selected, "
            "which is too few to reconstruct a slice. Use more projections "
            "(--every), or the complete scan."
        )
    if not -0.5 <= centre.column <= scan.n_columns - 0.5:
        raise ProjectionsError(
            f"{scan.title}: the rotation axis, column {centre.column:g} "
            f"({centre.method}), is not on the detector (columns 0 … "
            f"{scan.n_columns - 1}). Give its column (--center)."
        )
    joined = _joins(scan, config, centre.column)
    n_columns = scan.n_columns
    if joined:
        # The width of the joined projections does not depend on their values, so use
        # zeros.
        like = np.zeros((1, scan.n_angles, n_columns), np.float32)
        n_columns = fold_full_turn(like, scan.angles, centre.column)[0].shape[2]
    return ReconstructionInput(
        scan=scan,
        given=given,
        config=config,
        algorithm=config.algorithm_config(),
        centre=centre,
        device=device,
        first_row=first_row,
        joined=joined,
        n_columns=n_columns,
        incident=incident,
    )


def _joins(scan: Projections, config: ReconstructConfig, column: float) -> bool:
    if config.full_turn == "join" and scan.geometry != "parallel":
        raise ProjectionsError(
            f"Opposite views of a {scan.geometry} beam are not mirror images and "
            "cannot be joined. Omit --full-turn: fbp and fdk use the data of both "
            "sides."
        )
    if config.full_turn != "auto":
        return config.full_turn == "join"
    parallel = scan.geometry == "parallel"
    return parallel and scan.is_full_turn and is_off_middle(scan, column)


def is_off_middle(scan: Projections, column: float) -> bool:
    """Return whether an axis is too far off-centre to be just misaligned."""
    off = abs(column - (scan.n_columns - 1) / 2)
    return off > _OFF_MIDDLE * scan.n_columns


def given_centre(column: float, method: str) -> Centre:
    """Return a rotation axis that was given rather than found automatically."""
    none = np.empty(0)
    return Centre(column, method, none, none, lower_is_better=True, contrast=0.0)
