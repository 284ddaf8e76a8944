"""Bring the voxels of medical volumes into one orientation.

The convention is that of NIfTI: X points to the right, Y to the front and Z up (RAS).
An array read from a file has its axes in the order Z, Y, X, and its indices increase
along these directions, so that positions and handedness are those in the file's header.
Axes that have a different order or direction in the file are permuted or reversed when
the file is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from napari_geosr.core.file_warnings import with_file_warnings
from napari_geosr.core.orientation import RAS, orientation_entry
from napari_geosr.core.types import AnyArray, AnyDict

#: Axis letters of a convention's directions, in their order (e.g. right, front and up).
_LETTERS = "XYZ"
#: Differences between components of a unit vector and of an axis up to this value count
#: as rounding errors.
_ROUNDING = 1e-4
#: Shear in degrees up to which no message is given, because it may be due to rounding.
_SLIGHT_SHEAR = 0.1
#: Shear in degrees up to which the rotation of the axes is recorded.
_SMALL_SHEAR = 1.0
#: Smallest accepted volume of a voxel, relative to the product of its edges.
_FLAT = 1e-3


@dataclass(frozen=True)
class Orientation:
    """The mapping of the stored axes of a file to X, Y and Z.

    Attributes
    ----------
    axes : str
        Letter of each stored axis.
    flipped : tuple of bool
        Whether each stored axis is reversed.
    origin : mapping of str to float
        Position of the first voxel along each direction, after reversing.
    notes : tuple of str
        Sentences for the user.
    name : str
        Directions of X, Y and Z (`napari_geosr.core.orientation`); empty if unknown.
    rotation : tuple of float
        Rotation of the axes that is not applied, row by row; empty if there is none.
    warning : str
        Warning about axes that are clearly not perpendicular, or empty.
    """

    axes: str
    flipped: tuple[bool, ...]
    origin: Mapping[str, float]
    notes: tuple[str, ...] = ()
    name: str = RAS
    rotation: tuple[float, ...] = ()
    warning: str = ""

    @property
    def metadata(self) -> AnyDict:
        """Entries for the metadata of the volume."""
        entry = orientation_entry(self.name, self.rotation)
        return with_file_warnings(entry, self.warning)

    @property
    def flipped_axes(self) -> tuple[int, ...]:
        """Indices of the stored axes that are reversed."""
        return tuple(i for i, is_flipped in enumerate(self.flipped) if is_flipped)


def as_stored(n_axes: int, *notes: str) -> Orientation:
    """Return the orientation of a file that states no usable orientation."""
    letters = _LETTERS[:n_axes]
    return Orientation(
        letters, (False,) * n_axes, dict.fromkeys(letters, 0.0), notes, name=""
    )


def orient(
    matrix: AnyArray,
    first: AnyArray,
    shape: Sequence[int],
    *,
    is_anatomical: bool = True,
) -> Orientation:
    """Find the permutation and reversal of stored axes that align them with X, Y and Z.

    An oblique volume is not resampled: its axes are assigned to the closest directions
    that preserve its handedness. Positions then refer to the rotated axes, so that
    all volumes with the same rotation remain aligned with each other.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        Each column is the step from one voxel to the next along a stored axis, in X, Y
        and Z (right, front, up). n is 2 or 3.
    first : ndarray, shape (n,)
        Position of the first stored voxel.
    shape : sequence of int
        Number of voxels along each stored axis.
    is_anatomical : bool
        Whether X, Y and Z are known to point to the right, front and up.
    """
    n = len(shape)
    edges = np.linalg.norm(matrix, axis=0)
    if not (np.isfinite(matrix).all() and np.isfinite(first).all() and edges.all()):
        return as_stored(n, "The orientation in the file's header is invalid.")
    units = matrix / edges
    if abs(np.linalg.det(units)) < _FLAT:
        return as_stored(n, "The orientation in the file's header is invalid.")
    # The stored axis along each direction.
    stored = max(
        permutations(range(n)),
        key=lambda order: sum(round(abs(units[w, i]), 6) for w, i in enumerate(order)),
    )
    signs = [-1.0 if units[w, i] < 0 else 1.0 for w, i in enumerate(stored)]
    turned = units[:, stored] * signs
    if np.linalg.det(turned) < 0:  # keep the handedness
        signs[int(np.argmin(np.diag(turned)))] *= -1.0
        turned = units[:, stored] * signs
    flips = [False] * n
    place = np.array(first, np.float64)
    for i, sign in zip(stored, signs, strict=True):
        if sign < 0:
            flips[i] = True
            place += matrix[:, i] * (shape[i] - 1)
    letters = "".join(_LETTERS[stored.index(i)] for i in range(n))
    reversed_axes = [w for w in range(n) if signs[w] < 0]
    notes = _changes(letters, reversed_axes, is_anatomical=is_anatomical)
    turn, shear = _nearest_rotation(turned), _shear(turned)
    if _angle(turn) <= shear <= _SMALL_SHEAR:  # the shear alone explains this rotation
        turn = np.eye(n)
    place = turn.T @ place
    rotation: tuple[float, ...] = ()
    warning = ""
    if shear > _SMALL_SHEAR:
        warning = _shear_warning(turned, shear)
    else:
        if not np.allclose(turn, np.eye(n), rtol=0, atol=_ROUNDING):
            rotation = tuple(turn.ravel().tolist()) if n == len(_LETTERS) else ()
            notes += (_rotation_note(turn),)
        if shear > _SLIGHT_SHEAR:
            notes += (
                "The axes in the file's header are not exactly perpendicular. The "
                f"shear of up to {shear:.2g}° is ignored.",
            )
    origin = {_LETTERS[w]: float(place[w]) for w in range(n)}
    return Orientation(
        letters, tuple(flips), origin, notes, rotation=rotation, warning=warning
    )


def _shear(turned: AnyArray) -> float:
    """Return the largest deviation from a right angle, in degrees.

    The axes are given as columns of unit length.
    """
    cosine = np.abs(turned.T @ turned - np.eye(len(turned))).max()
    return float(np.degrees(np.arcsin(min(1.0, float(cosine)))))


def _nearest_rotation(turned: AnyArray) -> AnyArray:
    """Return the rotation matrix closest to axes given as columns of unit length.

    The result is the identity matrix if the axes deviate from it only by rounding
    errors.
    """
    if np.allclose(turned, np.eye(len(turned)), rtol=0, atol=_ROUNDING):
        return np.eye(len(turned))
    left, _, right = np.linalg.svd(turned)
    return np.asarray(left @ right)


def _angle(rotation: AnyArray) -> float:
    """Return the angle of a rotation matrix, in degrees."""
    trace = np.trace(rotation)
    cosine = trace / 2 if len(rotation) == 2 else (trace - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _shear_warning(turned: AnyArray, shear: float) -> str:
    """Return a warning about sheared axes, given as columns of unit length."""
    excess = 100 * (1 / abs(float(np.linalg.det(turned))) - 1)
    return (
        "The axes in the file's header are not perpendicular (shear of up to "
        f"{shear:.2g}°). Their rotation (by {_angle(_nearest_rotation(turned)):.3g}°) "
        "and shear are neither applied nor recorded in results, so angles, distances "
        "and directions are distorted and volumes are too large by "
        f"{excess:.2g} %. Resample the volume to perpendicular axes."
    )


def _changes(
    letters: str, flipped: Sequence[int], *, is_anatomical: bool
) -> tuple[str, ...]:
    """Return notes on how the voxels are rearranged when the file is read."""
    changes = []
    if letters != _LETTERS[: len(letters)]:
        changes.append(f"axes stored in the order {', '.join(letters)}")
    if flipped:
        changes.append(f"{', '.join(_LETTERS[w] for w in flipped)} reversed")
    if not changes:
        return ()
    applied = f"The orientation in the file's header is applied ({'; '.join(changes)})"
    if not is_anatomical:
        return (f"{applied}.",)
    return (f"{applied}: X points to the right, Y to the front and Z up.",)


def _rotation_note(turn: AnyArray) -> str:
    return (
        f"The axes of the volume are rotated by {_angle(turn):.3g}° relative to X, Y "
        "and Z. The rotation in the file's header is not applied: positions refer to "
        "the rotated axes."
    )
