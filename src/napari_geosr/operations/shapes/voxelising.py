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
from napari_geosr.core.units import shown_unit
from napari_geosr.core.volume import Volume
from napari_geosr.io.meshes import read_mesh
from napari_geosr.measure.shapes import check_surface
from napari_geosr.measure.shapes.surface import mesh_volume
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.shapes.config import VoxeliseConfig
from napari_geosr.operations.shapes.grids import (
    MeshGrid,
    check_choice,
    check_filled,
    format_edges,
    grid_around,
    placed,
)
from napari_geosr.physics.shapes import coarsened

#: Maximum number of voxels of a voxelised mesh, and memory needed per voxel, in bytes.
_MAX_VOXELS = 2**31
_BYTES_PER_FILLED_VOXEL = 3
#: Number of rays that are traced at a time.
_RAYS = 2**18
#: Largest relative difference between the volumes of voxels and mesh without a warning.
_MAX_DIFFERENCE = 0.05
#: Fraction of a mesh inside the volume of ``--like`` below which a warning is given.
_MIN_INSIDE = 0.01
#: Factor by which a voxel size is repeatedly increased until the number of voxels that
#: the mesh needs is permitted.
_WIDENING = 1.02
#: Maximum number of halvings of the voxel size in the search for a size at which the
#: voxels have the volume of the mesh.
_MAX_HALVINGS = 12
#: Maximum number of voxels during this search.
_MAX_TRIED = 2**25


@dataclass(frozen=True)
class VoxelisedMesh:
    """A voxelised mesh that was written.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        Number of voxels along Z, Y, X.
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
    like: Volume | None = None,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, VoxelisedMesh]:
    """Fill a closed mesh with voxels and write them as labels.

    Parameters
    ----------
    mesh, out : Path
    config : VoxeliseConfig
    like : Volume, optional
        The result has the voxels of this volume (Z, Y, X): their number, size, position
        and directions. Without it, `config` must contain a voxel size.
    overwrite : bool
    should_stop : callable

    Raises
    ------
    ConfigError
        If both a voxel size and `like` are given, or neither.
    FileError
        If the mesh cannot be read or is not closed, or `out` cannot be written.
    VolumeError
        If no voxel is inside the mesh, or there would be too many voxels.
    """
    check_choice(config, like)
    if mesh.expanduser().resolve() == out.expanduser().resolve():
        raise FileError(f"{out} is the input. Choose another name for the result.")
    if like is not None:
        check_not_source(like, out)
    io.check_output(out, overwrite)
    yield StageStarted(message=f"Reading {mesh.name}")
    vertices, faces, stated = read_mesh(mesh)
    places, grid, warnings = placed(mesh, vertices, stated, config, like)
    for warning in warnings:
        yield WarningIssued(message=warning)
    contents = provenance.checksum(mesh, should_stop)
    check = check_surface(faces)
    if not check.separates:
        raise FileError(
            f"{mesh.name} cannot be filled with voxels, because its surface is not "
            f"closed: {check.faults}. Repair it, for example in MeshLab."
        )
    _check_number(mesh, places, grid, config)
    filled = yield from _filled_steps(places, faces, grid, config.samples, should_stop)
    enclosed = abs(mesh_volume(places, faces))
    n_filled = int(np.count_nonzero(filled))
    volume = n_filled * math.prod(grid.size)
    if not n_filled:
        advice = "" if like else _advice(places, faces, grid, enclosed, should_stop)
        check_filled(n_filled, mesh, grid, config.samples, advice)
    if like and grid.beyond(places):
        if volume < _MIN_INSIDE * enclosed:
            hardly = (
                f"Hardly any of {mesh.name} is inside {grid.like}. Check the unit of "
                "the mesh (--unit) and its coordinate system."
            )
            if filled.all():
                raise VolumeError(hardly)
            yield WarningIssued(message=hardly)
    elif abs(volume - enclosed) > _MAX_DIFFERENCE * enclosed:
        yield WarningIssued(
            message="The volume of the filled voxels differs from that of the mesh by "
            f"{100 * (volume / enclosed - 1):+.1f} % ({volume:.4g} instead of "
            f"{enclosed:.4g} {shown_unit(grid.unit, grid.size)}³). The voxels are too "
            "large for its details, or parts of the mesh overlap: the volume of the "
            "mesh includes the overlap more than once."
        )
    record = yield from provenance.record_steps(
        "shapes voxelise",
        inputs={} if like is None else {"like": like},
        settings={"mesh": str(mesh), **config.model_dump(mode="json")},
        should_stop=should_stop,
    )
    file = {"name": mesh.name, "path": str(mesh.resolve()), "checksum": contents}
    record = {**record, "inputs": {"mesh": file, **record["inputs"]}}
    made = Volume(
        filled.view(np.uint8),
        "ZYX",
        grid.size,
        grid.unit,
        grid.origin,
        name=mesh.stem,
        provenance=(record,),
        metadata=grid.metadata,
    )
    path = io.write(
        made, out, overwrite=overwrite, kind="labels", should_stop=should_stop
    )
    unit = shown_unit(grid.unit, grid.size)
    return VoxelisedMesh(path, made.shape, n_filled, volume, float(enclosed), unit)


def _check_number(
    mesh: Path, vertices: AnyArray, grid: MeshGrid, config: VoxeliseConfig
) -> None:
    """Raise `VolumeError` if there would be too many voxels."""
    per_voxel = _BYTES_PER_FILLED_VOXEL * config.samples**3
    needed, free = per_voxel * grid.n_voxels, free_host_memory()
    if grid.n_voxels <= _MAX_VOXELS and needed <= free:
        return
    limit = max(1, min(_MAX_VOXELS, free // per_voxel))
    shown = f"{mesh.name} would have {' × '.join(map(str, grid.shape))} voxels"
    why = (
        f"at most {_MAX_VOXELS:,} are possible"
        if grid.n_voxels > _MAX_VOXELS
        else f"which need {format_enough(needed)} ({format_available(free)} is free)"
    )
    if grid.like:
        advice = f"Crop {grid.like}."
    else:
        size: AnyArray = np.asarray(grid.size)
        advice = _advice_on_number(vertices, size, config.margin, limit)
    if config.samples > 1:
        advice = f"{advice.rstrip('.')}, or use fewer sampling points (--samples)."
    raise VolumeError(f"{shown}, {why}. {advice}")


def _advice_on_number(
    vertices: AnyArray, size: AnyArray, margin: int, limit: int
) -> str:
    """Return advice on a voxel size with which at most `limit` voxels are needed."""
    wider, extent = size, np.ptp(vertices, axis=0)
    while math.prod(grid_around(vertices, wider, margin)[0]) > limit:
        if (wider >= extent).all():
            return "No voxel size is large enough; choose a smaller margin (--margin)."
        wider = wider * _WIDENING
    edges = format_edges(_WIDENING * wider)
    size_advice = f"Choose a larger voxel size, such as --voxel-size {edges}"
    if math.prod(grid_around(vertices, size)[0]) <= limit:
        return f"{size_advice}, or a smaller margin (--margin)."
    return f"{size_advice}."


def _advice(
    vertices: AnyArray,
    faces: AnyArray,
    grid: MeshGrid,
    enclosed: float,
    should_stop: ShouldStop,
) -> str:
    """Return advice on a voxel size that preserves the volume of a mesh."""
    size: AnyArray = np.asarray(grid.size)
    for _ in range(_MAX_HALVINGS):
        size = size / 2
        shape, origin = grid_around(vertices, size)
        if math.prod(shape) > _MAX_TRIED:
            break
        filled = run_to_end(
            _fill_steps((vertices - origin) / size, faces, shape, should_stop)
        )
        volume = np.count_nonzero(filled) * np.prod(size)
        if abs(volume - enclosed) <= _MAX_DIFFERENCE * enclosed:
            edges = format_edges(size)
            return f"Choose a smaller voxel size, such as --voxel-size {edges}."
    return "Choose a smaller voxel size (--voxel-size)."


def _filled_steps(
    vertices: AnyArray,
    faces: AnyArray,
    grid: MeshGrid,
    samples: int,
    should_stop: ShouldStop,
) -> Generator[Step, None, AnyArray]:
    """Return the voxels of a grid that are inside a closed mesh, as a mask."""
    fine = grid.divided(samples)
    filled: AnyArray = yield from _fill_steps(
        (vertices - fine.origin) / fine.size, faces, fine.shape, should_stop
    )
    return filled if samples == 1 else coarsened(filled, samples)


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
        Number of voxels along Z, Y, X.
    should_stop : callable
    """
    # Rays through edges would be counted twice, so shift the mesh by a tiny distance.
    corners = (vertices + np.array([0, 1.234e-5, 2.718e-5]))[faces]
    last = np.asarray(shape[1:]) - 1
    low = np.maximum(np.ceil(corners[..., 1:].min(1)), 0).astype(np.int64)
    high = np.minimum(np.floor(corners[..., 1:].max(1)), last).astype(np.int64)
    count = high + 1 - low
    count = np.maximum(count, 0)
    triangle, row = _numbered(count[:, 0])
    row += low[triangle, 0]
    ends = np.cumsum(count[triangle, 1])  # number of rays up to and including each row
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
    """Return group and item numbers: 0 0 0 1 1 and 0 1 2 0 1 for groups of 3 and 2."""
    index = np.repeat(np.arange(len(counts)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return index, np.arange(len(index)) - first


def _heights(
    corners: AnyArray, y: AnyArray, x: AnyArray
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Intersect rays along Z through (y, x) with the planes of triangles.

    Returns Z positions and directions of the crossings, and whether each of them is
    inside the triangle.
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
