"""Microscope optics stated in a file: objective and wavelengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from napari_geosr.core.errors import FileError
from napari_geosr.core.units import MILLIMETRES, parse_unit

_TIFF = (".tif", ".tiff", ".btf")
#: Refractive indices of immersion media, by their names in OME-XML.
_MEDIA = {"Oil": 1.515, "Water": 1.333, "Glycerol": 1.47, "Air": 1.0}


@dataclass(frozen=True)
class StatedOptics:
    """Optics stated in a file; unknown values are None or empty.

    Attributes
    ----------
    numerical_aperture : float or None
    refractive_index : float or None
    wavelengths : tuple of float
        Emission wavelength of each channel in nm; empty if one is missing.
    """

    numerical_aperture: float | None = None
    refractive_index: float | None = None
    wavelengths: tuple[float, ...] = ()


def read_optics(path: Path) -> StatedOptics:
    """Read the optics from the OME-XML of a TIFF; all unknown for other files.

    Raises
    ------
    FileError
        If the file can no longer be read.
    """
    if path.suffix.lower() not in _TIFF or not path.is_file():
        return StatedOptics()
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            xml = tif.ome_metadata
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise FileError(
            f"{path.name} cannot be read ({error}). Copy or export it again."
        ) from error
    return StatedOptics() if xml is None else optics_from_ome(xml)


def optics_from_ome(xml: str) -> StatedOptics:
    """Read the optics of the first image in an OME-XML description."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return StatedOptics()
    image = root.find("{*}Image")
    settings = None if image is None else image.find("{*}ObjectiveSettings")
    wanted = None if settings is None else settings.get("ID")
    objectives = list(root.iterfind(".//{*}Objective"))
    chosen = [o for o in objectives if o.get("ID") == wanted] or objectives[:1]
    aperture = index = None
    if chosen:
        aperture = _number(chosen[0].get("LensNA"))
        index = _MEDIA.get(chosen[0].get("Immersion", ""))
    if settings is not None:
        index = _number(settings.get("RefractiveIndex")) or index
    waves: list[float] = []
    for channel in [] if image is None else image.iterfind(".//{*}Channel"):
        length = _number(channel.get("EmissionWavelength"))
        unit = parse_unit(channel.get("EmissionWavelengthUnit", "nm"))
        if length is None or unit not in MILLIMETRES:
            waves = []
            break
        waves.append(length * MILLIMETRES[unit] / MILLIMETRES["nm"])
    return StatedOptics(aperture, index, tuple(waves))


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else 0.0
    except ValueError:
        return None
    return value if 0 < value < 1e6 else None
