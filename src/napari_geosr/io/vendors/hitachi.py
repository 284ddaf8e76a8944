"""Hitachi microscopes: ``Name=Value`` lines in the image description or a text file.

The text file has the image's name with the suffix ``.txt``; its first line is
``[SemImageFile]`` or ``[TemImageFile]``. ``PixelSize`` is in nm; ``DataSize`` is the
size of the image in pixels. The encoding is ASCII, or UTF-16 with a byte order mark.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.io.vendors.pixel import VendorPixel, positive, text_of_tag, whole

if TYPE_CHECKING:
    from tifffile import TiffPage

_MARKS = ("[SemImageFile]", "[TemImageFile]")
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: Maximum size of a text file that is read, in bytes; microscopes write a few kB.
_LARGEST = 1 << 20
_NM = 1e-9


def pixel(page: TiffPage) -> VendorPixel | None:
    """Return the pixel size of a Hitachi image, or None."""
    text = text_of_tag(page, "ImageDescription")
    if not _is_ours(text):
        text = _beside(Path(page.parent.filehandle.path))
    if not _is_ours(text):
        return None
    values = dict(re.findall(r"^\s*(\w+)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    size = positive(values.get("PixelSize"))
    if size is None:
        return None
    columns = re.match(r"(\d+)\s*[xX×*]", values.get("DataSize", ""))
    written_for = None if columns is None else whole(columns[1])
    return VendorPixel(size * _NM, size * _NM, "Hitachi SEM", written_for)


def _is_ours(text: str) -> bool:
    return any(mark in text for mark in _MARKS)


def _beside(path: Path) -> str:
    """Return the content of the text file next to an image; empty if there is none."""
    for suffix in (".txt", ".TXT"):
        file = path.with_suffix(suffix)
        try:
            if file.stat().st_size > _LARGEST:
                continue
            content = file.read_bytes()
        except OSError:
            continue  # missing or unreadable: the pixel size remains unknown
        if content.startswith(_BYTE_ORDER_MARKS):
            return content.decode("utf-16", errors="replace")
        return content.decode("latin-1")
    return ""
