"""Volumes stored in a folder as one file per slice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import (
    IS_COLOUR,
    ORIGIN_UNKNOWN,
    Note,
    file_warnings,
    with_file_warnings,
)
from napari_geosr.core.questions import voxel_size_question, with_voxel_size_question
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.units import PIXEL
from napari_geosr.core.volume import Volume
from napari_geosr.io.arrangement import finish
from napari_geosr.io.file_voxels import FileArray
from napari_geosr.io.formats import format_of
from napari_geosr.io.reader_questions import unnamed_axis
from napari_geosr.io.reading import read_file

#: Maximum number of gaps in the numbering of slices that a warning lists.
_MAX_SHOWN = 3
#: Approximate maximum number of headers checked when a folder is opened; if it contains
#: more slices, they are sampled evenly.
_MAX_CHECKED = 300


def natural_key(path: Path) -> list[int | str]:
    """Return a key for natural sorting, in which slice2 precedes slice10."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [int(p) if p.isdecimal() else p for p in parts]


def read_folder(path: Path, *, axes: str | None = None) -> Volume:
    """Read the TIFF, PNG, JPEG or BMP files of a folder as slices of one volume."""
    files = [
        p
        for p in path.iterdir()
        if p.is_file() and not p.name.startswith(".") and _family(p)
    ]
    families = sorted({_family(p) for p in files})
    if not files:
        raise FileError(
            f"The folder {path} contains no image slices (TIFF, PNG, JPEG or BMP). "
            "Choose the folder with the slices, or one file."
        )
    if len(families) > 1:
        raise FileError(
            f"The folder {path} contains {' and '.join(families)} files. Choose one "
            f"kind with a pattern, e.g. '{path.name}/*.tif'."
        )
    return read_slices(files, path, axes=axes)


def read_glob(pattern: Path, *, axes: str | None = None) -> Volume:
    """Read the files that match a pattern such as ``scan/*.tif`` as slices."""
    files = [p for p in pattern.parent.glob(pattern.name) if p.is_file()]
    unknown = [p.name for p in files if not _family(p)]
    if not files or unknown:
        what = f"{unknown[0]} is not an image" if unknown else "there is no such file"
        raise FileError(f"{pattern} cannot be read: {what}. Check the pattern.")
    return read_slices(files, pattern.parent, axes=axes)


def _family(path: Path) -> str:
    found = format_of(path)
    return found.title if found is not None and found.may_be_slice else ""


def read_slices(
    files: Sequence[Path], folder: Path, *, axes: str | None = None
) -> Volume:
    """Stack 2D files in natural order along Z (or the first letter of `axes`).

    Parameters
    ----------
    files : sequence of Path
        Files in any order.
    folder : Path
        The source of the volume.
    axes : str, optional
        Letters of the result's axes.

    Raises
    ------
    FileError
        If a slice is damaged, or differs in shape or type from the first.
    """
    ordered = sorted(files, key=natural_key)
    first = read_file(ordered[0])
    if len(ordered) == 1:
        return first
    if first.axes not in ("YX", "CYX"):
        raise FileError(
            f"{ordered[0].name} in {folder} is itself a stack of shape {first.shape}, "
            "not a slice. Open the files one by one."
        )
    step = max(1, len(ordered) // _MAX_CHECKED)
    for path in {*ordered[1::step], ordered[-1]}:
        _matching(path, first, ordered[0])
    letter = axes[0].upper() if axes else "Z"
    if letter not in "ZT" or (axes and axes.upper() != letter + first.axes):
        raise FileError(
            f"The slices in {folder} have axes {first.axes}; axes {axes!r} do not "
            f"match. Use Z{first.axes} or T{first.axes}."
        )
    stack = Stack(ordered, first)
    letters = letter + first.axes
    final = "".join(a for a in "TCZYX" if a in letters)
    order: list[int | None] = [letters.index(a) for a in final]
    size, origin, notes = _geometry(first, letter)
    metadata: AnyDict = {"format": f"{len(ordered)} slices"}
    warnings = (f"{ordered[0].name}: {w}" for w in file_warnings(first.metadata))
    metadata = with_file_warnings(metadata, _gaps(ordered), *warnings)
    for key in (IS_COLOUR, ORIGIN_UNKNOWN):
        if first.metadata.get(key):
            metadata[key] = True
    if notes:
        metadata["notes"] = tuple(notes)
    asked = voxel_size_question(first.metadata)
    if asked is not None:
        edges = (asked.voxel_size[-1], *asked.voxel_size) if letter == "Z" else None
        asked = replace(asked, voxel_size=edges or asked.voxel_size)
        metadata = with_voxel_size_question(metadata, asked)
    volume = Volume(
        data=finish(stack, order, (1, *first.shape), folder, final),
        axes=final,
        voxel_size=size,
        unit=first.unit,
        origin=origin,
        name=folder.resolve().name or first.name,
        source=folder,
        metadata=metadata,
    )
    return volume if axes else unnamed_axis(volume, letters)


def _geometry(
    first: Volume, letter: str
) -> tuple[tuple[float, ...], tuple[float, ...], list[str]]:
    """Return voxel size, origin and notes; slices are assumed to be one pixel apart."""
    if letter == "T":
        return first.voxel_size, first.origin, []
    size = (first.voxel_size[-1], *first.voxel_size)
    notes = list[str]()
    if first.unit != PIXEL:
        text = (
            "The files do not specify the distance between slices; it was assumed to "
            f"equal the pixel size, {size[0]:g} {first.unit}."
        )
        notes.append(Note(text, "slice distance"))
    return size, (0.0, *first.origin), notes


def _gaps(files: Sequence[Path]) -> str:
    """Describe gaps in the numbering of the files; ``""`` if there are none."""
    numbers = [int(n[-1]) for n in (re.findall(r"\d+", p.stem) for p in files) if n]
    if len(numbers) != len(files):
        return ""
    steps = np.diff(numbers)
    usual = int(np.median(steps))
    if usual < 1:
        return ""
    gaps = [i for i, step in enumerate(steps) if step > usual]
    if not gaps:
        return ""
    n_missing = sum(-(-int(steps[i]) // usual) - 1 for i in gaps)
    shown = [f"{files[i + 1].name} follows {files[i].name}" for i in gaps[:_MAX_SHOWN]]
    more = f" and {len(gaps) - _MAX_SHOWN} more gaps" if len(gaps) > _MAX_SHOWN else ""
    what = "image seems" if n_missing == 1 else "images seem"
    return (
        f"according to the numbers in the file names, {n_missing:,} {what} to be "
        f"missing ({', '.join(shown)}{more}); the others are stacked without gaps. "
        "Add the missing files, or do not measure across the gaps."
    )


def _matching(path: Path, first: Volume, first_path: Path) -> Volume:
    one = read_file(path)
    if one.shape != first.shape or one.dtype != first.dtype:
        raise FileError(
            f"{path.name} is {' × '.join(map(str, one.shape))} {one.dtype}, but "
            f"{first_path.name} is {' × '.join(map(str, first.shape))} {first.dtype}. "
            "Keep only the slices of one volume in the folder."
        )
    return one


class Stack:
    """A `VoxelSource` that reads each slice from its own file."""

    def __init__(self, files: Sequence[Path], first: Volume) -> None:
        self.files = tuple(files)
        self.first = first
        self.shape = (len(files), *first.shape)
        self.dtype = first.dtype
        # Voxels of uncompressed slices are read individually, without a buffer.
        self.decoding_bytes = 0 if isinstance(first.data, FileArray) else None

    def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
        inner = key[1:]
        out = np.empty([s.stop - s.start for s in key], dtype=self.dtype)
        for place, path in enumerate(self.files[key[0]]):
            one = _matching(path, self.first, self.files[0])
            out[place] = np.asarray(one.data[inner])
        return out
