"""Redundancy weights of the rays of fan and cone beams for filtered back-projection.

A ray at an angle γ to the central ray is measured again in the opposite direction, at
the angle -γ, after half a turn plus 2 γ. In a full turn, all rays are measured twice
and have weight 1/2. In a short scan (half a turn plus the fan angle), each ray is
measured at least once, and those near both ends of the scan twice: there, one view
fades out while the other fades in, as in Parker's weights [1]_. The same applies to
scans of intermediate length. A detector that is offset from the axis is treated in the
same way along the columns [2]_.

References
----------
.. [1] Parker. Optimal short scan convolution reconstruction for fan beam CT. Med. Phys.
   9, 254-257 (1982). doi:10.1118/1.595078
.. [2] Wang. X-ray micro-CT with a displaced detector array. Med. Phys. 29, 1634-1636
   (2002). doi:10.1118/1.1489043
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.angles import distinct_angles, is_wedge
from napari_geosr.core.errors import ProjectionsError
from napari_geosr.physics.projection.geometry import ConeGeometry

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import FanGeometry

Floats = npt.NDArray[np.float64]

#: Maximum gap between angles within a full turn, in degrees and in median steps (the
#: larger applies); a wider gap is the end of the scan.
_CLOSED_DEGREES = 2.0
_CLOSED_STEPS = 1.5
#: Maximum number of degrees by which a scan may be too short: the missing rays affect
#: only the outermost columns in a few views (error below 0.5 % of the norm of a slice
#: that fills these columns).
_MAX_MISSING_DEGREES = 2.0
#: Largest angle over which views at the ends of a scan fade out, in degrees. For fan
#: angles up to half of this angle, the weights equal Parker's; for longer scans, they
#: give less noise.
_FADE = 60.0
#: If the offset of the axis from the middle of the detector exceeds this fraction of
#: its width, it is intentional: each view then shows only one side of the sample.
OFF_MIDDLE = 0.05


@dataclass(frozen=True)
class Arc:
    """The angles of a scan as an arc of a turn.

    Attributes
    ----------
    places : ndarray of shape (n_angles,)
        Degrees from the start of the arc, which is half a step before the first view.
    shares : ndarray of shape (n_angles,)
        Degrees that each view represents.
    length : float
        Length of the arc in degrees; 360 for a full turn.
    """

    places: Floats
    shares: Floats
    length: float

    @property
    def is_full_turn(self) -> bool:
        """Whether each ray was measured from both sides."""
        return self.length >= 360.0


def arc_of(angles: Floats) -> Arc:
    """Find where a scan starts and ends: at the widest gap between its angles.

    Angles may be uneven, in any order, and cover more than one turn.

    Raises
    ------
    ProjectionsError
        If there is a further wide gap within the arc.
    """
    places, inverse, counts = distinct_angles(angles, 360.0)
    n = len(places)
    if n < 2:
        return Arc(np.zeros(len(angles)), np.zeros(len(angles)), 0.0)
    gaps = np.diff(places, append=places[0] + 360)
    step = float(np.sort(gaps)[(n - 1) // 2])
    last = int(np.argmax(gaps))
    if gaps[last] <= max(_CLOSED_DEGREES, _CLOSED_STEPS * step):
        shares, length = (gaps + np.roll(gaps, 1)) / 2, 360.0
    else:
        order = np.roll(np.arange(n), -(last + 1))
        inner = gaps[order][:-1]
        if is_wedge(inner, step).any():
            raise ProjectionsError(
                "Projections are missing in two or more angular ranges "
                f"({gaps[last]:.0f}° and {inner.max():.0f}°): filtered back-projection "
                "of fan and cone beams needs one arc without gaps. Use an iterative "
                "algorithm: SIRT, CGLS or TV."
            )
        padded = np.concatenate([inner[:1], inner, inner[-1:]])
        shares, at = np.empty(n), np.empty(n)
        shares[order] = (padded[1:] + padded[:-1]) / 2
        at[order] = inner[0] / 2 + np.concatenate([[0.0], np.cumsum(inner)])
        places, length = at, min(float(shares.sum()), 360.0)
    return Arc(places[inverse], (shares / counts)[inverse], length)


def fan_angles(geometry: FanGeometry) -> Floats:
    """Return the angle between every column's ray and the central ray, in degrees."""
    t = (np.arange(geometry.n_columns) - geometry.centre) * geometry.pixel_size
    full = geometry.source_distance + geometry.detector_distance
    found: Floats = np.rad2deg(np.arctan2(t, full))
    return found


def needed_degrees(geometry: FanGeometry) -> float:
    """Return half a turn plus the fan angle, over which every ray is measured."""
    return float(180 + 2 * np.abs(fan_angles(geometry)).max())


def check_arc(geometry: FanGeometry) -> None:
    """Reject scans over too short an arc, and axes that are not on the detector.

    Every ray is measured over an arc of half a turn plus the fan angle.

    Raises
    ------
    ProjectionsError
        If filtered back-projection cannot give a correct result.
    """
    arc, needed = arc_of(geometry.angles), needed_degrees(geometry)
    if not arc.is_full_turn and arc.length + _MAX_MISSING_DEGREES < needed:
        raise ProjectionsError(
            f"The projections cover {arc.length:.4g}° of the turn; filtered "
            f"back-projection needs {needed:.4g}° with this fan (180° plus the fan "
            "angle). Use an iterative algorithm: SIRT, CGLS or TV."
        )
    if not np.ptp(np.sign(fan_angles(geometry))):
        raise ProjectionsError(
            f"The rotation axis at column {geometry.centre:g} is not on the detector "
            f"(columns 0 … {geometry.n_columns - 1}), so rays near it were not "
            "measured. Check the centre, or use an iterative algorithm: SIRT, CGLS or "
            "TV."
        )


class Weighting:
    """Weights by which projections are multiplied before they are filtered.

    Each is the redundancy weight of a ray times the cosine of its angle to the central
    ray. For an offset detector, columns of zeros are added to make it symmetric, so
    that the filter can extend beyond its edge.

    Parameters
    ----------
    geometry : FanGeometry
        Fan or cone beam.
    like : Tensor
        Determines type and device of the result.

    Attributes
    ----------
    geometry : FanGeometry
        Geometry of the weighted projections.

    Raises
    ------
    ProjectionsError
        As in `check_arc`.
    """

    def __init__(self, geometry: FanGeometry, like: Tensor) -> None:
        self._weights = like.new_tensor(ray_weights(geometry))
        self._cosines = like.new_tensor(ray_cosines(geometry))
        self._margins = (0, 0)
        self.geometry = geometry
        if arc_of(geometry.angles).is_full_turn and _is_one_sided(fan_angles(geometry)):
            lacking = round(2 * geometry.centre) - (geometry.n_columns - 1)
            left, right = self._margins = max(-lacking, 0), max(lacking, 0)
            self.geometry = replace(
                geometry,
                n_columns=geometry.n_columns + left + right,
                centre=geometry.centre + left,
            )

    def apply(self, sinogram: Tensor, part: slice = slice(None)) -> Tensor:
        """Weight projections (..., angle, column) of `part` of the angles."""
        import torch

        seen = sinogram * self._cosines * self._weights[part]
        if not any(self._margins):
            return seen
        return torch.nn.functional.pad(seen, self._margins)


def ray_cosines(geometry: FanGeometry) -> Floats:
    """Return cosines of angles to the central ray: (column,) or (row, 1, column)."""
    t = (np.arange(geometry.n_columns) - geometry.centre) * geometry.pixel_size
    full = geometry.source_distance + geometry.detector_distance
    squared = full**2 + t**2
    if isinstance(geometry, ConeGeometry):
        rows = np.arange(geometry.n_rows) - geometry.row_centre
        squared = squared + (rows[:, None, None] * geometry.row_size) ** 2
    found: Floats = full / np.sqrt(squared)
    return found


def ray_weights(geometry: FanGeometry) -> Floats:
    """Return the share of half a turn that each ray represents, in radians.

    The weights of rays along the same line sum to the share of the view.

    Returns
    -------
    ndarray of shape (n_angles, n_columns)

    Raises
    ------
    ProjectionsError
        As in `check_arc`.
    """
    check_arc(geometry)
    arc, fan = arc_of(geometry.angles), fan_angles(geometry)
    shares = np.deg2rad(arc.shares)[:, None]
    if arc.is_full_turn:
        return shares * _side_weights(fan)
    at, fan = arc.places[:, None], fan[None]
    more = (arc.length - 180) / 2
    weights = np.ones(np.broadcast_shapes(at.shape, fan.shape))
    # Rays within `twice` degrees of one end are measured again near the other end.
    for place, twice in ((at, 2 * (more + fan)), (arc.length - at, 2 * (more - fan))):
        weights = np.where(place < twice, _fading(place, twice), weights)
    return shares * weights


def _fading(place: Floats, twice: Floats) -> Floats:
    """Return weights of rays that are measured twice; the two weights sum to 1.

    These are the rays up to `twice` degrees from an end; `place` is this distance.
    """
    width = np.clip(twice, 1e-9, _FADE)
    both = np.stack(np.broadcast_arrays(place, twice - place)) / width
    ours, other = np.sin(np.pi / 2 * np.clip(both, 0, 1)) ** 2
    found: Floats = ours / np.maximum(ours + other, 1e-12)
    return found


def _side_weights(fan: Floats) -> Floats:
    """Return weights for a full turn: one half, or by column for an offset detector."""
    if not _is_one_sided(fan):
        return np.full(fan.shape, 0.5)
    reach = min(-fan.min(), fan.max())
    side = np.clip(np.sign(fan.min() + fan.max()) * fan / max(reach, 1e-9), -1, 1)
    found: Floats = (1 + np.sin(np.pi / 2 * side)) / 2
    return found


def _is_one_sided(fan: Floats) -> bool:
    """Whether the detector is intentionally offset from the axis."""
    return bool(abs(fan.max() + fan.min()) / 2 > OFF_MIDDLE * np.ptp(fan))
