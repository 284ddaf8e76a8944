"""Geometry of a layer in terms of volumes: axes, voxel size and origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray, AnyMapping
from napari_geosr.core.units import (
    MILLIMETRES,
    PIXEL,
    convert_length,
    parse_unit,
    same_position,
    same_sizes,
)
from napari_geosr.core.volume import AXES, SPATIAL_AXES

if TYPE_CHECKING:
    from napari.layers import Layer

_DEFAULT_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
#: Maximum magnitude of off-diagonal elements, as a fraction of the largest voxel edge,
#: for axes that count as not rotated.
_NEGLIGIBLE = 1e-12
#: Differences between elements of two layers' transforms up to this value count as
#: rounding errors.
_SAME_TRANSFORM = 1e-4


@dataclass(frozen=True)
class LayerGeometry:
    """Axes and spatial position of a layer.

    Attributes
    ----------
    axes : str
        Letters of ``"TCZYX"``, one per axis of the layer.
    voxel_size, origin : tuple of float
        Voxel size and origin along the spatial axes, in `unit`. For a sheared layer,
        the voxel size consists of the distances between planes, rows and voxels, so
        that a voxel keeps its volume.
    unit : str
    affine : ndarray of shape (n + 1, n + 1)
        The remaining transform of n spatial axes: rotation, shear and mirroring,
        in `unit`. With this voxel size, origin and ``affine``, a layer is positioned
        correctly.
    """

    axes: str
    voxel_size: tuple[float, ...]
    origin: tuple[float, ...]
    unit: str
    affine: AnyArray

    @property
    def is_upright(self) -> bool:
        """Whether voxel size and origin describe the geometry completely."""
        return np.array_equal(self.affine, np.eye(len(self.affine)))


def geometry_of_layer(layer: Layer) -> LayerGeometry:
    """Return the geometry of a layer.

    Raises
    ------
    VolumeError
        If the layer does not have 2 to 5 axes.
    """
    attributes = {
        "name": layer.name,
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }
    return place_of(attributes, layer.ndim)


def is_turned(layer: Layer) -> bool:
    """Whether a layer is rotated, sheared or mirrored by more than rounding errors."""
    turn = geometry_of_layer(layer).affine[:-1, :-1]
    return bool(np.abs(turn - np.eye(len(turn))).max() > _SAME_TRANSFORM)


def is_rotated_against(layer: Layer, other: Layer) -> bool:
    """Whether a layer is rotated, sheared or mirrored relative to another one.

    Layers with different numbers of spatial axes cannot be compared and count as not
    rotated.
    """
    turns = [geometry_of_layer(each).affine[:-1, :-1] for each in (layer, other)]
    is_alike = turns[0].shape == turns[1].shape
    return is_alike and bool(np.abs(turns[0] - turns[1]).max() > _SAME_TRANSFORM)


def check_same_rotation(layer: Layer, other: Layer, fields: Sequence[str] = ()) -> None:
    """Raise `VolumeError` if a layer is rotated relative to another one.

    Shear and mirroring count as rotation. Volumes cannot be rotated, so comparing
    volumes does not reveal a rotation. Layers with different numbers of axes are not
    rejected here, but when their volumes are compared.

    Parameters
    ----------
    layer, other : Layer
    fields : sequence of str
        Fields that the error concerns.
    """
    if is_rotated_against(layer, other):
        raise VolumeError(
            f"{layer.name!r} and {other.name!r} are rotated, sheared or mirrored "
            "relative to each other, so their voxels do not coincide. Reset the "
            "rotation, shear and scale of the layers, or resample one of them to the "
            "grid of the other.",
            fields=fields,
        )


def check_same_transform(
    mask: Layer, scan: Layer, fields: Sequence[str] = (), *, what: str = "mask"
) -> None:
    """Raise `VolumeError` if mask and scan are not aligned with each other.

    The comparison of volumes does not cover rotation, shear and mirroring, nor, without
    a physical unit, voxel size and origin.

    Parameters
    ----------
    mask, scan : Layer
    fields : sequence of str
        Fields that the error concerns.
    what : str
        What `mask` is, for the message.
    """
    check_same_rotation(mask, scan, fields)
    one, other = geometry_of_layer(mask), geometry_of_layer(scan)
    if len(one.voxel_size) != len(other.voxel_size):
        return
    if {one.unit, other.unit} != {PIXEL} or (
        same_sizes(one.voxel_size, other.voxel_size)
        and same_position(one.origin, other.origin, other.voxel_size)
    ):
        return
    raise VolumeError(
        f"{mask.name!r} and {scan.name!r} have different scales or positions, so their "
        "voxels do not coincide. Give both layers the same scale and translation, or "
        f"crop or resample the {what} to the grid of the scan.",
        fields=fields,
    )


def origin_along(layer: Layer, other: Layer) -> tuple[float, ...]:
    """Return a layer's origin, in its own unit, along the axes of another layer.

    The origins of two layers differ along the axes of the world. If both have the same
    rotation, their voxels differ along the rotated axes.
    """
    mine, theirs = geometry_of_layer(layer), geometry_of_layer(other)
    is_alike = len(mine.origin) == len(theirs.origin)
    is_known = mine.unit == theirs.unit or PIXEL not in (mine.unit, theirs.unit)
    if not (is_alike and is_known and is_turned(other)):
        return mine.origin
    factor = 1.0
    if mine.unit != theirs.unit:
        factor = convert_length(1.0, theirs.unit, mine.unit)
    start = np.asarray(theirs.origin) * factor
    shift = np.linalg.solve(theirs.affine[:-1, :-1], mine.origin - start)
    return tuple(float(place) for place in start + shift)


def finest(layer: Layer) -> Any:
    """Return the layer's array; for a multiscale layer, the finest level."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def layer_type(layer: Layer) -> str:
    """Return "labels", "image" or "shapes"; empty for layers of other types."""
    from napari.layers import Image, Labels, Shapes

    kinds = (Labels, Image, Shapes)
    return next((k.__name__.lower() for k in kinds if isinstance(layer, k)), "")


def place_of(attributes: AnyMapping, ndim: int) -> LayerGeometry:
    """Return the geometry described by a layer's attributes (layer data tuple).

    Parameters
    ----------
    ndim : int
        Number of axes, not counting colour samples.

    Raises
    ------
    VolumeError
        If there are not 2 to 5 axes.
    """
    axes = axes_of(attributes, ndim)
    n = sum(letter in SPATIAL_AXES for letter in axes)
    matrix = _matrix(attributes, ndim)[-n - 1 :, -n - 1 :]
    units = _units(attributes.get("units"), ndim)[-n:]
    unit = units[-1]
    if all(u in MILLIMETRES for u in units):
        factors = [convert_length(1.0, u, unit) for u in units]
        matrix = np.diag([*factors, 1.0]) @ matrix
    elif len(set(units)) > 1:
        unit = PIXEL
    linear, origin = matrix[:-1, :-1], matrix[:-1, -1]
    size = np.diag(linear)
    affine = np.eye(n + 1)
    turned = np.abs(linear - np.diag(size)).max() > _NEGLIGIBLE * np.abs(size).max()
    if turned or size.min() <= 0:
        # The diagonal of the triangular matrix contains, from X to Z: the edge of a
        # voxel along X, the distance between rows, and the distance between planes.
        size = np.abs(np.diag(np.linalg.qr(linear[:, ::-1])[1]))[::-1]
        upright = np.diag([*size, 1.0])
        upright[:-1, -1] = origin
        affine = matrix @ np.linalg.inv(upright)
    return LayerGeometry(
        axes, tuple(map(float, size)), tuple(map(float, origin)), unit, affine
    )


def has_usable_axes(ndim: int) -> bool:
    """Whether layers with this number of axes can be used."""
    return ndim in _DEFAULT_AXES


def axes_of(attributes: AnyMapping, ndim: int) -> str:
    """Return the layer's axis letters: from its labels if valid, else the default."""
    labels = "".join(str(a).upper()[:1] for a in attributes.get("axis_labels") or ())
    ordered = "".join(letter for letter in AXES if letter in labels)
    if labels == ordered and len(labels) == ndim and labels.endswith("YX"):
        return labels
    if not has_usable_axes(ndim):
        name = attributes.get("name", "layer")
        raise VolumeError(
            f"Layer {name!r} has {ndim} axes; only images and volumes with 2 to 5 axes "
            "can be used."
        )
    return _DEFAULT_AXES[ndim]


def _matrix(attributes: AnyMapping, ndim: int) -> AnyArray:
    """Return the homogeneous matrix from voxels to world, in the layer's own units."""
    from napari.utils.transforms import Affine

    own = Affine(
        scale=_numbers(attributes.get("scale"), ndim, 1.0),
        translate=_numbers(attributes.get("translate"), ndim, 0.0),
        rotate=attributes.get("rotate"),
        shear=attributes.get("shear"),
        ndim=ndim,
    )
    matrix: AnyArray = np.asarray(own.affine_matrix, dtype=float)
    more = attributes.get("affine")
    if more is not None:
        more = np.asarray(getattr(more, "affine_matrix", more), dtype=float)
        more = Affine(affine_matrix=more, ndim=ndim).affine_matrix
        matrix = more @ matrix
    return matrix


def _numbers(values: Any, ndim: int, default: float) -> list[float]:
    if values is None:
        return [default] * ndim
    numbers = [float(v) for v in np.ravel(values)]
    return [default] * (ndim - len(numbers)) + numbers[-ndim:]


def _units(given: Any, ndim: int) -> list[str]:
    """Return the normalised unit of each axis; ``pixel`` if it is not a length."""
    if given is None or isinstance(given, str) or not hasattr(given, "__len__"):
        given = (given,) * ndim
    return [parse_unit(str(getattr(u, "units", u))) or PIXEL for u in given]
