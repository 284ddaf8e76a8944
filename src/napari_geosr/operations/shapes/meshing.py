"""Converts shapes to meshes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_geosr.core.interruption import check_stop, interruptible
from napari_geosr.core.orientation import LPS, RAS, orientation_of, rotation_of
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.units import VOXEL, convert_length, shown_unit
from napari_geosr.core.volume import Volume
from napari_geosr.io.meshes import (
    FLOAT32_SUFFIXES,
    MESH_UNIT,
    check_mesh_path,
    check_simplification,
    simplified,
    stored_positions,
    write_mesh,
)
from napari_geosr.measure.shapes import (
    SurfaceCheck,
    SurfaceMatch,
    SurfaceMesh,
    check_surface,
    extract_surface,
    match_surface,
    merged_surface,
)
from napari_geosr.measure.shapes.surface import is_rounded, mesh_volume
from napari_geosr.operations.shapes.config import MeshConfig
from napari_geosr.operations.shapes.masks import read_shape_steps
from napari_geosr.operations.shapes.memory import check_surface_memory

#: Largest relative difference between the volumes of mesh and voxels without a warning.
_MAX_DIFFERENCE = 0.01
#: Directions of X, Y and Z in words, by orientation.
_COORDINATES = {
    RAS: "RAS coordinates (X to the right, Y to the front, Z up)",
    LPS: "LPS coordinates (X to the left, Y to the back, Z up)",
}


@dataclass(frozen=True)
class MeshResult:
    """A mesh that was written.

    Attributes
    ----------
    path : Path
    n_faces : int
        Number of triangles.
    volume, voxel_volume : float
        Volume of the mesh and of the voxels, in `unit` cubed.
    unit : str
        Unit of the positions in the file: ``"mm"``; ``"unit"`` if the unit of the voxel
        size is unknown, and ``"voxel"`` if there is no voxel size.
    space : str
        Directions of X, Y and Z (`napari_geosr.core.orientation`); empty if unknown.
    is_oblique : bool
        Whether the axes of the volume are rotated relative to these directions.
    check : SurfaceCheck
        Whether the surface is closed.
    match : SurfaceMatch
        Whether the surface shows all parts of the shape.
    rounding : str
        Sentence on the harm that rounding positions to float32 does to the surface;
        empty if it does none.
    is_simplified : bool
        Whether the number of triangles was reduced.
    """

    path: Path
    n_faces: int
    volume: float
    voxel_volume: float
    unit: str
    space: str
    is_oblique: bool
    check: SurfaceCheck
    match: SurfaceMatch
    rounding: str = ""
    is_simplified: bool = False

    @property
    def is_rounded(self) -> bool:
        """Whether rounding to float32 distorts the surface or makes it touch itself."""
        return bool(self.rounding)

    @property
    def is_watertight(self) -> bool:
        """Whether the surface is closed."""
        return self.check.is_watertight

    @property
    def unit_in_words(self) -> str:
        """The unit of the positions, for a sentence: mm, voxels or an unknown unit."""
        return {"unit": "an unknown unit", VOXEL: "voxels"}.get(self.unit, self.unit)

    @property
    def coordinates(self) -> str:
        """Sentence on the directions of X, Y and Z in the file."""
        if self.space not in _COORDINATES:
            return (
                "The directions of X, Y and Z are unknown; 3D Slicer assumes "
                "left, back and up (LPS)."
            )
        sentence = f"Positions are in {_COORDINATES[self.space]}"
        if self.is_oblique:
            return (
                f"{sentence} along the axes of the volume, not in scanner coordinates."
            )
        if self.space == LPS:
            return f"{sentence}, as 3D Slicer assumes."
        if self.path.suffix.lower() != ".3mf":
            return f"{sentence}. The file states this for 3D Slicer."
        return f"{sentence}. Choose RAS when you open the file in 3D Slicer."

    @property
    def sentences(self) -> tuple[str, ...]:
        """Sentences on whether the surface is closed, complete and precise."""
        return (*self.statements, *self.warnings)

    @property
    def statements(self) -> tuple[str, ...]:
        """Sentences other than warnings: on a closed surface and unsmoothed parts."""
        closed = (self.check.sentence,) if self.is_watertight else ()
        return (*closed, *self.match.statements)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what is wrong with the surface."""
        opened = () if self.is_watertight else (self.check.sentence,)
        found = (
            *opened,
            *self.match.warnings,
            self.rounding,
            self._volume_warning,
            self._unit_warning,
        )
        return tuple(filter(None, found))

    @property
    def _unit_warning(self) -> str:
        """Warning if the file states a unit that the positions do not have."""
        if self.unit == MESH_UNIT or self.path.suffix.lower() != ".3mf":
            return ""
        return (
            f"A 3MF file always states millimetres, but its positions are in "
            f"{self.unit_in_words}, because the voxel size is not known in a unit of "
            "length. Give the voxel size and its unit, or write an STL, PLY or OBJ "
            "file, which states no unit."
        )

    @property
    def _volume_warning(self) -> str:
        """Warning if the volumes of mesh and voxels differ noticeably; else empty."""
        change = self.volume / self.voxel_volume - 1
        if abs(change) <= _MAX_DIFFERENCE:
            return ""
        warning = (
            f"The volume of the mesh differs from that of the voxels by "
            f"{100 * change:+.2f} %"
        )
        if not self.is_simplified:
            return f"{warning}."
        return (
            f"{warning}: {self.n_faces:,} triangles are too few for this shape. Choose "
            "a larger number (--faces), or keep all triangles."
        )

    def to_dict(self) -> AnyDict:
        """Return all values by name, for JSON."""
        return {
            "file": str(self.path),
            "faces": self.n_faces,
            "volume": self.volume,
            "voxel_volume": self.voxel_volume,
            "unit": self.unit,
            "coordinates": self.space or None,
            "is_oblique": self.is_oblique,
            "watertight": self.is_watertight,
            **self.match.to_dict(),
        }


def mesh_steps(
    volume: Volume,
    out: Path,
    config: MeshConfig,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, MeshResult]:
    """Write the surface of the shape in `volume` as a mesh, in mm if possible.

    Raises
    ------
    GeoSRError
        If the operation fails; nothing is written.
    """
    check_mesh_path(out, overwrite=overwrite)
    if config.faces is not None:
        check_simplification()
    inside = yield from read_shape_steps(volume, config.label, should_stop)
    check_surface_memory(inside, config.faces)
    yield StageStarted(message="Extracting the surface")
    with interruptible(should_stop):
        return write_surface(inside, volume, out, config, overwrite=overwrite)


def write_surface(
    inside: AnyArray,
    like: Volume,
    out: Path,
    config: MeshConfig,
    *,
    overwrite: bool = False,
) -> MeshResult:
    """Write the surface of a mask on the grid of the volume `like`."""
    place = like.voxel_size, like.unit, like.origin
    mesh = extract_surface(inside, *place, config.smoothing)
    count = int(np.count_nonzero(inside))
    return write_extracted(mesh, count, like, out, config, overwrite=overwrite)


def write_extracted(
    mesh: SurfaceMesh,
    n_voxels: int,
    like: Volume,
    out: Path,
    config: MeshConfig,
    *,
    overwrite: bool = False,
) -> MeshResult:
    """Write a surface in the unit of the volume `like`, in mm if possible.

    Parameters
    ----------
    mesh : SurfaceMesh
    n_voxels : int
        Number of voxels that belong to the shape.
    like : Volume
    out : Path
    config : MeshConfig
        Settings of the mesh; the smoothing is ignored.
    overwrite : bool
    """
    unit, scale = shown_unit(like.unit, like.voxel_size), 1.0
    space, rotation = orientation_of(like.metadata), rotation_of(like.metadata)
    if like.has_physical_size:
        unit, scale = MESH_UNIT, convert_length(1.0, like.unit, MESH_UNIT)
    size = [scale * edge for edge in like.voxel_size]
    origin = [scale * place for place in like.origin]
    vertices = scale * mesh.vertices[:, ::-1].astype(np.float64)
    faces, match = mesh.faces, mesh.match
    if config.faces is not None and config.faces < len(faces):
        check_stop()
        vertices, faces = simplified(vertices, faces, config.faces)
        check_stop()
        now = match_surface(vertices[:, ::-1], faces, match.voxels, size, origin)
        match = replace(now, n_lost=match.n_lost, sharp=match.sharp)
    check_stop()
    stored, stored_faces = merged_surface(stored_positions(out, vertices), faces)
    check_stop()
    check = check_surface(stored_faces)
    write_mesh(
        out,
        stored,
        stored_faces,
        space=space,
        is_oblique=bool(rotation),
        overwrite=overwrite,
    )
    return MeshResult(
        path=out,
        n_faces=len(stored_faces),
        volume=mesh_volume(vertices[:, ::-1], faces),
        voxel_volume=n_voxels * float(np.prod(size)),
        unit=unit,
        space=space,
        is_oblique=bool(rotation),
        check=check,
        match=match,
        rounding=_rounding(out, vertices, faces, check, size, unit),
        is_simplified=len(faces) < len(mesh.faces),
    )


def _rounding(
    out: Path,
    vertices: AnyArray,
    faces: AnyArray,
    check: SurfaceCheck,
    size: Sequence[float],
    unit: str,
) -> str:
    """Return a sentence on the harm that rounding to float32 does; empty if none.

    Parameters
    ----------
    out : Path
        Mesh file.
    vertices, faces : ndarray
        Surface before rounding; positions along X, Y, Z.
    check : SurfaceCheck
        Result for the rounded surface.
    size : sequence of float
        Voxel size along Z, Y, X.
    unit : str
    """
    if out.suffix.lower() not in FLOAT32_SUFFIXES:
        return ""
    if is_rounded(vertices[:, ::-1], size):
        harm = "rounded by more than 1/20 of a voxel, which distorts the surface"
    elif not check.is_watertight and check_surface(faces).is_watertight:
        harm = "rounded, so that the surface touches itself"
    else:
        return ""
    farthest = float(np.abs(vertices).max())
    spacing = float(np.spacing(np.float32(farthest)))
    return (
        f"The surface is up to {farthest:.6g} {unit} from the origin, where positions "
        f"in this kind of file (multiples of {spacing:.2g} {unit}) are {harm}. Write "
        "an OBJ file, or set the origin of the volume to zero."
    )
