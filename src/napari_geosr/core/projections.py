"""Projections: the raw data of a tomographic scan, before reconstruction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.angles import Arc, arc_degrees, is_full_turn, missing_arcs
from napari_geosr.core.array_parts.selection import select
from napari_geosr.core.arrays import (
    ArrayLike,
    as_array_like,
    has_real_numbers,
    to_numpy,
)
from napari_geosr.core.errors import GeoSRError, ProjectionsError
from napari_geosr.core.text.display import array_facts, html_figure, one_line
from napari_geosr.core.types import AnyArray, AnyMapping
from napari_geosr.core.units import PIXEL, require_unit

GEOMETRIES = ("parallel", "fan", "cone")


@dataclass(frozen=True, eq=False)
class Projections:
    """Radiographs of a sample at many angles, with the data needed for reconstruction.

    Parameters
    ----------
    data : ArrayLike of shape (angle, row, column)
        Raw counts or line integrals; in memory or lazily read from a file.
    angles : array of float, shape (angle,)
        Angle of each projection in degrees, in any order and range.
    flats, darks : ArrayLike of shape (n, row, column), optional
        Flat fields (without sample) and dark fields (without beam).
    pixel_size : tuple of float
        Height and width of a detector pixel (row and column axes), in `unit`.
    unit : str
        ``"µm"``, ``"mm"``, …; ``"pixel"`` when unknown, never guessed.
    centre : float, optional
        Column onto which the rotation axis projects; 0 is the middle of the first
        column. None when unknown.
    geometry : str
        ``"parallel"``, ``"fan"`` or ``"cone"``.
    source_distance, detector_distance : float, optional
        Distance from source to rotation axis and from axis to detector, in `unit`;
        required for fan and cone beams.
    is_line_integrals : bool
        Whether `data` are already -log(I / I₀).
    unseen : tuple of (float, float)
        For a subset of a scan: start and width, in degrees within half a turn, of
        the missing wedges of the whole scan. With few views, a missing wedge cannot be
        distinguished from a normal gap between angles.
    provenance : tuple of mapping
        Processing history (`napari_geosr.core.provenance`).
    name : str
        Name shown to the user: a file's stem or a layer's name.
    source : Path, optional
        The file or folder from which the projections were read.
    metadata : mapping
        Further information for the user, including ``"notes"``. It is not written to
        files.

    Raises
    ------
    ProjectionsError
        If the fields are inconsistent.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_geosr import Projections
    >>> counts = np.full((180, 4, 64), 1000, "u2")
    >>> scan = Projections(counts, np.arange(180.0), pixel_size=(5, 5), unit="µm")
    >>> scan.n_angles, scan.every(2).n_angles
    (180, 90)
    >>> scan
    <Projections 'projections': angles 180 × rows 4 × columns 64, pixel size 5 µm, ...>
    """

    data: ArrayLike
    angles: npt.NDArray[np.float64]
    flats: ArrayLike | None = None
    darks: ArrayLike | None = None
    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = PIXEL
    centre: float | None = None
    geometry: str = "parallel"
    source_distance: float | None = None
    detector_distance: float | None = None
    is_line_integrals: bool = False
    unseen: tuple[Arc, ...] = ()
    provenance: tuple[AnyMapping, ...] = ()
    name: str = "projections"
    source: Path | None = None
    metadata: AnyMapping = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_data()
        self._check_angles()
        for word in ("flat", "dark"):
            self._check_frames(word)
        object.__setattr__(self, "unit", require_unit(self.unit))
        object.__setattr__(self, "pixel_size", self._checked_pixel_size())
        self._check_geometry()

    def _check_data(self) -> None:
        object.__setattr__(self, "data", self._array(self.data, ""))
        shape = tuple(self.data.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ProjectionsError(
                f"{self.title} has shape {shape}; projections need three axes (angle, "
                "row, column), none of them empty. Choose another dataset or file."
            )
        if not has_real_numbers(self.data):
            raise ProjectionsError(
                f"{self.title} contains values of type {np.dtype(self.data.dtype)}; "
                "projections must be real-valued. Choose another dataset or file."
            )

    def _array(self, given: object, what: str) -> Any:
        return as_array_like(given, f"{self.title}{what}", ProjectionsError)

    def _check_angles(self) -> None:
        angles = np.array(self.angles, np.float64)
        if angles.shape != (self.n_angles,):
            given = len(angles) if angles.ndim == 1 else f"an array {angles.shape} of"
            raise ProjectionsError(
                f"{self.title} has {self.n_angles} projections but {given} angles. "
                "Give one angle for each projection."
            )
        bad = np.flatnonzero(~np.isfinite(angles))
        if bad.size:
            raise ProjectionsError(
                f"{self.title}: {bad.size} of its {len(angles)} angles are NaN or "
                f"infinite (the first is angle number {bad[0]}). Correct the angles, "
                "or exclude these projections."
            )
        angles.setflags(write=False)
        object.__setattr__(self, "angles", angles)

    def _check_frames(self, word: str) -> None:
        if getattr(self, f"{word}s") is None:
            return
        frames = self._array(getattr(self, f"{word}s"), f" ({word} fields)")
        object.__setattr__(self, f"{word}s", frames)
        shape = tuple(frames.shape)
        if len(shape) != 3 or shape[0] < 1 or shape[1:] != self.data.shape[1:]:
            raise ProjectionsError(
                f"{self.title}: the {word} fields have shape {shape}, the projections "
                f"{tuple(self.data.shape)}. They must have the same numbers of rows "
                f"and columns: use {word} fields from this detector."
            )

    def _checked_pixel_size(self) -> tuple[float, float]:
        given: Any = self.pixel_size
        sizes = tuple(float(v) for v in np.ravel(given))
        sizes = sizes * 2 if len(sizes) == 1 else sizes
        if len(sizes) != 2 or not all(math.isfinite(v) and v > 0 for v in sizes):
            raise ProjectionsError(
                f"{self.title} has pixel size {given}; two numbers greater than zero "
                "are needed: height and width of a detector pixel."
            )
        return sizes[0], sizes[1]

    def _check_geometry(self) -> None:
        if self.geometry not in GEOMETRIES:
            raise ProjectionsError(
                f"{self.title}: {self.geometry!r} is not a known geometry. Use one of: "
                f"{', '.join(GEOMETRIES)}."
            )
        if self.centre is not None and not math.isfinite(self.centre):
            raise ProjectionsError(
                f"{self.title}: {self.centre} is not a valid rotation centre. Give a "
                "column, or omit the centre to have it determined."
            )
        if self.geometry == "parallel":
            return
        for word in ("source_distance", "detector_distance"):
            value = getattr(self, word)
            # A (virtual) detector may lie on the axis, but a source must not.
            low = value is not None and (
                value <= 0 if word == "source_distance" else value < 0
            )
            if value is None or not math.isfinite(value) or low:
                raise ProjectionsError(
                    f"{self.title} is a {self.geometry}-beam scan and needs its "
                    f"{word.replace('_', ' ')} (not {value}). Give the distances from "
                    "source to axis and from axis to detector."
                )

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        """Return the projections as a numpy array; projections in a file are read."""
        return to_numpy(self.data, self.title, dtype, copy)

    def __repr__(self) -> str:
        names = ("angles", "rows", "columns")
        return one_line(
            "Projections",
            self.name,
            array_facts(
                dict(zip(names, self.shape, strict=True)),
                ("pixel size", self.pixel_size, self.unit),
                np.dtype(self.data.dtype),
                lazy=type(self.data) is not np.ndarray,
            ),
        )

    def _repr_html_(self) -> str:
        """Show the middle projection and a summary in notebooks."""
        middle = self.n_angles // 2
        try:
            key = (slice(middle, middle + 1), slice(None), slice(None))
            plane = np.asarray(self.data[key])[0]
            caption = f"angle {self.angles[middle]:g}°"
        except (OSError, GeoSRError) as error:
            plane, caption = None, f"A projection cannot be read: {error}"
        return html_figure(repr(self), plane, caption)

    @property
    def title(self) -> str:
        """Name of the projections in messages, taken from their file or layer."""
        return repr(self.name) if self.source is None else self.source.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of angles, rows and columns."""
        n_angles, n_rows, n_columns = (int(n) for n in self.data.shape)
        return n_angles, n_rows, n_columns

    @property
    def n_angles(self) -> int:
        """Number of projections."""
        return int(self.data.shape[0])

    @property
    def n_rows(self) -> int:
        """Number of detector rows, i.e. number of slices for a parallel beam."""
        return int(self.data.shape[1])

    @property
    def n_columns(self) -> int:
        """Number of detector columns."""
        return int(self.data.shape[2])

    @property
    def angular_range(self) -> float:
        """Shortest arc that contains all angles, plus one step, in degrees."""
        return arc_degrees(self.angles)

    @property
    def wedges(self) -> tuple[Arc, ...]:
        """Start and width of the missing wedges within half a turn, in degrees.

        A subset of a scan has the missing wedges of the whole scan. For fan and cone
        beams, missing wedges are not determined.
        """
        if self.geometry != "parallel" or self.unseen:
            return self.unseen
        return missing_arcs(self.angles, 180.0)

    @property
    def is_full_turn(self) -> bool:
        """Whether each ray was measured from both sides: 360 degrees or more.

        Angles are taken modulo 360°. The direction opposite each view must be another
        view, or lie between two views of an evenly divided turn.
        """
        return is_full_turn(self.angles)

    @property
    def has_physical_size(self) -> bool:
        """Whether the pixel size is known in a unit of length."""
        return self.unit != PIXEL

    def replace(self, **changes: Any) -> Projections:
        """Return a validated copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def rows(self, start: int, stop: int) -> Projections:
        """Take the detector rows `start` … `stop` - 1; nothing is read.

        Raises
        ------
        ProjectionsError
            If there are no such rows, or if only some rows of a cone-beam scan are
            taken: their distance from the central row would be lost.
        """
        if not 0 <= start < stop <= self.n_rows:
            raise ProjectionsError(
                f"{self.title} has rows 0 to {self.n_rows - 1}, so rows {start} to "
                f"{stop - 1} do not exist. Choose rows within this range (--rows)."
            )
        if self.geometry == "cone" and (start, stop) != (0, self.n_rows):
            raise ProjectionsError(
                f"{self.title} is a cone-beam scan: its rows depend on each other and "
                "cannot be used separately. Use all rows."
            )
        return self.replace(
            data=_rows(self.data, start, stop),
            flats=None if self.flats is None else _rows(self.flats, start, stop),
            darks=None if self.darks is None else _rows(self.darks, start, stop),
        )

    def every(self, k: int, first: int = 0) -> Projections:
        """Take every `k`-th projection, starting with projection `first`."""
        if k < 1 or not 0 <= first < self.n_angles:
            raise ProjectionsError(
                f"{self.title} has {self.n_angles} projections, so every {k}-th one, "
                f"starting with {first}, cannot be selected. Choose a number from 1 to "
                f"{self.n_angles} (--every)."
            )
        return self.subset(range(first, self.n_angles, k))

    def subset(self, indices: Sequence[int] | AnyArray) -> Projections:
        """Take the projections with these indices, in this order; nothing is read."""
        chosen = np.asarray(indices, np.intp)
        bad = chosen[(chosen < 0) | (chosen >= self.n_angles)]
        if chosen.ndim != 1 or not chosen.size:
            raise ProjectionsError(
                f"{self.title}: no projection is selected. Choose at least one."
            )
        if bad.size:
            raise ProjectionsError(
                f"{self.title} has projections 0 to {self.n_angles - 1}, but no "
                f"projection {bad[0]}. Choose projections within this range."
            )
        return self.replace(
            data=select(self.data, chosen),
            angles=self.angles[chosen],
            unseen=self.wedges,
        )


def _rows(frames: Any, start: int, stop: int) -> Any:
    return select(frames, np.arange(frames.shape[0]), (start, stop))
