"""Thermo Fisher microscopes that write XML: tag 34683.

Phenom: ``<FeiImage><pixelWidth unit="um">0.05</pixelWidth>…``. Larger instruments:
``<Metadata>…<BinaryResult><PixelSize><X unit="m" unitPrefixPower="1">5e-9</X>…``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from napari_geosr.core.units import PIXEL, convert_length, parse_unit
from napari_geosr.io.vendors.pixel import VendorPixel, positive, text_of_tag

if TYPE_CHECKING:
    from tifffile import TiffPage

_TAG = 34683
#: XPaths of pixel width and height, and the instrument that writes them.
_PLACES = (
    (".//{*}pixelWidth", ".//{*}pixelHeight", "Phenom SEM"),
    (".//{*}PixelSize/{*}X", ".//{*}PixelSize/{*}Y", "Thermo SEM"),
)


def pixel(page: TiffPage) -> VendorPixel | None:
    """Read the pixel size of a Thermo Fisher image with XML; None if there is none."""
    text = text_of_tag(page, _TAG).strip("\x00 \r\n\t")
    if not text.startswith("<"):
        return None
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError:
        return None
    for x, y, origin in _PLACES:
        width, height = _metres(root.find(x)), _metres(root.find(y))
        if width is not None:
            return VendorPixel(height or width, width, origin)
    return None


def _metres(element: ElementTree.Element | None) -> float | None:
    if element is None:
        return None
    value, unit = positive(element.text), parse_unit(element.get("unit"))
    prefix = positive(element.get("unitPrefixPower", "1"))
    if value is None or prefix is None or unit is None or unit == PIXEL:
        return None
    return convert_length(value * prefix, unit, "m")
