"""Projections as plain images: a TIFF stack, a folder of files, a single sinogram."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import file_warnings
from napari_geosr.core.projections import Projections
from napari_geosr.core.questions import (
    VoxelSizeQuestion,
    voxel_size_question,
    with_voxel_size_question,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.io import read
from napari_geosr.io.formats import slice_suffixes
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.projections.angles import AngleSettings
from napari_geosr.io.slices import read_slices
from napari_geosr.io.suffixes import suffix_of
from napari_geosr.io.voxel_sources import ArrangedSource

#: Prefixes of the file names of flat and dark fields in a folder with projections.
_FLAT_NAMES = ("flat", "white")
_DARK_NAMES = ("dark",)


def read_images(
    path: Path,
    given: AngleSettings,
    *,
    flats: str | Path | None = None,
    darks: str | Path | None = None,
    dataset: str | None = None,
) -> Projections:
    """Read a stack (angle, row, column), a folder of projections, or one sinogram.

    A single image is a sinogram (angle, column): a scan of one detector row. In a
    folder, files with names that begin with ``flat``, ``white`` or ``dark`` are flat
    and dark fields.

    Parameters
    ----------
    path : Path
        A TIFF file, a folder, or a glob such as ``scan/proj*.tif``.
    given : AngleSettings
        Angles; image files do not contain them.
    flats, darks : path, optional
        Files or folders of flat and dark fields.
    dataset : str, optional
        Index of the image, if a file holds several.

    Raises
    ------
    FileError
        If the images are not projections, or their angles are not given.
    """
    beside: dict[str, Volume] = {}
    if path.is_dir():
        views, beside = _read_folder(path)
    else:
        views = read(path, dataset=dataset)
    if views.axes not in ("YX", "ZYX", "TYX"):
        raise FileError(
            f"{path.name} has axes {', '.join(views.axes)} {views.shape}; projections "
            "must be a stack of greyscale images, or one sinogram. Save them in this "
            "form."
        )
    frames: AnyDict = {word: stack.data for word, stack in beside.items()}
    for word, source in (("flats", flats), ("darks", darks)):
        if source is not None:
            frames[word] = _frames(Path(source).expanduser(), views)
    is_sinogram = views.axes == "YX"
    data = _as_sinogram(views, path) if is_sinogram else views.data
    notes = [*file_warnings(views.metadata), *views.metadata.get("notes", ())]
    notes = [n for n in notes if "slices (Z)" not in n and "their distance" not in n]
    asked = _asked(views)
    if asked is not None:  # the question already explains the problem and what to do
        notes = [n for n in notes if "dots per inch" not in n]
    remarks = tuple(
        f"{stack.shape[0]} of the files are {word[:-1]} fields."
        for word, stack in beside.items()
    )
    notes += remarks
    size = views.voxel_size[-1:] * 2 if is_sinogram else views.voxel_size[-2:]
    return Projections(
        data=data,
        angles=given.resolve(data.shape[0], path.name, None),
        **frames,
        pixel_size=(size[0], size[1]),
        unit=views.unit,
        name=views.name,
        source=path,
        metadata={
            "format": "sinogram" if is_sinogram else str(views.metadata.get("format")),
            **({"notes": tuple(notes)} if notes else {}),
            # Notes that state facts, not assumptions.
            **({"remarks": remarks} if remarks else {}),
            **with_voxel_size_question({}, asked),
        },
    )


def _asked(views: Volume) -> VoxelSizeQuestion | None:
    """Return the question about the pixel size, if any, without the slice spacing."""
    asked = voxel_size_question(views.metadata)
    if asked is None:
        return None
    is_sinogram = views.axes == "YX"
    size = asked.voxel_size[-1:] * 2 if is_sinogram else asked.voxel_size[-2:]
    return replace(asked, voxel_size=size)


def _as_sinogram(views: Volume, path: Path) -> Any:
    """Reshape (angle, column) to (angle, 1, column)."""
    if isinstance(views.data, np.ndarray):
        return views.data[:, None, :]
    source = ArrangedSource(views.data, [0, None, 1])
    return LazyArray(source, path, (1, 1, views.shape[-1]))


def _frames(path: Path, views: Volume) -> Any:
    """Return the flat or dark fields of a file or folder; a single image is one field.

    For a sinogram (angle, column), each row of an image is one field.
    """
    stack = read(path)
    if stack.axes == "YX" and views.axes == "YX":
        return np.asarray(stack.data)[:, None, :]
    if stack.axes == "YX":
        return np.asarray(stack.data)[None]
    if stack.axes not in ("ZYX", "TYX"):
        raise FileError(
            f"{path.name} has axes {', '.join(stack.axes)}; flat and dark fields must "
            "be greyscale images like the projections."
        )
    return stack.data


def _read_folder(path: Path) -> tuple[Volume, dict[str, Volume]]:
    """Return the projections in a folder, and its flat and dark fields, if any."""
    images = slice_suffixes()
    files = [
        p
        for p in path.iterdir()
        if p.is_file() and not p.name.startswith(".") and suffix_of(p) in images
    ]
    flats = [p for p in files if p.name.casefold().startswith(_FLAT_NAMES)]
    darks = [p for p in files if p.name.casefold().startswith(_DARK_NAMES)]
    views = [p for p in files if p not in flats and p not in darks]
    if not views:
        raise FileError(
            f"The folder {path} contains no projections (TIFF or picture files). "
            "Choose the folder with the projections."
        )
    beside = {
        word: _stack(found, path)
        for word, found in (("flats", flats), ("darks", darks))
        if found
    }
    return _stack(views, path), beside


def _stack(files: list[Path], folder: Path) -> Volume:
    stack = read_slices(files, folder)
    if stack.axes == "YX" and len(files) == 1 and len(stack.shape) == 2:
        return stack.replace(
            data=np.asarray(stack.data)[None],
            axes="ZYX",
            voxel_size=(stack.voxel_size[0], *stack.voxel_size),
            origin=(0.0, *stack.origin),
        )
    return stack
