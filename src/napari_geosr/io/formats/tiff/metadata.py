"""Voxel size and position in TIFF files: ImageJ, OME, LSM, microscopes, tags."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from napari_geosr.core.file_warnings import NO_UNIT, Note
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.units import PIXEL, convert_length, parse_unit
from napari_geosr.io import stamp as stamps
from napari_geosr.io.stamp import Stamp
from napari_geosr.io.vendors import VendorPixel, vendor_pixel

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

#: Resolutions in dots per inch that programs write by default: those of screens,
#: printers and fax machines.
_COMMON_DPI = (
    1, 2.54, 25.4, 72, 75, 90, 91, 92, 95, 96, 98, 100, 110, 120, 144, 150, 180, 192,
    196, 200, 204, 220, 240, 250, 254, 264, 300, 326, 350, 360, 400, 450, 600, 720,
    1200, 2400, 4800,
)  # fmt: skip
#: The resolutions among these that equal 10 and 100 dots per centimetre. If a file
#: states them per centimetre, they are real pixel sizes of 1 mm and 100 µm.
_ROUND_PER_CENTIMETRE = (25.4, 254)
#: TIFF's code for the resolution unit centimetre.
_CENTIMETRE = 3
#: TIFF's code for the resolution unit inch.
_INCH = 2


@dataclass
class PhysicalSpace:
    """Voxel size and origin by axis letter, where a file states them.

    Attributes
    ----------
    size, origin : dict
        In `unit`, by the letters Z, Y, X; absent where unknown.
    unit : str
        ``"pixel"`` when unknown.
    notes : list of str
        Assumptions, to be shown to the user.
    stamp : Stamp or None
        The stamp of napari-geosr, with exact values.
    channels : tuple of str
        Names of the channels; empty if the file has none.
    doubts : tuple of str
        Reasons to doubt the voxel size, other than the value itself.
    """

    size: dict[str, float] = field(default_factory=dict)
    origin: dict[str, float] = field(default_factory=dict)
    unit: str = PIXEL
    notes: list[str] = field(default_factory=list)
    stamp: Stamp | None = None
    channels: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether the size is from the stamp, and therefore reliable."""
        stamp = self.stamp
        if stamp is None or stamp.unit != self.unit:
            return False
        return all(
            stamp.size_along(axis) == self.size.get(axis) for axis in stamp.spatial_axes
        )

    def refine(self) -> None:
        """Use exact values of the stamp where they agree with those of the file.

        Another program may have changed the voxel size but kept the stamp: the file's
        own values then take precedence.
        """
        stamp = self.stamp
        if stamp is None or stamp.unit != self.unit:
            return
        for axis in stamp.spatial_axes:
            exact = stamp.size_along(axis)
            rounded = self.size.get(axis)
            if rounded is None or not stamps.agrees(exact, rounded):
                continue
            self.size[axis] = exact
            place = stamp.origin_along(axis)
            if stamps.agrees(place, self.origin.get(axis, 0.0), scale=exact):
                self.origin[axis] = place

    def complete(self, spatial_axes: str) -> tuple[tuple[float, ...], ...]:
        """Fill in missing entries of voxel size and origin along `spatial_axes`.

        A missing slice spacing is set to the pixel size, with a note; if nothing is
        known, edge lengths are 1 pixel.
        """
        known = [self.size[a] for a in "XYZ" if a in self.size]
        sizes = []
        for axis in spatial_axes:
            if axis not in self.size and known and self.unit != PIXEL:
                text = (
                    f"The voxel size along {axis} is not in the file; it was taken "
                    f"to be the same as the pixel size, {known[0]:g} {self.unit}."
                )
                self.notes.append(Note(text, "slice distance"))
            sizes.append(self.size.get(axis, known[0] if known else 1.0))
        return tuple(sizes), tuple(self.origin.get(a, 0.0) for a in spatial_axes)


def _positive(value: Any) -> float | None:
    """Return `value` as a finite number greater than zero, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _finite(value: Any) -> float | None:
    """Return `value` as a finite number, even with a decimal comma, or None."""
    if isinstance(value, str) and value.count(",") == 1 and "." not in value:
        value = value.replace(",", ".")
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _resolution(page: TiffPage, name: str) -> float | None:
    """Return the pixels per unit from a resolution tag, or None."""
    tag = page.tags.get(name)
    if tag is None:
        return None
    try:
        numerator, denominator = tag.value
        return _positive(numerator / denominator)
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _take_unit(space: PhysicalSpace, text: Any) -> bool:
    """Set the unit that `text` names; add a note if it is not a length unit."""
    unit = parse_unit(text)
    if unit is None or unit == PIXEL:
        if text and unit is None:
            said = f"The unit {str(text)!r} is not a length unit."
            space.notes.append(Note(said, "unit"))
        return False
    space.unit = unit
    return True


def escaped(text: str) -> str:
    r"""Return `text` as ImageJ escapes it in descriptions: ``\\u00B5m`` for µm."""
    return "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in text)


def unescaped(text: str) -> str:
    """Undo `escaped`."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)


def from_imagej(page: TiffPage, metadata: AnyMapping, n_slices: int) -> PhysicalSpace:
    """Read voxel size and origin from ImageJ's metadata.

    ImageJ omits `spacing` from a stack's description if it is 1, and stores the origin
    as the position, in pixels, at which the coordinates are zero. Some other programs
    write decimal commas.

    Parameters
    ----------
    page : tifffile.TiffPage
        First page of the stack.
    metadata : mapping
        ImageJ's description.
    n_slices : int
        Number of slices along Z.
    """
    space = PhysicalSpace(stamp=stamps.parse(metadata.get("Info")))
    has_unit = _take_unit(space, unescaped(str(metadata.get("unit", ""))))
    for axis, name in (("X", "XResolution"), ("Y", "YResolution")):
        resolution = _resolution(page, name)
        if resolution is not None:
            space.size[axis] = 1 / resolution
    stated = metadata.get("spacing")
    spacing = _positive(abs(_finite(stated) or 0.0))
    pixel = next((space.size[a] for a in "XY" if a in space.size), None)
    if spacing is not None:
        space.size["Z"] = spacing
        if has_unit and isinstance(stated, str):
            text = (
                f"The slice spacing, {stated!r}, was read as {spacing:g} {space.unit}."
            )
            space.notes.append(Note(text, "slice distance"))
    elif n_slices > 1 and has_unit and stated is None:
        space.size["Z"] = 1.0
        text = (
            f"The slice spacing is not in the file; it was taken to be 1 {space.unit}, "
            "as ImageJ does."
        )
        space.notes.append(Note(text, "slice distance"))
    elif n_slices > 1 and has_unit and pixel is not None:
        space.size["Z"] = pixel
        text = (
            f"The slice spacing in the file, {str(stated)!r}, is not a positive "
            "number; it was taken to be the same as the pixel size, "
            f"{pixel:g} {space.unit}."
        )
        space.notes.append(Note(text, "slice distance"))
    if not has_unit and space.size:
        space.notes.append(NO_UNIT)
    for axis in "XYZ":
        place = _finite(metadata.get(f"{axis.lower()}origin"))
        if place is not None:
            space.origin[axis] = -place * space.size.get(axis, 1.0)
    space.refine()
    return space


def from_ome(xml: str, image: int) -> PhysicalSpace:
    """Read voxel size and position of image `image` of an OME-XML description."""
    space = PhysicalSpace()
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        space.notes.append("The OME-XML description of the file is damaged.")
        return space
    pixels = root.findall("{*}Image/{*}Pixels")
    for item in root.iterfind(".//{*}M"):
        space.stamp = space.stamp or stamps.parse(item.text)
    if image >= len(pixels):
        return space
    attributes = pixels[image].attrib
    named = [item.get("Name", "") for item in pixels[image].iterfind("{*}Channel")]
    space.channels = tuple(named) if any(named) else ()
    found = {}
    for axis in "XYZ":
        size = _positive(attributes.get(f"PhysicalSize{axis}"))
        if size is not None:
            found[axis] = (size, attributes.get(f"PhysicalSize{axis}Unit", "µm"))
    if not found:
        return space
    _take_unit(space, found["X" if "X" in found else next(iter(found))][1])
    for axis, (size, text) in found.items():
        space.size[axis] = _converted(size, text, space)
    plane = _first_plane(pixels[image])
    for axis in "XYZ":
        place = _finite(plane.get(f"Position{axis}"))
        if place is not None:
            # The schema's default unit, "reference frame", is not a length, so the
            # position cannot be converted to the unit of the voxel size.
            text = plane.get(f"Position{axis}Unit", "reference frame")
            if parse_unit(text) is not None:
                space.origin[axis] = _converted(place, text, space)
    space.refine()
    return space


def _first_plane(pixels: Any) -> Mapping[str, str]:
    for plane in pixels.iterfind("{*}Plane"):
        if all(plane.get(f"The{a}", "0") == "0" for a in "ZCT"):
            return dict(plane.attrib)
    return {}


def _converted(value: float, text: str, space: PhysicalSpace) -> float:
    """Convert `value` from the unit `text` to the unit of `space`."""
    unit = parse_unit(text)
    if unit in (None, PIXEL) or space.unit == PIXEL:
        return value
    return convert_length(value, str(unit), space.unit)


def from_lsm(metadata: AnyMapping) -> PhysicalSpace:
    """Return the voxel size of a Zeiss LSM file in µm; the file gives it in metres."""
    space = PhysicalSpace(unit="µm")
    for axis in "XYZ":
        size = _positive(metadata.get(f"VoxelSize{axis}"))
        if size is not None:
            space.size[axis] = size * 1e6
    if not space.size:
        space.unit = PIXEL
    return space


def from_vendor(found: VendorPixel, page: TiffPage) -> PhysicalSpace:
    """Read the pixel size from a microscope's own metadata."""
    height, width, unit = found.in_unit()
    note = f"The pixel size was read from the {found.origin} metadata."
    return PhysicalSpace(
        {"Y": height, "X": width},
        unit=unit,
        notes=[note],
        doubts=found.doubts(int(page.imagewidth)),
    )


def from_resolution_tags(page: TiffPage) -> PhysicalSpace:
    """Read the pixel size from baseline tags; record a doubt about a common dpi value.

    A resolution that is typical of screens and printers is probably a default, but the
    pixels of a scanner may really have this size.
    """
    space = PhysicalSpace()
    tag = page.tags.get("ResolutionUnit")
    unit = 1 if tag is None else int(tag.value)
    inch = {_INCH: 1.0, _CENTIMETRE: 2.54}.get(unit)
    if inch is None:
        return space
    for axis, name in (("X", "XResolution"), ("Y", "YResolution")):
        resolution = _resolution(page, name)
        if resolution is None:
            return PhysicalSpace()
        dpi = resolution * inch
        if is_common_dpi(dpi, metric=unit == _CENTIMETRE):
            if resolution == 1:  # the default value, so the resolution was never set
                return PhysicalSpace()
            note = (
                f"The file specifies {dpi:.0f} dots per inch, a resolution of screens, "
                "printers or fax machines, not of a scan; it was ignored."
            )
            doubt = (
                f"{dpi:.0f} dots per inch is a typical resolution of screens or "
                "printers"
            )
            edge = 25.4 / dpi
            return PhysicalSpace(
                dict.fromkeys("ZYX", edge),
                unit="mm",
                notes=[Note(note, "unit")],
                doubts=(doubt,),
            )
        space.size[axis] = 25400.0 / (resolution * inch)
    space.unit = "µm"
    if min(space.size.values(), default=0.0) >= 1000:
        space.size = {a: v / 1000 for a, v in space.size.items()}
        space.unit = "mm"
    return space


def is_common_dpi(dpi: float, *, metric: bool = False) -> bool:
    """Return whether `dpi` is a value that programs write by default.

    Parameters
    ----------
    metric : bool
        Whether the file states the resolution in dots per centimetre.
    """
    if metric and any(math.isclose(dpi, n) for n in _ROUND_PER_CENTIMETRE):
        return False
    return any(math.isclose(dpi, common, rel_tol=2e-3) for common in _COMMON_DPI)


def read_space(tif: TiffFile, series: TiffPageSeries, n_slices: int) -> PhysicalSpace:
    """Read voxel size and position of one series of an open `tifffile.TiffFile`.

    Parameters
    ----------
    tif : tifffile.TiffFile
    series : tifffile.TiffPageSeries
    n_slices : int
        Number of slices along Z.
    """
    page = series.keyframe
    if tif.is_ome and series.kind == "ome":
        image = [s for s in tif.series if s.kind == "ome"].index(series)
        return from_ome(tif.ome_metadata or "", image)
    if tif.is_imagej:
        return from_imagej(page, tif.imagej_metadata or {}, n_slices)
    if tif.is_lsm:
        return from_lsm(tif.lsm_metadata or {})
    stamp = stamps.parse(page.description)
    if stamp is not None:
        sizes = zip(stamp.spatial_axes, stamp.voxel_size, strict=True)
        origin = zip(stamp.spatial_axes, stamp.origin, strict=True)
        return PhysicalSpace(dict(sizes), dict(origin), stamp.unit, stamp=stamp)
    found = vendor_pixel(page)
    if found is not None:
        return from_vendor(found, page)
    return from_resolution_tags(page)
