"""How a notebook shows a volume: one line of text, or a small picture with it."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from html import escape

import numpy as np

from napari_geosr.core.types import AnyArray, AnyDType

#: Longest name that is shown whole, in letters, with its quotes.
_LONGEST_NAME = 40
#: Longer edge of a picture in pixels, at most.
_PICTURE_EDGE = 192
#: Percentiles of the grey values that are shown black and white.
_BLACK, _WHITE = 1, 99


def printable(text: str) -> str:
    r"""A text whose bytes that are no letters are written as ``\xff``.

    Python reads names of files that are not UTF-8 with such letters, which no file and
    few terminals take.

    Examples
    --------
    >>> printable(b"scan-\xff.tif".decode("utf-8", "surrogateescape"))
    'scan-\\xff.tif'
    """
    if text.isascii():
        return text
    content = text.encode("utf-8", "surrogateescape")
    return content.decode("utf-8", "backslashreplace")


def one_line(
    name: str,
    lengths: Mapping[str, int],
    voxel_size: tuple[float, ...] | None,
    unit: str,
    dtype: AnyDType,
    nbytes: int,
    *,
    lazy: bool,
) -> str:
    """What a volume is, in fewer than 200 letters.

    Parameters
    ----------
    lengths : mapping of str to int
        Number of voxels by the letter of the axis.
    voxel_size : tuple of float or None
        In `unit`; None where it is not known.
    """
    shown = repr(name)
    if len(shown) > _LONGEST_NAME:
        shown = f"{shown[: _LONGEST_NAME - 2]}…{shown[-1]}"
    shape = " × ".join(f"{letter} {n}" for letter, n in lengths.items())
    if voxel_size is None:
        size = "unknown"
    else:
        edges = [f"{edge:.4g}" for edge in voxel_size]
        size = f"{' × '.join(edges if len(set(edges)) > 1 else edges[:1])} {unit}"
    from napari_geosr.core.config import format_bytes  # loads pydantic

    memory = f"{format_bytes(nbytes)}{', lazy' if lazy else ''}"
    return f"<Volume {shown}: {shape}, voxel size {size}, {dtype}, {memory}>"


def html_figure(text: str, plane: AnyArray | None, caption: str) -> str:
    """A picture of `plane`, where there is one, beside `text`, as HTML."""
    picture = ""
    if plane is not None:
        source = b64encode(plane_png(plane)).decode("ascii")
        picture = (
            f'<img src="data:image/png;base64,{source}" alt="{escape(caption)}" '
            'style="vertical-align: middle; margin-right: 1em">'
        )
    below = f"<br><small>{escape(caption)}</small>" if caption else ""
    return (
        f'<div>{picture}<span style="display: inline-block; vertical-align: middle">'
        f"<code>{escape(text)}</code>{below}</span></div>"
    )


def plane_png(plane: AnyArray) -> bytes:
    """A small picture in grey of a plane (Y, X); what is not finite is black."""
    import imagecodecs

    step = max(1, math.ceil(max(plane.shape) / _PICTURE_EDGE))
    values = plane[::step, ::step]
    if values.dtype.kind == "c":
        values = np.abs(values)
    values = values.astype(np.float64) / 4  # differences of the largest stay finite
    finite = np.isfinite(values)
    grey = np.zeros(values.shape, np.uint8)
    if finite.any():
        black, white = np.percentile(values[finite], (_BLACK, _WHITE))
        if white <= black:  # all but a few values are one
            black, white = values[finite].min(), values[finite].max()
        # Of one value alone there is no contrast: medium grey.
        share = (values[finite] - black) / (white - black) if white > black else 0.5
        grey[finite] = np.clip(255 * share, 0, 255).astype(np.uint8)
    return bytes(imagecodecs.png_encode(grey))
