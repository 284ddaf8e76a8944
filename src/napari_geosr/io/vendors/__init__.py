"""Pixel sizes that electron microscopes store in vendor-specific tags and files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_geosr.io.vendors import fei, hitachi, thermo_xml, zeiss
from napari_geosr.io.vendors.pixel import VendorPixel

__all__ = ["VendorPixel", "vendor_pixel"]

_READERS: tuple[Callable[[Any], VendorPixel | None], ...] = (
    fei.pixel,
    thermo_xml.pixel,
    zeiss.pixel,
    hitachi.pixel,
)


def vendor_pixel(page: object) -> VendorPixel | None:
    """Read the pixel size from the microscope's own metadata.

    Parameters
    ----------
    page : tifffile.TiffPage
        Page of an open file.

    Returns
    -------
    VendorPixel or None
        None if no known microscope wrote the file, or it did not store a size.
    """
    for read in _READERS:
        found = read(page)
        if found is not None:
            return found
    return None
