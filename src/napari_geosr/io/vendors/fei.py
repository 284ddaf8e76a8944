"""FEI and Thermo Fisher microscopes: tags 34680 (SFEG) and 34682 (Helios).

tifffile reads the tags as sections of values; lengths are in metres. ``[Scan]``
describes the scan of the image; ``[Beam] Scan`` names the section for the scan of the
beam that was used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_geosr.core.types import AnyMapping
from napari_geosr.io.vendors.pixel import VendorPixel, positive, whole

if TYPE_CHECKING:
    from tifffile import TiffPage

_TAGS = (34682, 34680)
_SCANS = ("Scan", "EScan", "IScan")


def pixel(page: TiffPage) -> VendorPixel | None:
    """Return the pixel size of an FEI or Thermo Fisher image, or None."""
    for tag in _TAGS:
        sections = page.tags.valueof(tag)
        if not isinstance(sections, Mapping):
            continue
        named = _section(sections, "Beam").get("Scan")
        for name in (_SCANS[0], named, *_SCANS[1:]):
            scan = _section(sections, name)
            width = positive(scan.get("PixelWidth"))
            height = positive(scan.get("PixelHeight"))
            if width is not None:
                columns = whole(_section(sections, "Image").get("ResolutionX"))
                return VendorPixel(height or width, width, "FEI/Thermo SEM", columns)
    return None


def _section(sections: AnyMapping, name: Any) -> AnyMapping:
    section = sections.get(name)
    return section if isinstance(section, Mapping) else {}
