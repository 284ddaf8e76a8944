"""Zeiss SmartSEM: tag 34118, which tifffile reads as names, values and units.

``AP_IMAGE_PIXEL_SIZE`` is the pixel size of the stored image; older versions call it
``AP_PIXEL_SIZE``. The fourth unnamed number is the pixel size of the display in metres;
the display is always 1024 pixels wide, whatever the width of the image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari_geosr.core.types import AnyMapping
from napari_geosr.core.units import PIXEL, convert_length, parse_unit
from napari_geosr.io.vendors.pixel import VendorPixel, positive, whole

if TYPE_CHECKING:
    from tifffile import TiffPage

_TAG = 34118
_SIZES = ("ap_image_pixel_size", "ap_pixel_size")
#: Width of the display to which the stored pixel size refers, in pixels.
_DISPLAY_WIDTH = 1024
#: Index of the pixel size in the list of unnamed values.
_PIXEL_SIZE_INDEX = 3
_ORIGIN = "Zeiss SEM"


def pixel(page: TiffPage) -> VendorPixel | None:
    """Return the pixel size of a Zeiss SmartSEM image, or None."""
    metadata = page.tags.valueof(_TAG)
    if not isinstance(metadata, Mapping):
        return None
    columns = _stored_columns(metadata)
    for name in _SIZES:
        item = metadata.get(name, ())  # title, value and, for lengths, unit
        if len(item) < len(("title", "value", "unit")):
            continue
        size, known = positive(item[1]), parse_unit(item[2])
        if size is not None and known not in (None, PIXEL):
            metres = convert_length(size, str(known), "m")
            return VendorPixel(metres, metres, _ORIGIN, columns)
    unnamed = metadata.get("", ())
    size = (
        positive(unnamed[_PIXEL_SIZE_INDEX])
        if len(unnamed) > _PIXEL_SIZE_INDEX
        else None
    )
    if size is None:
        return None
    metres = size * _DISPLAY_WIDTH / (columns or int(page.imagewidth))
    return VendorPixel(metres, metres, _ORIGIN, columns)


def _stored_columns(metadata: AnyMapping) -> int | None:
    """Return the width of the image when stored: ``Store resolution = 1024 * 768``."""
    text = " ".join(str(part) for part in metadata.get("dp_image_store", ())[1:])
    found = re.match(r"\s*(\d+)\s*\*", text)
    return None if found is None else whole(found[1])
