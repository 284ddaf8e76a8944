"""Converts meshes to shapes."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.config import format_available, format_enough
from napari_geosr.core.errors import (
    Cancelled,
    FileError,
    VolumeError,
)
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.orientation import orientation_entry
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.io.meshes import read_mesh, stated_space
from napari_geosr.measure.shapes import (
    check_surface,
)
from napari_geosr.measure.shapes.surface import mesh_volume
from napari_geosr.operations.shapes.config import VoxeliseConfig

#: Maximum number of voxels of a voxelised mesh, and memory per voxel in bytes.
_MAX_VOXELS = 2**31
_BYTES_PER_FILLED_VOXEL = 3
#: Number of rays that are traced at a time.
_RAYS = 2**18
#: Largest relative difference between the volumes of voxels and mesh without a warning.
_MAX_DIFFERENCE = 0.05
#: Factor of each increase of the suggested voxel size, until the voxels are few enough.
_WIDENING = 1.02
#: Maximum number of times that the voxel size is halved to suit a mesh.
_MAX_HALVINGS = 12
#: Maximum number of voxels during this search.
_MAX_TRIED = 2**25

#: The unit "in" within a sentence.
_INCHES = "inches"


@dataclass(frozen=True)
class VoxelisedMesh:
    """A voxelised mesh that was written.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        Voxels along Z, Y, X.
    n_voxels : int
        Number of voxels inside the mesh.
    volume, mesh_volume : float
        Volume of these voxels and of the mesh, in `unit` cubed.
    unit : str
    """

    path: Path
    shape: tuple[int, ...]
    n_voxels: int
    volume: float
    mesh_volume: float
    unit: str

    def to_dict(self) -> AnyDict:
        """Return all values by name, for JSON."""
        return {
            "file": str(self.path),
            "shape": self.shape,
            "voxels": self.n_voxels,
            "volume": self.volume,
            "mesh_volume": self.mesh_volume,
            "unit": self.unit,
        }


def voxelise_steps(
    mesh: Path,
    out: Path,
    config: VoxeliseConfig,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, VoxelisedMesh]:
    """Fill a closed mesh with voxels and write them as labels.

    Raises
    ------
    FileError
        If the mesh cannot be read or is not closed, or `out` cannot be written.
    VolumeError
        If there would be no voxel inside the mesh, or too many voxels.
    """
    if mesh.expanduser().resolve() == out.expanduser().resolve():
        raise FileError(f"{out} is the input. Choose another name for the result.")
    io.check_output(out, overwrite)
    yield StageStarted(message=f"Reading {mesh.name}")
    vertices, faces, stated = read_mesh(mesh)
    if stated and stated != config.unit and config.unit != PIXEL:
        vertices = vertices * convert_length(1.0, stated, config.unit)
        yield WarningIssued(message=_other_unit(mesh, stated, config))
    contents = provenance.checksum(mesh, should_stop)
    check = check_surface(faces)
    if not check.is_watertight:
        raise FileError(
            f"{mesh.name} cannot be filled with voxels. {check.sentence.rstrip('.')}."
        )
    places, size = vertices[:, ::-1], np.asarray(config.voxel_size)
    _check_number(mesh, places, config)
    filled, origin = yield from _filled_steps(
        places, faces, size, should_stop, config.margin
    )
    enclosed = abs(mesh_volume(places, faces))
    n_filled = int(np.count_nonzero(filled))
    volume = n_filled * float(np.prod(size))
    if not n_filled:
        advice = _advice(places, faces, size, enclosed, should_stop)
        raise VolumeError(
            f"{mesh.name} is so small or thin that no voxel of {_edges(size)} "
            f"{config.unit} has its centre inside it. {advice}"
        )
    if abs(volume - enclosed) > _MAX_DIFFERENCE * enclosed:
        yield WarningIssued(
            message="The volume of the voxels differs from that of the mesh by "
            f"{100 * (volume / enclosed - 1):+.1f} % ({volume:.4g} instead of "
            f"{enclosed:.4g} {config.unit}³). The voxels are too large for its "
            "details, or parts of the mesh overlap: the volume of the mesh includes "
            "the overlap more than once."
        )
    record = provenance.record(
        "shapes voxelise",
        inputs={},
        settings={"mesh": str(mesh), **config.model_dump(mode="json")},
    )
    file = {"name": mesh.name, "path": str(mesh.resolve()), "checksum": contents}
    record = {**record, "inputs": {"mesh": file}}
    made = Volume(
        filled.view(np.uint8),
        "ZYX",
        config.voxel_size,
        config.unit,
        tuple(origin.tolist()),
        name=mesh.stem,
        provenance=(record,),
        metadata=orientation_entry(stated_space(mesh)),
    )
    path = io.write(
        made, out, overwrite=overwrite, kind="labels", should_stop=should_stop
    )
    return VoxelisedMesh(
        path, made.shape, n_filled, volume, float(enclosed), config.unit
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


def _grid_of(
    vertices: AnyArray, size: AnyArray, margin: int = 1
) -> tuple[list[int], AnyArray]:
    """Return the shape (Z, Y, X) of a grid around a mesh, and its origin."""
    low, high = vertices.min(0), vertices.max(0)
    shape = np.ceil((high - low) / size).astype(int) + 2 * margin
    return shape.tolist(), low + (0.5 - margin) * size


def _check_number(mesh: Path, vertices: AnyArray, config: VoxeliseConfig) -> None:
    """Raise `VolumeError` if there would be too many voxels."""
    size = np.asarray(config.voxel_size)
    shape, _ = _grid_of(vertices, size, config.margin)
    n_voxels = math.prod(shape)
    needed, free = _BYTES_PER_FILLED_VOXEL * n_voxels, free_host_memory()
    if n_voxels <= _MAX_VOXELS and needed <= free:
        return
    limit = max(1, min(_MAX_VOXELS, free // _BYTES_PER_FILLED_VOXEL))
    shown = f"{mesh.name} would have {' × '.join(map(str, shape))} voxels"
    why = (
        f"at most {_MAX_VOXELS:,} are possible"
        if n_voxels > _MAX_VOXELS
        else f"which need {format_enough(needed)} ({format_available(free)} is free)"
    )
    advice = _advice_on_number(vertices, size, config.margin, limit)
    raise VolumeError(f"{shown}, {why}. {advice}")


def _advice_on_number(
    vertices: AnyArray, size: AnyArray, margin: int, limit: int
) -> str:
    """Return advice on a voxel size with which at most `limit` voxels are needed."""
    wider, extent = size, np.ptp(vertices, axis=0)
    while math.prod(_grid_of(vertices, wider, margin)[0]) > limit:
        if (wider >= extent).all():
            return "No voxel size suffices; choose a smaller margin (--margin)."
        wider = wider * _WIDENING
    size_advice = (
        f"Choose a larger voxel size, such as --voxel-size {_edges(_WIDENING * wider)}"
    )
    if math.prod(_grid_of(vertices, size)[0]) <= limit:
        return f"{size_advice}, or a smaller margin (--margin)."
    return f"{size_advice}."


def _advice(
    vertices: AnyArray,
    faces: AnyArray,
    size: AnyArray,
    enclosed: float,
    should_stop: ShouldStop,
) -> str:
    """Return advice on a voxel size that preserves the volume of a mesh."""
    for _ in range(_MAX_HALVINGS):
        size = size / 2
        if math.prod(_grid_of(vertices, size)[0]) > _MAX_TRIED:
            break
        filled, _ = run_to_end(_filled_steps(vertices, faces, size, should_stop))
        volume = np.count_nonzero(filled) * np.prod(size)
        if abs(volume - enclosed) <= _MAX_DIFFERENCE * enclosed:
            return f"Choose a smaller voxel size, such as --voxel-size {_edges(size)}."
    return "Choose a smaller voxel size (--voxel-size)."


def _edges(size: AnyArray) -> str:
    """Format a voxel size for the command line: one number if its edges are equal."""
    numbers = [f"{edge:.3g}" for edge in size]
    return numbers[0] if len(set(numbers)) == 1 else ",".join(numbers)


def _filled_steps(
    vertices: AnyArray,
    faces: AnyArray,
    size: AnyArray,
    should_stop: ShouldStop,
    margin: int = 1,
) -> Generator[Step, None, tuple[AnyArray, AnyArray]]:
    """Return the voxels inside a closed mesh as a mask, and the mask's origin."""
    shape, origin = _grid_of(vertices, size, margin)
    filled = yield from _fill_steps(
        (vertices - origin) / size, faces, shape, should_stop
    )
    return filled, origin


def _fill_steps(
    vertices: AnyArray, faces: AnyArray, shape: Sequence[int], should_stop: ShouldStop
) -> Generator[Step, None, AnyArray]:
    """Fill the voxels whose centres are inside a closed surface.

    A ray along Z through the centre of each column enters and leaves the surface. A
    voxel is inside if the numbers of entries and exits below it differ, so that
    overlapping parts are merged and cavities, whose triangles face inwards, stay empty.

    Parameters
    ----------
    vertices : ndarray of float64, shape (N, 3)
        Z, Y, X in voxels; centres of voxels are whole numbers.
    faces : ndarray of int, shape (M, 3)
    shape : sequence of int
        Voxels along Z, Y, X.
    should_stop : callable
    """
    # Rays through edges would be counted twice, so shift the mesh by a tiny distance.
    corners = (vertices + np.array([0, 1.234e-5, 2.718e-5]))[faces]
    low = np.ceil(corners[..., 1:].min(1)).astype(np.int64)
    count = np.floor(corners[..., 1:].max(1)).astype(np.int64) + 1 - low
    count = np.maximum(count, 0)
    triangle, row = _numbered(count[:, 0])
    row += low[triangle, 0]
    ends = np.cumsum(count[triangle, 1])  # cumulative number of rays over the rows
    limits = np.arange(_RAYS, ends.max(initial=0) + _RAYS, _RAYS)
    cuts = np.unique([0, *np.searchsorted(ends, limits), len(ends)])
    crossings = np.zeros((shape[0] + 1, *shape[1:]), np.int8)
    yield StageStarted(
        message=f"Filling {' × '.join(map(str, shape))} voxels", total=len(cuts) - 1
    )
    for i, (start, stop) in enumerate(pairwise(cuts.tolist()), 1):
        if should_stop():
            raise Cancelled("Stopped; no file was written.")
        kept, column = _numbered(count[triangle[start:stop], 1])
        chosen, y = triangle[start:stop][kept], row[start:stop][kept]
        x = low[chosen, 1] + column
        height, sign, hit = _heights(corners[chosen], y, x)
        z = np.clip(np.ceil(height[hit]).astype(np.int64), 0, shape[0])
        np.add.at(crossings, (z, y[hit], x[hit]), sign[hit])
        yield BlockDone(i, len(cuts) - 1)
    around = np.zeros(crossings.shape[1:], np.int32)
    filled: AnyArray = crossings.view(bool)
    for counts, plane in zip(crossings, filled, strict=True):
        around += counts
        plane[:] = around != 0
    return filled[:-1]


def _numbered(counts: AnyArray) -> tuple[AnyArray, AnyArray]:
    """For counts 3, 2, …, return the arrays ``0 0 0 1 1 …`` and ``0 1 2 0 1 …``."""
    index = np.repeat(np.arange(len(counts)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return index, np.arange(len(index)) - first


def _heights(
    corners: AnyArray, y: AnyArray, x: AnyArray
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Intersect rays along Z through (y, x) with the planes of triangles.

    Returns the Z positions, the directions of the crossings, and which rays hit.
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    along, across = b - a, c - a
    area = along[:, 1] * across[:, 2] - along[:, 2] * across[:, 1]
    flat = area == 0
    area[flat] = 1.0
    u = ((y - a[:, 1]) * across[:, 2] - (x - a[:, 2]) * across[:, 1]) / area
    v = (along[:, 1] * (x - a[:, 2]) - along[:, 2] * (y - a[:, 1])) / area
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & ~flat
    sign = np.sign(area).astype(np.int8)
    return a[:, 0] + u * along[:, 0] + v * across[:, 0], sign, hit
