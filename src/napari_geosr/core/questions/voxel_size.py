"""Detect implausible voxel sizes in files, including likely default values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from napari_geosr.core.units import MILLIMETRES, PIXEL, same_sizes

#: Dots per inch of screens and printers that converters write as a pixel size. 100, 200
#: and 254 are not included: pixels of 254, 127 and 100 µm exist in real detectors.
_EDITOR_DPI = (72, 96, 150, 300, 600, 1200)
#: Relative tolerance: a size computed from the dpi agrees only to as many digits as
#: were written.
_SAME = 2e-4
#: Maximum ratio of a voxel's edges that is accepted without asking.
MAX_ANISOTROPY = 10.0
#: Minimum plausible edge in mm (1 nm); CT and microscopy lie within these limits.
MIN_EDGE_MM = 1e-6
#: Edge in mm (10 mm) at and above which a voxel is implausible.
MAX_EDGE_MM = 10.0
#: Relative tolerance for rounding errors of edges that are exactly at a limit.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class VoxelSizeQuestion:
    """An implausible voxel size found in a file; it is not used.

    Attributes
    ----------
    voxel_size : tuple of float
        Voxel size found in the file, along the spatial axes, in `unit`.
    unit : str
        Unit of length of `voxel_size`.
    reasons : tuple of str
        Reasons why the size is implausible.
    may_be_right : bool
        Whether the user may confirm it: very uneven, small or large voxels exist,
        whereas sizes in inches or dots per inch are defaults.
    """

    voxel_size: tuple[float, ...]
    unit: str
    reasons: tuple[str, ...]
    may_be_right: bool = True

    @property
    def size_text(self) -> str:
        """The size as shown to the user: ``"1 × 0.01 × 0.01 in"``."""
        return " × ".join(f"{v:.4g}" for v in self.voxel_size) + f" {self.unit}"

    def is_size(self, voxel_size: Sequence[float], unit: str) -> bool:
        """Whether this is the size in question, apart from rounding."""
        return unit == self.unit and same_sizes(self.voxel_size, tuple(voxel_size))

    @property
    def reason(self) -> str:
        """The reasons in one phrase."""
        return "; ".join(self.reasons)

    def __str__(self) -> str:
        edges = "Z,Y,X" if len(self.voxel_size) == 3 else "Y,X"
        text = (
            f"the file specifies a voxel size of {self.size_text}, which is "
            f"implausible ({self.reason}), so it is treated as unknown. Give the "
            f"voxel size (--voxel-size {edges} --unit um)"
        )
        if not self.may_be_right:
            return text + "."
        size = ",".join(f"{v:.9g}" for v in self.voxel_size)
        unit = {"µm": "um", "Å": "angstrom"}.get(self.unit, self.unit)
        return f"{text}, or confirm this one (--voxel-size {size} --unit {unit})."


def implausibility_reasons(
    voxel_size: Sequence[float], unit: str
) -> tuple[tuple[str, ...], bool]:
    """List the reasons why a voxel size is implausible.

    Parameters
    ----------
    voxel_size : sequence of float
        Edge lengths along Z, Y, X or Y, X, in `unit`; greater than zero.
    unit : str
        ``"pixel"`` is never implausible: it means that the size is unknown.

    Returns
    -------
    reasons : tuple of str
        Empty for a plausible size.
    may_be_right : bool
        Whether the size may be correct nevertheless.
    """
    if unit == PIXEL:
        return (), True
    reasons = []
    may_be_right = True
    if unit == "in":
        may_be_right = False
        reasons.append("many programs write inches if no voxel size was set")
    millimetres = [edge * MILLIMETRES[unit] for edge in voxel_size]
    dpi = _editor_dpi(millimetres[-1])
    if dpi is not None:
        may_be_right = False
        reasons.append(
            f"{dpi} dots per inch is a typical resolution of screens or printers"
        )
    return (*reasons, *_doubts_of_lengths(millimetres)), may_be_right


def doubts_of_given_size(voxel_size: Sequence[float], unit: str) -> tuple[str, ...]:
    """List the reasons why a voxel size that the user gave is probably a mistake.

    Inches and dots per inch are not among the reasons, because a size that the user
    entered is not a program's default.

    Examples
    --------
    >>> doubts_of_given_size((5.0, 0.05, 0.05), "µm")
    ('its edge lengths differ by a factor of 100',)
    >>> doubts_of_given_size((2.0, 0.5, 0.5), "µm")
    ()
    """
    if unit == PIXEL:
        return ()
    return _doubts_of_lengths([edge * MILLIMETRES[unit] for edge in voxel_size])


def _doubts_of_lengths(millimetres: Sequence[float]) -> tuple[str, ...]:
    """Return the reasons why edge lengths of a voxel, in mm, are implausible."""
    reasons = []
    ratio = max(millimetres) / min(millimetres)
    if ratio > MAX_ANISOTROPY * (1 + _ROUNDING):
        reasons.append(f"its edge lengths differ by a factor of {ratio:.3g}")
    smallest, largest = min(millimetres), max(millimetres)
    if smallest < MIN_EDGE_MM * (1 - _ROUNDING):
        edge = f"{smallest / MILLIMETRES['nm']:.3g} nm"
        reasons.append(f"a voxel size of {edge} is below 1 nm")
    if largest >= MAX_EDGE_MM * (1 - _ROUNDING):
        reasons.append(f"a voxel size of {largest:.3g} mm is 10 mm or more")
    return tuple(reasons)


def _editor_dpi(millimetres: float) -> int | None:
    """Return the default dpi of image editors that gives this pixel size, or None."""
    for dpi in _EDITOR_DPI:
        if math.isclose(millimetres, 25.4 / dpi, rel_tol=_SAME):
            return dpi
    return None
