"""Read and write projections; the format is determined by suffix and structure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.array_parts.selection import Selection
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.machine.file_state import file_state, with_state
from napari_geosr.core.projections import Projections
from napari_geosr.core.questions import (
    implausibility_reasons,
    voxel_size_question,
    with_voxel_size_question,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL, check_edge_range
from napari_geosr.io.formats import slice_suffixes
from napari_geosr.io.formats.hdf5 import FORMAT as HDF5
from napari_geosr.io.hdf5.hdf5_items import opened
from napari_geosr.io.lazy import LazyArray, decoding
from napari_geosr.io.projections.angles import AngleSettings, stored_in
from napari_geosr.io.projections.data_exchange import (
    read_data_exchange,
    write_data_exchange,
)
from napari_geosr.io.projections.images import read_images
from napari_geosr.io.projections.nxtomo import detectors, read_nxtomo
from napari_geosr.io.reading import check_readable
from napari_geosr.io.suffixes import looks_like, suffix_of
from napari_geosr.io.unfinished_files.atomic import check_folder, replacing

if TYPE_CHECKING:
    import h5py

#: Suffixes of files to which projections can be written.
PROJECTION_SUFFIXES = (".h5", ".hdf5")


def projection_suffixes() -> tuple[str, ...]:
    """Return the suffixes of files that may hold projections: HDF5 and images."""
    return (*HDF5.suffixes, *slice_suffixes())


def read_projections(
    path: str | Path,
    *,
    dataset: str | None = None,
    angles: str | Path | Sequence[float] | npt.NDArray[np.float64] | None = None,
    angle_range: tuple[float, float] | None = None,
    endpoint: bool = False,
    angle_unit: str | None = None,
    pixel_size: float | Sequence[float] | None = None,
    unit: str | None = None,
    centre: float | None = None,
    flats: str | Path | None = None,
    darks: str | Path | None = None,
    line_integrals: bool | None = None,
) -> Projections:
    """Read projections lazily: values stay in their file until they are used.

    Parameters
    ----------
    path : str or Path
        Data Exchange or NXtomo HDF5; a TIFF stack (angle, row, column), a folder of
        projections, or a single sinogram (angle, column) as TIFF. Use
        ``"FILE::DATASET"`` for one of several datasets.
    dataset : str, optional
        Path of the projections or of the detector's group inside an HDF5 file, or index
        of the image in a TIFF file.
    angles : path or sequence of float, optional
        A text file with one angle per line, a dataset of an HDF5 file, or the angles
        themselves. Takes precedence over the file.
    angle_range : tuple of float, optional
        First angle and end of a range of evenly spaced angles, in degrees; takes
        precedence over the file.
    endpoint : bool
        Whether the last projection was taken at the end of `angle_range`.
    angle_unit : str, optional
        ``"deg"`` or ``"rad"``, if the file states no unit, or a wrong one.
    pixel_size : float or (height, width), optional
        Pixel size of the detector, in `unit`; takes precedence over the file.
    unit : str, optional
        Length unit of `pixel_size`.
    centre : float, optional
        Column of the rotation axis; 0 is the middle of the first column.
    flats, darks : path, optional
        Flat and dark fields for image files, as files or folders.
    line_integrals : bool, optional
        Whether the values are already -log(I / I₀). By default as stated in the file;
        if the file does not state it, floats without flat or dark fields are assumed
        to be line integrals, with a note.

    Returns
    -------
    Projections

    Raises
    ------
    FileError
        If the file does not exist or is damaged, or its angles are unknown.
    ProjectionsError
        If parts of the scan, such as projections and angles, are inconsistent.
    """
    text, inner = str(path), dataset
    if "::" in text and not Path(text).exists():
        text, _, inside = text.partition("::")
        inner = dataset or inside
    given = Path(text).expanduser()
    angle_settings = AngleSettings(angles, angle_range, endpoint, angle_unit)
    _check_exists(given)
    state = file_state(given)  # before reading, to notice any later change
    if suffix_of(given) in HDF5.suffixes and given.is_file():
        if flats is not None or darks is not None:
            raise ConfigError(
                f"{given.name} is an HDF5 file, which contains its own flat and dark "
                "fields. Omit the separate ones."
            )
        scan = _read_hdf5(given, inner, angle_settings)
    else:
        scan = read_images(
            given, angle_settings, flats=flats, darks=darks, dataset=inner
        )
    if scan.source == given:
        scan = scan.replace(metadata=with_state(scan.metadata, state))
    _let_others_open(scan, given.absolute(), inner, flats, darks)
    return _apply_user_values(scan, pixel_size, unit, centre, line_integrals)


#: Fields of `Projections` that contain frames.
_FRAMES = ("data", "flats", "darks")


def _let_others_open(
    scan: Projections,
    path: Path,
    dataset: str | None,
    flats: str | Path | None,
    darks: str | Path | None,
) -> None:
    """Store how other processes can open the lazy arrays of a scan."""
    given = [
        None if f is None else Path(f).expanduser().absolute() for f in (flats, darks)
    ]
    for name in _FRAMES:
        frames = _in_file(getattr(scan, name))
        if isinstance(frames, LazyArray) and frames.reopening is None:
            arguments = (name, path, dataset, tuple(scan.angles.tolist()), *given)
            frames.reopening = (_reopened, arguments)


def _in_file(frames: Any) -> Any:
    """Return the array from which frames were selected, or the array itself."""
    return frames.data if isinstance(frames, Selection) else frames


def _reopened(
    name: str,
    path: Path,
    dataset: str | None,
    angles: tuple[float, ...],
    flats: Path | None,
    darks: Path | None,
) -> Any:
    """Reopen a scan in another process, and return one of its arrays."""
    scan = read_projections(
        path, dataset=dataset, angles=angles, flats=flats, darks=darks
    )
    return _in_file(getattr(scan, name))


def _check_exists(path: Path) -> None:
    if any(c in path.name for c in "*?[") and not path.exists():
        return
    check_readable(path)
    if path.is_dir():
        return
    if suffix_of(path) not in projection_suffixes():
        raise FileError(
            f"{path.name} contains no readable projections ({looks_like(path)}). "
            "Supported: Data Exchange and NXtomo (.h5, .hdf5, .nxs), TIFF "
            "and folders of images."
        )


def _read_hdf5(path: Path, dataset: str | None, given: AngleSettings) -> Projections:
    with opened(path) as file, decoding(path, "its structure"):
        given = _inner_angles(file, path, given)
        name = (dataset or "").strip("/")
        group = name if hasattr(file.get(name or "/"), "keys") else ""
        parent = group or name.rpartition("/")[0]
        if name and parent in detectors(file):
            return read_nxtomo(file, path, given, parent)
        if name:
            return read_data_exchange(
                file, path, given, f"{group}/data" if group else name
            )
        if file.get("exchange/data", getlink=True) is not None:
            return read_data_exchange(file, path, given)
        if detectors(file):
            return read_nxtomo(file, path, given)
    raise FileError(
        f"{path.name} is neither a Data Exchange file (exchange/data) nor NXtomo "
        "(image_key). Choose the dataset of its projections (--dataset PATH) and give "
        "their angles."
    )


def _inner_angles(file: h5py.File, path: Path, given: AngleSettings) -> AngleSettings:
    """Replace the name of a dataset in the file with the angles that it contains."""
    name = given.angles
    if not isinstance(name, str) or Path(name).exists() or file.get(name) is None:
        return given
    stored = stored_in(file[name], f"{path.name}, {name}")
    unit = given.unit or stored.unit
    return AngleSettings(stored.values, given.angle_range, given.endpoint, unit)


def _apply_user_values(
    scan: Projections,
    pixel_size: float | Sequence[float] | None,
    unit: str | None,
    centre: float | None,
    line_integrals: bool | None,
) -> Projections:
    """Apply the values given by the user, and add notes on assumptions."""
    changes: AnyDict = {}
    if unit is not None and pixel_size is None:
        raise ConfigError(
            f"The unit ({unit}) was given without a pixel size. Give both."
        )
    if pixel_size is not None:
        check_edge_range(map(float, np.ravel(pixel_size)), unit or scan.unit)
        changes["pixel_size"] = pixel_size
        changes["unit"] = unit or scan.unit
    else:
        changes |= _implausible_size_changes(scan)
    if centre is not None:
        changes["centre"] = centre
    if line_integrals is not None:
        changes["is_line_integrals"] = line_integrals
        if line_integrals and scan.flats is not None and not scan.is_line_integrals:
            note = (
                "The file has flat fields, so its projections are probably counts, but "
                "they are used as line integrals (--line-integrals)."
            )
            changes["metadata"] = _with_note(
                changes.get("metadata", scan.metadata), note
            )
    elif _may_be_line_integrals(scan):
        changes["is_line_integrals"] = True
        note = (
            "Floating-point values without flat or dark fields were taken as line "
            "integrals, -log(I / I0); if they are intensities, use "
            "--no-line-integrals."
        )
        changes["metadata"] = _with_note(changes.get("metadata", scan.metadata), note)
    return scan.replace(**changes) if changes else scan


def _with_note(metadata: AnyMapping, note: str) -> AnyDict:
    return {**metadata, "notes": (*metadata.get("notes", ()), note)}


def _implausible_size_changes(scan: Projections) -> AnyDict:
    """Return the changes that mark an implausible pixel size in the file as unknown.

    The pixel size is kept for fan and cone beams, because their distances are in the
    same unit, and for files written by this package.
    """
    question = voxel_size_question(scan.metadata)
    reasons, _ = implausibility_reasons(scan.pixel_size, scan.unit)
    if question is not None:
        text, reason = question.size_text, question.reason
    elif reasons and "written_by" not in scan.metadata:
        size = " × ".join(f"{edge:.4g}" for edge in scan.pixel_size)
        text, reason = f"{size} {scan.unit}", "; ".join(reasons)
    else:
        return {}
    drops = scan.geometry == "parallel"
    effect = "it is kept, because the distances are given in the same unit"
    if drops:
        effect = "it is treated as unknown"
    note = (
        f"The file specifies a pixel size of {text}, which is implausible "
        f"({reason}); {effect}. Give the pixel size (--pixel-size and --unit)."
    )
    metadata = with_voxel_size_question(scan.metadata, None)
    metadata["notes"] = (*metadata.get("notes", ()), note)
    changes: AnyDict = {"metadata": metadata}
    if drops:
        changes |= {"pixel_size": (1.0, 1.0), "unit": PIXEL}
    return changes


def _may_be_line_integrals(scan: Projections) -> bool:
    is_float = np.dtype(scan.data.dtype).kind == "f"
    known = scan.is_line_integrals or "written_by" in scan.metadata
    # Projections with flat or dark fields are counts.
    bare = scan.flats is None and scan.darks is None
    return is_float and bare and not known


def is_projections(path: str | Path) -> bool:
    """Return whether a file is an HDF5 file with projections (a fast check)."""
    given = Path(path)
    if suffix_of(given) not in HDF5.suffixes or not given.is_file():
        return False

    try:
        with opened(given) as file, decoding(given, "its structure"):
            has_exchange = file.get("exchange/data", getlink=True) is not None
            return has_exchange or bool(detectors(file))
    except FileError:
        return False


def write_projections(
    projections: Projections, path: str | Path, *, overwrite: bool = False
) -> Path:
    """Write projections as Data Exchange HDF5, atomically and block by block.

    Data type, angles, pixel size, centre, geometry and provenance are preserved.

    Parameters
    ----------
    projections : Projections
    path : str or Path
        Path with the suffix ``.h5`` or ``.hdf5``.
    overwrite : bool
        Whether an existing file is replaced.

    Returns
    -------
    Path

    Raises
    ------
    FileError
        If the file exists and `overwrite` is false, it has another suffix, its
        folder is missing or not writable, or the disk is full.
    """
    target = Path(path).expanduser()
    if suffix_of(target) not in PROJECTION_SUFFIXES:
        raise FileError(
            f"{target.name}: projections cannot be written with this suffix. Use one "
            f"of: {', '.join(PROJECTION_SUFFIXES)}."
        )
    source = projections.source
    if source is not None and target.exists() and source.samefile(target):
        raise ConfigError(
            f"{projections.title} is read from {target}, which cannot be overwritten "
            "at the same time. Choose a different file name."
        )
    itemsize = np.dtype(projections.data.dtype).itemsize
    check_folder(target, int(np.prod(projections.shape)) * itemsize)
    with replacing(target, overwrite=overwrite, suffix=target.suffix) as temporary:
        write_data_exchange(projections, temporary)
    return target
