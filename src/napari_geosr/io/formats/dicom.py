"""DICOM radiographs, read with pydicom (an optional dependency).

Only the pixels, their size and their grey scale are read: nothing about the patient
reaches results, records or messages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lazy_loader
import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyArray
from napari_geosr.core.units import PIXEL
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats import FileFormat, ReadOptions
from napari_geosr.io.suffixes import stem_of

pydicom: Any = lazy_loader.load("pydicom")

#: Elements with the height and width of a pixel in mm, the most accurate first.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
#: Number of bytes before the signature ``DICM``.
_PREAMBLE = 128
_PATIENT_NOTE = (
    "the patient data in the file were not read, so results do not contain them."
)


def read_dicom(path: Path) -> Volume:
    """Read a radiograph, or a file of several frames.

    MONOCHROME1 values, in which zero is white, are inverted, so that dense tissue is
    always bright; a rescale slope and intercept are applied.

    Raises
    ------
    FileError
        If pydicom is not installed, or the file is damaged, in colour, or compressed in
        a way that cannot be decoded.
    """
    try:
        dataset = pydicom.dcmread(str(path))
    except ModuleNotFoundError as error:
        raise FileError(
            f"{path.name} is a DICOM file; reading it needs an extra package. Install "
            'it with: pip install "napari-geosr[dicom]".'
        ) from error
    except Exception as error:
        raise FileError(
            f"{path.name} cannot be read as DICOM. Export it again."
        ) from error
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise FileError(
            f"{path.name} is a colour image. Export it as a greyscale image."
        )
    try:
        data: AnyArray = np.asarray(dataset.pixel_array)
    except Exception as error:
        raise FileError(
            f"The pixels of {path.name} cannot be decoded. Export it uncompressed."
        ) from error
    notes = [_PATIENT_NOTE]
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        data, white = _inverted(data, dataset)
        notes.append(
            "white is stored as 0 in this file (MONOCHROME1); the grey values were "
            f"inverted (0 became {white})."
        )
    slope = float(dataset.get("RescaleSlope") or 1)
    intercept = float(dataset.get("RescaleIntercept") or 0)
    if (slope, intercept) != (1, 0):
        data = (slope * data + intercept).astype(np.float32)
    size = _pixel_size(dataset, data.ndim)
    return Volume(
        data=data,
        axes="ZYX"[-data.ndim :],
        voxel_size=size or (),
        unit="mm" if size else PIXEL,
        name=stem_of(path),
        source=path,
        metadata={"format": "DICOM", "notes": tuple(notes)},
    )


def _inverted(data: AnyArray, dataset: Any) -> tuple[AnyArray, int]:
    """Invert values so that white is brightest; also return the new value of 0."""
    bits = int(dataset.BitsStored)
    # Stored values are 0 … 2**bits - 1 or, if signed, centred on zero.
    white = -1 if int(dataset.get("PixelRepresentation", 0)) else 2**bits - 1
    return (white - data.astype(np.int64)).astype(data.dtype), white


def _pixel_size(dataset: Any, ndim: int) -> tuple[float, ...] | None:
    """Return the edges of a voxel in mm; for several frames, Z is the slice spacing."""
    found = (dataset.get(name) for name in _SPACINGS)
    plane = next((tuple(map(float, each)) for each in found if each), None)
    if plane is None or min(plane) <= 0:
        return None
    if ndim == 2:
        return plane
    depth = dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness")
    return (float(depth or plane[0]), *plane)


class DicomFormat(FileFormat):
    """DICOM files of one image, or of several frames."""

    title = "DICOM"
    suffixes = (".dcm", ".dicom")
    rank = 57

    def accepts(self, path: Path, options: ReadOptions) -> bool:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"

    def read(self, path: Path, options: ReadOptions) -> Volume:
        return read_dicom(path)


FORMAT = DicomFormat()
