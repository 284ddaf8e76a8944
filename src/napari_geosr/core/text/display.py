"""Texts shown to users: names and paths, and objects in notebooks."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import numpy as np

from napari_geosr.core.types import AnyArray, AnyDType
from napari_geosr.core.units import PIXEL

#: Maximum length of a name shown in full, in characters including quotes.
_LONGEST_NAME = 40
#: Maximum length of the longer edge of a picture, in pixels.
_PICTURE_EDGE = 192
#: Percentile of the grey values that is shown as black.
_BLACK_PERCENTILE = 1
#: Percentile of the grey values that is shown as white.
_WHITE_PERCENTILE = 99


def printable(text: str) -> str:
    r"""Replace undecodable bytes in a string with escapes, such as ``\xff``.

    Python represents such bytes, which occur in file names that are not UTF-8, by
    surrogates. Surrogates cannot be written to files, or to most terminals.

    Examples
    --------
    >>> printable(b"scan-\xff.tif".decode("utf-8", "surrogateescape"))
    'scan-\\xff.tif'
    """
    if text.isascii():
        return text
    content = text.encode("utf-8", "surrogateescape")
    return content.decode("utf-8", "backslashreplace")


def short_path(path: Path) -> str:
    """Return a path with a tilde in place of the home folder."""
    home = Path.home()
    return str(Path("~", path.relative_to(home)) if path.is_relative_to(home) else path)


def one_line(kind: str, name: str, facts: Iterable[str]) -> str:
    """Return the `repr` of an object: ``<KIND 'NAME': FACT, FACT>``.

    Parameters
    ----------
    kind, name : str
    facts : iterable of str
        Facts to list, for example shape and voxel size.
    """
    shown = repr(name)
    if len(shown) > _LONGEST_NAME:
        shown = f"{shown[: _LONGEST_NAME - 2]}…{shown[-1]}"
    return f"<{kind} {shown}: {', '.join(facts)}>"


def array_facts(
    lengths: Mapping[str, int],
    size: tuple[str, tuple[float, ...], str],
    dtype: AnyDType,
    *,
    lazy: bool,
) -> list[str]:
    """Describe an array for `one_line`: shape, voxel size, dtype, memory.

    Parameters
    ----------
    lengths : mapping of str to int
        Number of voxels by axis name.
    size : tuple
        The kind of size (``"voxel size"``), the edge lengths, and their unit; a size in
        pixels is shown as unknown.
    """
    # Imported here because loading pydantic takes noticeable time.
    from napari_geosr.core.config import format_bytes

    word, edges, unit = size
    texts = [f"{edge:.4g}" for edge in edges]
    found = f"{' × '.join(texts if len(set(texts)) > 1 else texts[:1])} {unit}"
    nbytes = math.prod(lengths.values()) * dtype.itemsize
    return [
        " × ".join(f"{letter} {n}" for letter, n in lengths.items()),
        f"{word} {'unknown' if unit == PIXEL else found}",
        str(dtype),
        format_bytes(nbytes),
        *(["lazy"] if lazy else []),
    ]


def html_figure(text: str, plane: AnyArray | None, caption: str) -> str:
    """Return a picture of `plane`, if given, next to `text`, as HTML.

    Parameters
    ----------
    text : str
        Plain text; it is escaped.
    plane : ndarray of shape (Y, X) or None
    caption : str
        Caption shown below `text`.
    """
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
    """Draw a small grey-scale PNG of a plane (Y, X); non-finite values are black."""
    import imagecodecs

    step = max(1, math.ceil(max(plane.shape) / _PICTURE_EDGE))
    values = plane[::step, ::step]
    if values.dtype.kind == "c":
        values = np.abs(values)
    values = values.astype(np.float64) / 4  # prevents differences from overflowing
    finite = np.isfinite(values)
    grey = np.zeros(values.shape, np.uint8)
    if finite.any():
        black, white = np.percentile(
            values[finite], (_BLACK_PERCENTILE, _WHITE_PERCENTILE)
        )
        if white <= black:  # nearly all values are equal
            black, white = values[finite].min(), values[finite].max()
        # If all values are equal, show medium grey.
        share = (values[finite] - black) / (white - black) if white > black else 0.5
        grey[finite] = np.clip(255 * share, 0, 255).astype(np.uint8)
    return bytes(imagecodecs.png_encode(grey))
