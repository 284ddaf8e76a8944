"""Read and write triangle meshes with trimesh (optional; not needed to write STL).

Only 3MF files state their unit; 3D-printing programs assume millimetres.
"""

from __future__ import annotations

import math
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.orientation import LPS, RAS
from napari_geosr.core.types import AnyArray
from napari_geosr.core.units import parse_unit
from napari_geosr.io.formats import read_suffixes
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.claims import refuse_claimed
from napari_geosr.io.unfinished_files.finished import record_finished

if TYPE_CHECKING:
    from types import ModuleType

#: Suffixes of mesh files that can be written.
MESH_SUFFIXES = (".stl", ".ply", ".obj", ".3mf")
#: Suffixes of files that store positions as float32.
FLOAT32_SUFFIXES = (".stl", ".ply")
_REDUCING = "Reducing the number of triangles"
#: Unit of positions in meshes: used when writing and assumed when reading.
MESH_UNIT = "mm"
#: Inches per foot: feet, which 3MF files may use, are converted to inches.
_INCHES_PER_FOOT = 12
#: Number of triangles that are converted at a time.
_AT_ONCE = 2**18
#: Minimum number of decimal places in OBJ files, and number of digits to which the
#: size of a mesh is given.
_MIN_DIGITS = 8
_RELATIVE_DIGITS = 9
#: Length of the header of an STL file, in bytes.
_HEADER = 80
#: Number of bytes at the beginning of PLY and OBJ files that are searched for comments.
_COMMENTS = 2**14
#: First word of comments, by suffix.
_COMMENT = {".ply": "comment", ".obj": "#"}
#: Text before the name of the coordinate system in headers and comments, as written by
#: 3D Slicer.
_SPACE = "SPACE="
#: Word before this text if positions are along the axes of an oblique volume.
_OBLIQUE = "oblique"
#: Layout of a triangle in a binary STL file.
_TRIANGLE = np.dtype(
    [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")]
)


def check_mesh_path(path: Path, *, overwrite: bool) -> None:
    """Raise `FileError` unless a mesh can be written to `path`."""
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise FileError(
            f"{path.name} does not have a mesh suffix. Use one of: "
            f"{', '.join(MESH_SUFFIXES)}."
        )
    if suffix != ".stl":
        _trimesh(f"Writing {path.name}")
    atomic.check_folder(path)
    atomic.refuse_existing(path, overwrite)
    refuse_claimed(path)


def write_mesh(
    path: Path,
    vertices: AnyArray,
    faces: AnyArray,
    *,
    space: str = "",
    is_oblique: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a triangle mesh to a file atomically.

    Parameters
    ----------
    path : Path
        Path with one of the `MESH_SUFFIXES`.
    vertices : ndarray of shape (N, 3)
        Positions along X, Y, Z.
    faces : ndarray of int, shape (M, 3)
        Vertex indices of each triangle, counter-clockwise as seen from outside.
    space : str
        Directions of X, Y and Z (`napari_geosr.core.orientation`); empty if unknown.
        Files other than 3MF state these directions in the form that 3D Slicer reads.
    is_oblique : bool
        Whether X, Y and Z are the axes of an oblique volume, which point only roughly
        in these directions.
    overwrite : bool

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    check_mesh_path(path, overwrite=overwrite)
    words = ["napari-geosr", *([_OBLIQUE] if is_oblique else [])]
    header = " ".join([*words, f"{_SPACE}{space}"] if space else words).encode("ascii")
    if path.suffix.lower() == ".stl":
        content: bytes | bytearray = _stl(vertices, faces, header)
    else:
        trimesh = _trimesh(f"Writing {path.name}")
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        kind = path.suffix.lower()[1:]
        more = {"digits": _digits(vertices)} if kind == "obj" else {}
        exported = mesh.export(file_type=kind, **more)
        content = exported.encode() if isinstance(exported, str) else exported
        if kind == "ply":
            # The first two lines are "ply" and the format.
            first, second, rest = content.split(b"\n", 2)
            content = b"\n".join((first, second, b"comment " + header, rest))
        elif kind == "obj":
            content = b"# " + header + b"\n" + content
    with atomic.replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
        record_finished({path: temporary})


def stored_positions(path: Path, vertices: AnyArray) -> AnyArray:
    """Round positions as `write_mesh` does, depending on the suffix of the file."""
    kind = path.suffix.lower()
    if kind in FLOAT32_SUFFIXES:
        return vertices.astype(np.float32)
    return vertices.round(_digits(vertices)) if kind == ".obj" else vertices


def read_mesh(path: Path) -> tuple[AnyArray, AnyArray, str]:
    """Read a mesh; equal vertices are merged.

    Returns
    -------
    vertices : ndarray of float64, shape (N, 3)
        Positions along X, Y, Z.
    faces : ndarray of int64, shape (M, 3)
    unit : str
        Unit of the positions; empty if the file does not state it, as in all formats
        but 3MF.

    Raises
    ------
    FileError
        If trimesh is not installed, or the file is not a mesh.
    """
    if not path.is_file():
        raise FileError(f"There is no file {path}. Check the name.")
    if path.suffix.lower() in read_suffixes():
        raise FileError(
            f"{path.name} is a volume or an image, not a mesh, so it already consists "
            f"of voxels. Give a mesh ({', '.join(MESH_SUFFIXES)})."
        )
    trimesh = _trimesh(f"Reading {path.name}")
    try:
        mesh = trimesh.load_mesh(path, process=True)
        vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    except Exception as error:
        raise FileError(
            f"{path.name} cannot be read as a mesh ({error}). Export it again, for "
            "example as STL."
        ) from error
    if not len(faces):
        raise FileError(f"{path.name} contains no triangles. Export a surface.")
    if mesh.units == "foot":
        return vertices * _INCHES_PER_FOOT, faces, "in"
    return vertices, faces, parse_unit(mesh.units) or ""


def check_simplification() -> None:
    """Check that the packages for simplifying a surface are installed.

    Raises
    ------
    FileError
        If trimesh or fast-simplification is not installed.
    """
    _trimesh(_REDUCING)
    if find_spec("fast_simplification") is None:
        raise FileError(_missing(_REDUCING))


def simplified(
    vertices: AnyArray, faces: AnyArray, n_faces: int
) -> tuple[AnyArray, AnyArray]:
    """Simplify a surface by collapsing edges, to about `n_faces` triangles.

    Raises
    ------
    FileError
        If trimesh or fast-simplification is not installed.
    """
    trimesh = _trimesh(_REDUCING)
    try:
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        small = mesh.simplify_quadric_decimation(face_count=n_faces)
    except ImportError as error:
        raise FileError(_missing(_REDUCING)) from error
    return np.asarray(small.vertices), np.asarray(small.faces)


def stated_space(path: Path) -> tuple[str, bool]:
    """Return the coordinate system that an STL, PLY or OBJ file states.

    Returns
    -------
    space : str
        Directions of X, Y and Z; empty if the file does not state them.
    is_oblique : bool
        Whether X, Y and Z are the axes of an oblique volume, which point only roughly
        in these directions.
    """
    kind = path.suffix.lower()
    if kind != ".stl" and kind not in _COMMENT:
        return "", False
    with path.open("rb") as file:
        size = _HEADER if kind == ".stl" else _COMMENTS
        header = file.read(size).decode("ascii", "replace")
    lines = [header]
    if kind in _COMMENT:
        header = header.partition("\nend_header")[0]
        lines = [x for x in header.splitlines() if x.startswith(_COMMENT[kind])]
    for line in lines:
        if found := re.search(rf"{_SPACE}({RAS}|{LPS})\b", line):
            return found[1], _OBLIQUE in line.split()
    return "", False


def _stl(vertices: AnyArray, faces: AnyArray, header: bytes) -> bytearray:
    content = bytearray(header.ljust(_HEADER))
    content += np.uint32(len(faces)).tobytes()
    for start in range(0, len(faces), _AT_ONCE):
        corners = vertices[faces[start : start + _AT_ONCE]].astype(np.float64)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        table: AnyArray = np.zeros(len(corners), _TRIANGLE)
        table["normal"] = normals / np.maximum(lengths, 1e-30)
        table["corners"] = corners
        content += table.tobytes()
    return content


def _digits(vertices: AnyArray) -> int:
    """Return the number of decimal places in text files; more for tiny meshes."""
    extent = float(np.ptp(vertices, axis=0).max(initial=0.0))
    if extent <= 0:
        return _MIN_DIGITS
    return max(_MIN_DIGITS, math.ceil(_RELATIVE_DIGITS - math.log10(extent)))


def _missing(purpose: str) -> str:
    return (
        f"{purpose} needs an extra package. Install it with: pip install "
        '"napari-geosr[mesh]".'
    )


def _trimesh(purpose: str) -> ModuleType:
    try:
        import trimesh
    except ImportError as error:
        raise FileError(_missing(purpose)) from error
    return cast("ModuleType", trimesh)
