"""PNG, JPEG and BMP pictures at full bit depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import IS_COLOUR
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats import FileFormat, ReadOptions
from napari_geosr.io.lazy import decoding
from napari_geosr.io.suffixes import looks_like, stem_of, suffix_of

_KINDS = {
    ".png": ("PNG", b"\x89PNG\r\n\x1a\n"),
    ".jpg": ("JPEG", b"\xff\xd8\xff"),
    ".jpeg": ("JPEG", b"\xff\xd8\xff"),
    ".bmp": ("BMP", b"BM"),
}


def read_picture(path: Path) -> Volume:
    """Read a picture as ``"YX"``, or ``"CYX"`` if it has colours or transparency.

    Raises
    ------
    FileError
        If the file is damaged or does not match its suffix.
    """
    import imagecodecs

    kind, beginning = _KINDS[suffix_of(path)]
    content = path.read_bytes()
    if not content.startswith(beginning):
        raise FileError(
            f"{path.name} is not a {kind} picture ({looks_like(path)}). Give it the "
            "correct suffix or download it again."
        )
    decode: Any = {
        "PNG": imagecodecs.png_decode,
        "JPEG": imagecodecs.jpeg8_decode,
        "BMP": imagecodecs.bmp_decode,
    }[kind]
    with decoding(path):
        pixels = np.asarray(decode(content))
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    several = pixels.ndim == 3
    # Two samples are grey and transparency.
    colour = {IS_COLOUR: True} if several and pixels.shape[-1] > 2 else {}
    return Volume(
        data=np.moveaxis(pixels, -1, 0) if several else pixels,
        axes="CYX" if several else "YX",
        name=stem_of(path),
        source=path,
        metadata={"format": kind, **colour},
    )


class PictureFormat(FileFormat):
    """PNG, JPEG and BMP; the first bytes must match the suffix."""

    title = "picture"
    suffixes = (".png", ".jpg", ".jpeg", ".bmp")
    rank = 60
    may_be_slice = True

    def read(self, path: Path, options: ReadOptions) -> Volume:
        return read_picture(path)


FORMAT = PictureFormat()
