"""Distinguishes background around a sample, such as air, from its pores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import ArrayLike
from napari_geosr.measure.segment import phase_mask

#: Number of planes in which the rim is examined.
_RIM_PLANES = 9
#: Maximum size in bytes of a plane that is read as a whole.
MAX_PLANE_BYTES = 2**28
#: Edge length of the corner regions examined in a plane, as a fraction of the plane's
#: shorter edge.
_CORNER_SHARE = 0.02
#: Minimum fraction of each corner, on average over the planes, that background fills if
#: it surrounds a sample.
_MIN_CORNER_SHARE = 0.97
#: Minimum fraction of the rim, on average over the planes, that background fills if it
#: surrounds a sample.
_MIN_RIM_SHARE = 0.3
#: Minimum fraction for a single image; it is larger because all four corners may be
#: pores by chance.
_MIN_RIM_SHARE_2D = 0.6
#: Maximum geometric mean of the edges, in pixels, of the reduced planes that are
#: searched for background.
_REDUCED = 64
#: Minimum length of the shorter edge of the reduced planes, in pixels.
_MIN_REDUCED = 10
#: Minimum distance from the rim of a plane to the nearest solid, as a fraction of the
#: plane's shorter edge, at which the pore phase on the rim is background. The distance
#: is 0.27 for a bone with solid corners, and less than 0.2 for Berea sandstone, cement
#: and foams.
_MIN_DEPTH = 0.2


@dataclass(frozen=True)
class PlaneRim:
    """Grey values of a plane that help to distinguish background from pores.

    Attributes
    ----------
    corners : ndarray of shape (4, n)
        Grey values of the four corners.
    rim : ndarray of shape (n,)
        Grey values of the four edges.
    reduced : ndarray of shape (Y, X), float32
        Means of square blocks of the plane.
    """

    corners: AnyArray
    rim: AnyArray
    reduced: AnyArray


@dataclass(frozen=True)
class Surroundings:
    """The surroundings of the sample, as seen in selected planes of a volume.

    Attributes
    ----------
    planes : tuple of PlaneRim
        Evenly spaced planes, including the first and last; empty if planes are too
        small, or too large to read.
    """

    planes: tuple[PlaneRim, ...] = ()

    @classmethod
    def of(
        cls, source: ArrayLike, max_plane_bytes: int = MAX_PLANE_BYTES
    ) -> Surroundings:
        """Read some planes of a volume.

        Parameters
        ----------
        source : array-like of shape (Z, Y, X) or (Y, X)
        max_plane_bytes : int
            Maximum size of a plane in bytes; larger planes are not read, and the
            surroundings are then unknown.
        """
        height, width = source.shape[-2:]
        is_volume = len(source.shape) > 2
        depth = source.shape[0] if is_volume else 1
        n = max(2, round(_CORNER_SHARE * min(height, width)))
        size = height * width * np.dtype(source.dtype).itemsize
        if min(height, width) < 4 * n or size > max_plane_bytes:
            return cls()
        found = []
        for z in np.unique(np.linspace(0, depth - 1, _RIM_PLANES).astype(int)):
            part = np.asarray(source[int(z) : int(z) + 1] if is_volume else source[:])
            plane = part.reshape(height, width)
            ends = (slice(None, n), slice(-n, None))
            corners = np.stack([plane[y, x].ravel() for y in ends for x in ends])
            found.append(PlaneRim(corners, _rim(plane), _reduced(plane)))
        return cls(tuple(found))

    def has_background(
        self, threshold: float, phase: Literal["dark", "bright"]
    ) -> bool:
        """Return whether background, such as air, reaches the faces of the volume.

        Parameters
        ----------
        threshold : float
            Threshold between pores and solid.
        phase : {"dark", "bright"}
            Phase of the pores.

        Returns
        -------
        bool
            True if, on average over the examined planes, the phase fills each corner
            and a large part of the rim. Also True if, in most planes, the phase extends
            much further from the same part of the rim than pores would. The porosity of
            the whole volume would then include the background.
        """
        if not self.planes:
            return False
        corners = [
            phase_mask(r.corners, threshold, phase).mean(axis=1) for r in self.planes
        ]
        rims = [phase_mask(r.rim, threshold, phase).mean() for r in self.planes]
        least = _MIN_RIM_SHARE_2D if len(self.planes) == 1 else _MIN_RIM_SHARE
        in_corners = np.mean(corners, axis=0).min()
        if in_corners >= _MIN_CORNER_SHARE and np.mean(rims) >= least:
            return True
        return self.background_depth(threshold, phase) >= _MIN_DEPTH

    def suggests_mask(self, threshold: float, phase: Literal["dark", "bright"]) -> bool:
        """Return whether an automatic mask may exclude the background.

        The mask encloses the phase of the solid. If pores are bright, that is the dark
        phase, which may be air. The dark phase is assumed to be air if it reaches the
        faces as background does; the bright phase is then the material.
        """
        if not self.has_background(threshold, phase):
            return False
        return phase == "dark" or not self.has_background(threshold, "dark")

    def background_depth(
        self, threshold: float, phase: Literal["dark", "bright"]
    ) -> float:
        """Return the largest distance from the rim to the nearest solid.

        Pores vary from plane to plane, but background lies in the same position, so the
        median of the planes is taken for each part of the rim. The connected pore space
        of a rock also touches all faces, but it is narrow everywhere.

        Parameters
        ----------
        threshold : float
            Threshold between pores and solid.
        phase : {"dark", "bright"}
            Phase of the pores.

        Returns
        -------
        float
            Distance as a fraction of the plane's shorter edge; 0 if there are too few
            planes for a median, or if they have too few pixels.
        """
        from scipy import ndimage

        edge = min((min(plane.reduced.shape) for plane in self.planes), default=0)
        if len(self.planes) < _RIM_PLANES or edge < _MIN_REDUCED:
            return 0.0
        depths = []
        for plane in self.planes:
            pores = phase_mask(plane.reduced, threshold, phase)
            depth = ndimage.distance_transform_edt(pores)
            # Without any solid, the distance is undefined: use the plane's shorter
            # edge.
            depths.append(_rim(depth if not pores.all() else np.full_like(depth, edge)))
        return float(np.median(depths, axis=0).max() / edge)


def _rim(plane: AnyArray) -> AnyArray:
    """Return the four edges of a plane."""
    return np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])


def _reduced(plane: AnyArray) -> AnyArray:
    """Return the means of square blocks of a plane.

    A mean is not finite if any value in its block is not finite.
    """
    n = max(1, math.ceil(math.sqrt(plane.size) / _REDUCED))
    height, width = (length // n for length in plane.shape)
    blocks = plane[: height * n, : width * n].reshape(height, n, width, n)
    means: AnyArray = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means
