"""Grids of voxels for meshes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.orientation import (
    LPS,
    orientation_entry,
    orientation_of,
    rotation_of,
    same_orientation,
)
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.io.meshes import stated_space
from napari_geosr.operations.shapes.config import VoxeliseConfig
from napari_geosr.operations.shapes.masks import check_axes

#: Name of the unit "in" in sentences.
_INCHES = "inches"
#: Half a turn about Z, for positions along X, Y and Z: RAS ↔ LPS.
_HALF_TURN = np.array([-1.0, -1.0, 1.0])
#: Fraction of a voxel by which a mesh may extend beyond a volume without a warning.
_TOLERATED = 0.5


@dataclass(frozen=True)
class MeshGrid:
    """A grid of voxels to be filled, with positions along Z, Y, X.

    Attributes
    ----------
    shape : tuple of int
    size : tuple of float
        Edges of a voxel.
    unit : str
    origin : tuple of float
        Centre of the first voxel.
    metadata : dict
        Directions of the axes.
    like : str
        Title of the volume that has this grid; empty for a grid around a mesh.
    """

    shape: tuple[int, ...]
    size: tuple[float, ...]
    unit: str
    origin: tuple[float, ...]
    metadata: AnyDict
    like: str = ""

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    def divided(self, n: int) -> MeshGrid:
        """Return the grid of the same extent with `n` times as many voxels per axis."""
        size = tuple(edge / n for edge in self.size)
        origin = tuple(
            place - 0.5 * edge + 0.5 * small
            for place, edge, small in zip(self.origin, self.size, size, strict=True)
        )
        shape = tuple(n * count for count in self.shape)
        return MeshGrid(shape, size, self.unit, origin, self.metadata, self.like)

    def beyond(self, vertices: AnyArray) -> str:
        """Return a warning if vertices (Z, Y, X) are outside the grid; else ""."""
        index = (vertices - self.origin) / self.size
        below = -0.5 - index.min(0)
        above = index.max(0) - np.asarray(self.shape) + 0.5
        out = np.maximum(below, above)
        lengths = [
            f"{math.ceil(n)} along {axis}"
            for n, axis in zip(out.tolist(), "ZYX", strict=True)
            if n > _TOLERATED
        ]
        if not lengths:
            return ""
        return (
            f"The mesh extends beyond {self.like} (voxels: {', '.join(lengths)}), so "
            "the shape is cut off there. If they should fit, check the unit of the "
            "mesh (--unit) and the position of the volume."
        )


def check_choice(config: VoxeliseConfig, like: Volume | None) -> None:
    """Check that either a voxel size or a volume determines the grid.

    Raises
    ------
    ConfigError
        If both are given or neither is, or if a margin is given with a volume.
    VolumeError
        If the volume does not have the axes Z, Y, X.
    """
    if like is None:
        if config.voxel_size is None:
            raise ConfigError(
                "The voxel size of the result is unknown. Give it (--voxel-size), or a "
                "volume with the voxel grid to use (--like)."
            )
        return
    if config.voxel_size is not None:
        raise ConfigError(
            f"Give either --voxel-size or --like: {like.title} determines the voxel "
            "size."
        )
    if "margin" in config.model_fields_set:
        raise ConfigError(
            f"--margin cannot be used with --like: {like.title} determines the region."
        )
    check_axes(like, "a mesh needs the voxels of a volume (Z, Y, X)")


def grid_around(
    vertices: AnyArray, size: AnyArray, margin: int = 1
) -> tuple[list[int], AnyArray]:
    """Return the shape (Z, Y, X) of a grid around a mesh, and its origin.

    Raises
    ------
    VolumeError
        If the voxels are so small that their number exceeds the range of floats.
    """
    low, high = vertices.min(0), vertices.max(0)
    with np.errstate(over="ignore"):
        counts = ((high - low) / size).tolist()
    if not all(map(math.isfinite, counts)):
        raise VolumeError(
            f"Voxels of {format_edges(size)} are too small for the mesh. Choose a "
            "larger voxel size (--voxel-size)."
        )
    # Use Python integers, which do not overflow.
    return [math.ceil(n) + 2 * margin for n in counts], low + (0.5 - margin) * size


def placed(
    mesh: Path,
    vertices: AnyArray,
    stated: str,
    config: VoxeliseConfig,
    like: Volume | None,
) -> tuple[AnyArray, MeshGrid, list[str]]:
    """Return the vertices of a mesh on a grid of voxels.

    Parameters
    ----------
    mesh : Path
    vertices : ndarray, shape (N, 3)
        Positions along X, Y, Z.
    stated : str
        Unit that the file states; may be empty.
    config : VoxeliseConfig
    like : Volume or None
        Volume that has the grid; None for a grid around the mesh.

    Returns
    -------
    vertices : ndarray, shape (N, 3)
        Positions along the axes of the grid (Z, Y, X), in its unit.
    grid : MeshGrid
    warnings : list of str
    """
    warnings = []
    if like is None:
        if stated and stated != config.unit and config.unit != PIXEL:
            vertices = vertices * convert_length(1.0, stated, config.unit)
            warnings.append(_other_unit(mesh, stated, config))
        places = vertices[:, ::-1]
        assert config.voxel_size is not None
        size: AnyArray = np.asarray(config.voxel_size)
        shape, origin = grid_around(places, size, config.margin)
        space, is_oblique = stated_space(mesh)
        grid = MeshGrid(
            tuple(shape),
            config.voxel_size,
            config.unit,
            tuple(origin.tolist()),
            orientation_entry("" if is_oblique else space),
        )
        return places, grid, warnings
    if like.has_physical_size:
        if not stated and config.unit == PIXEL:
            raise ConfigError("Give the unit of the mesh (--unit), such as mm.")
        vertices = vertices * convert_length(1.0, stated or config.unit, like.unit)
    elif stated or "unit" in config.model_fields_set:
        warnings.append(
            f"The unit of the voxels of {like.title} is unknown, so the positions in "
            f"{mesh.name} were not converted."
        )
    vertices, note = _along_axes(mesh, vertices, like)
    grid = MeshGrid(
        like.shape,
        like.voxel_size,
        like.unit,
        like.origin,
        same_orientation(like.metadata),
        like.title,
    )
    places = vertices[:, ::-1]
    return places, grid, [*warnings, *filter(None, (note, grid.beyond(places)))]


def _along_axes(mesh: Path, vertices: AnyArray, like: Volume) -> tuple[AnyArray, str]:
    """Rotate a mesh's positions to a volume's axes, if the directions are known.

    Also return a note on the rotation; empty if there is nothing to report.
    """
    (stated, is_oblique), known = stated_space(mesh), orientation_of(like.metadata)
    elements = rotation_of(like.metadata)
    if is_oblique:
        return vertices, _of_oblique(mesh, like)
    if not stated and elements:
        return vertices, (
            f"{mesh.name} does not state its coordinate system. Its positions were "
            f"taken to be along the axes of {like.title}, which are oblique. If they "
            "are scanner coordinates, the mesh is misplaced; use a mesh whose header "
            "states them, such as one exported by 3D Slicer."
        )
    if not (stated and known):
        return vertices, ""
    if stated == known and not elements:
        return vertices, ""
    if stated == LPS:
        vertices = vertices * _HALF_TURN
    if elements:
        vertices = vertices @ np.reshape(elements, (3, 3))  # apply the inverse rotation
    if known == LPS:
        vertices = vertices * _HALF_TURN
    axes = f"axes of {like.title}, which are oblique" if elements else f"{known} axes"
    return vertices, (
        f"{mesh.name} states that its positions are in {stated} coordinates. The mesh "
        f"was rotated to the {axes}."
    )


def _of_oblique(mesh: Path, like: Volume) -> str:
    """Return a warning that the axes of a mesh are those of an oblique volume.

    Raises
    ------
    VolumeError
        If the axes of `like` are known and not oblique.
    """
    stated = f"{mesh.name} states that its positions are along the axes of an oblique "
    if orientation_of(like.metadata) and not rotation_of(like.metadata):
        raise VolumeError(
            f"{stated}volume, but {like.title} is not oblique. Choose the volume that "
            "the mesh was made from (--like)."
        )
    return (
        f"{stated}volume, which is not named. The result is correct only if "
        f"{like.title} is this volume or has the same rotation."
    )


def _other_unit(mesh: Path, stated: str, config: VoxeliseConfig) -> str:
    """Return a note that the unit stated in a mesh is not that of the voxel size."""
    old, new = (_INCHES if unit == "in" else unit for unit in (stated, config.unit))
    sentence = (
        f"{mesh.name} states that its positions are in {old}; they were converted to "
        f"{new}."
    )
    if "unit" in config.model_fields_set:
        sentence += f" The unit {new} applies to the voxel size only."
    return sentence


def check_filled(
    n_filled: int, mesh: Path, grid: MeshGrid, samples: int, advice: str
) -> None:
    """Raise `VolumeError` if no voxel is filled.

    With several `samples` per voxel and axis, a voxel is filled if at least half of
    them are inside. For a grid around the mesh, the message ends with `advice`.
    """
    if n_filled:
        return
    is_inside = "has its centre inside"
    if samples > 1:
        is_inside = f"has at least half of its {samples**3} sampling points inside"
    edges = format_edges(grid.size)
    if grid.like:
        raise VolumeError(
            f"No voxel of {grid.like} ({edges} {grid.unit}) {is_inside} "
            f"{mesh.name}: the mesh lies elsewhere, or is too small or thin. Check the "
            "unit of the mesh (--unit), and that the mesh shows the same region as the "
            "volume."
        )
    raise VolumeError(
        f"{mesh.name} is so small or thin that no voxel of {edges} "
        f"{grid.unit} {is_inside} it. {advice}"
    )


def format_edges(size: tuple[float, ...] | AnyArray) -> str:
    """Format a voxel size for the command line: one number if its edges are equal.

    Examples
    --------
    >>> format_edges((0.5, 0.5, 0.5)), format_edges((2.0, 0.5, 0.5))
    ('0.5', '2,0.5,0.5')
    """
    numbers = [f"{edge:.3g}" for edge in size]
    return numbers[0] if len(set(numbers)) == 1 else ",".join(numbers)
