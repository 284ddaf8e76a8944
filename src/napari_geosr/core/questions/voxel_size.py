"""When a voxel size in a file is more likely a default than a measured size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from napari_geosr.core.units import MILLIMETRES, PIXEL

#: Dots per inch of screens and print settings that converters write as a pixel size.
#: 100, 200 and 254 are left out: 254, 127 and 100 µm are pixels of real detectors.
_EDITOR_DPI = (72, 96, 150, 300, 600, 1200)
#: Such a size is computed from the dpi, so it agrees to the digits that were written.
_SAME = 2e-4
#: Edges of one voxel that differ by more are asked for.
MOST_UNEVEN = 10.0
#: 1 nm and 10 mm, in mm: what CT and microscopes resolve lies between.
SMALLEST, LARGEST = 1e-6, 10.0
#: Rounding of edges that are exactly at a limit.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class VoxelSizeQuestion:
    """A voxel size that was found in a file and is implausible, so not used.

    Attributes
    ----------
    voxel_size : tuple of float
        As found, along the spatial axes, in `unit`.
    unit : str
        A unit of length.
    reasons : tuple of str
        Why it is implausible.
    may_be_right : bool
        Whether a person may confirm it: uneven, very small and very large voxels
        exist; inches and dots per inch are defaults.
    """

    voxel_size: tuple[float, ...]
    unit: str
    reasons: tuple[str, ...]
    may_be_right: bool = True

    @property
    def found(self) -> str:
        """The size as people read it: ``"1 × 0.01 × 0.01 in"``."""
        return " × ".join(f"{v:.4g}" for v in self.voxel_size) + f" {self.unit}"

    @property
    def why(self) -> str:
        """The reasons in one phrase."""
        return "; ".join(self.reasons)

    def __str__(self) -> str:
        edges = "Z,Y,X" if len(self.voxel_size) == 3 else "Y,X"
        text = (
            f"the file gives a voxel size of {self.found}, which is implausible "
            f"({self.why}), so it is treated as unknown. "
            f"Give the voxel size (--voxel-size {edges} --unit um)"
        )
        if not self.may_be_right:
            return text + "."
        size = ",".join(f"{v:.9g}" for v in self.voxel_size)
        unit = {"µm": "um", "Å": "angstrom"}.get(self.unit, self.unit)
        return f"{text}, or confirm this one (--voxel-size {size} --unit {unit})."


def reasons_against(
    voxel_size: Sequence[float], unit: str
) -> tuple[tuple[str, ...], bool]:
    """Say why a voxel size is implausible.

    Parameters
    ----------
    voxel_size : sequence of float
        Along Z, Y, X or Y, X, in `unit`, greater than zero.
    unit : str
        ``"pixel"`` is never implausible: it says that the size is unknown.

    Returns
    -------
    reasons : tuple of str
        Empty for a plausible size.
    may_be_right : bool
        Whether the size can be true all the same.
    """
    if unit == PIXEL:
        return (), True
    reasons = []
    may_be_right = True
    if unit == "in":
        may_be_right = False
        reasons.append("programs write inches when nobody set a voxel size")
    millimetres = [edge * MILLIMETRES[unit] for edge in voxel_size]
    dpi = _editor_dpi(millimetres[-1])
    if dpi is not None:
        may_be_right = False
        reasons.append(f"{dpi} dots per inch is a default of image editors")
    ratio = max(millimetres) / min(millimetres)
    if ratio > MOST_UNEVEN * (1 + _ROUNDING):
        reasons.append(f"its edges differ by a factor of {ratio:.3g}")
    smallest, largest = min(millimetres), max(millimetres)
    if smallest < SMALLEST * (1 - _ROUNDING):
        edge = f"{smallest / MILLIMETRES['nm']:.3g} nm"
        reasons.append(f"an edge of {edge} is below 1 nm")
    if largest > LARGEST * (1 + _ROUNDING):
        reasons.append(f"an edge of {largest:.3g} mm is above 10 mm")
    return tuple(reasons), may_be_right


def _editor_dpi(millimetres: float) -> int | None:
    """The default of image editors that gives such a pixel, or None."""
    for dpi in _EDITOR_DPI:
        if math.isclose(millimetres, 25.4 / dpi, rel_tol=_SAME):
            return dpi
    return None
