"""Arrange the stored axes of a file as T, C, Z, Y, X.

Stored axes of length one are dropped, unless they are Y or X, or the stamp of the file
(`io.stamp`) lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import Note
from napari_geosr.core.volume import AXES
from napari_geosr.io.file_voxels import FileArray, FileVoxels
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.voxel_sources import ArrangedSource, arrange

#: Maximum size in bytes of a volume that is read when it is opened; reading also
#: verifies the file.
EAGER_BYTES = 32 * 1024**2
#: Maximum size in bytes of a single contiguous image that is read when opened; the
#: limit is lower because the image may be one of many slices.
EAGER_IMAGE_BYTES = 1024**2


def arrangement(
    shape: tuple[int, ...],
    letters: str,
    axes: str | None,
    path: Path,
    notes: list[str],
) -> tuple[list[int | None], str]:
    """Return the order of the stored axes in the result, and the result's axis letters.

    Axes of length one are dropped unless they are Y or X, or `axes` names every axis.
    Without `axes`, unnamed axes become Z, T and C, innermost first, each with a note.

    Parameters
    ----------
    shape : tuple of int
        Shape as stored.
    letters : str
        Letters of the stored axes; S (samples) counts as C, other letters are unknown.
    axes : str or None
        Axes as given by the user.
    path : Path
        File named in messages.
    notes : list of str
        Receives a sentence about each assumption.

    Returns
    -------
    order : list of int or None
        Stored axis of each letter of the result; None for a new axis of length one.
    axes : str

    Raises
    ------
    FileError
        If the axes cannot be determined, or `axes` does not match the shape.
    """
    names = list(letters.replace("S", "C"))
    kept = [i for i, a in enumerate(names) if a in "YX" or shape[i] > 1]
    if axes is not None:
        given = axes.upper()
        if len(given) == len(shape):
            kept = list(range(len(shape)))
        fits = len(given) == len(kept) and len(set(given)) == len(given)
        if not fits or not set(given) <= set(AXES) or not set("YX") <= set(given):
            raise FileError(
                f"{path.name} has {len(kept)} axes {tuple(shape[i] for i in kept)}; "
                f"axes {axes!r} do not match. Give one letter of T, C, Z, Y, X for "
                "each."
            )
        for i, letter in zip(kept, given, strict=True):
            names[i] = letter
    else:
        # Name unknown axes from the innermost outwards: the pages of a stack become Z.
        for i in reversed(kept):
            if names[i] in AXES and names.count(names[i]) == 1:
                continue
            free = [a for a in "ZTC" if a not in [names[j] for j in kept]]
            if not free:
                raise FileError(
                    f"{path.name} has axes {tuple(shape)} of unknown meaning. Save it "
                    "with no axes other than T, C, Z, Y and X."
                )
            names[i] = free[0]
            word = {"Z": "slices (Z)", "T": "time (T)", "C": "channels (C)"}[free[0]]
            notes.append(
                Note(
                    f"The file does not name its axis of length {shape[i]}; it was "
                    f"treated as {word}.",
                    "axes",
                )
            )
    final = "".join(a for a in AXES if a in [names[i] for i in kept])
    by_letter = {names[i]: i for i in kept}
    return [by_letter[a] for a in final], final


def channel_names(
    names: Sequence[str], axes: str, shape: Sequence[int]
) -> dict[str, tuple[str, ...]]:
    """Return the metadata entry with the channel names, if every channel has a name.

    Parameters
    ----------
    names : sequence of str
    axes : str
    shape : sequence of int
        Shape of the volume.
    """
    at = axes.find("C")
    if at < 0 or len(names) != shape[at]:
        return {}
    return {"channels": tuple(names)}


def restore_singletons(
    order: list[int | None], final: str, shape: tuple[int, ...], axes: str
) -> tuple[list[int | None], str]:
    """Add back the axes of length one that the stamp lists.

    Parameters
    ----------
    order : list of int or None
        As returned by `arrangement`.
    final : str
        Axis letters that correspond to `order`.
    shape : tuple of int
        Shape as stored.
    axes : str
        All letters, from the stamp.

    Returns
    -------
    order : list of int or None
    axes : str
    """
    listed = [a for a in axes if a in final]
    if "".join(listed) != final:
        return order, final
    by_letter = dict(zip(final, order, strict=True))
    return [by_letter.get(a) for a in axes], axes


def finish(
    source: Any, order: list[int | None], chunks: tuple[int, ...], path: Path, axes: str
) -> Any:
    """Return the voxels in native byte order: a numpy array, or a lazy array.

    Parameters
    ----------
    source : array-like
        Voxels as stored.
    order : list of int or None
        As returned by `arrangement`.
    chunks : tuple of int
        Shape of the blocks in which a lazy array is read, along the stored axes.
    path : Path
        File named in error messages about a lazy array.
    axes : str
        Letters of the result.
    """
    if isinstance(source, np.ndarray):
        data = arrange(source, order)
        if data.dtype.isnative:
            return data
        if data.nbytes <= EAGER_BYTES:
            return data.astype(data.dtype.newbyteorder("="))
        source, order = data, list(range(data.ndim))
        chunks = (1,) * (data.ndim - 2) + data.shape[-2:]
    arranged = ArrangedSource(source, order)
    blocks = tuple(1 if i is None else chunks[i] for i in order)
    kind = FileArray if isinstance(source, FileVoxels) else LazyArray
    return kind(arranged, path, blocks)


def contiguous(
    path: Path, dtype: Any, offset: int, shape: Sequence[int], eager_bytes: int
) -> Any:
    """Return contiguous voxels of a file: read now if small, otherwise lazily.

    Parameters
    ----------
    path : Path
    dtype : dtype
        Data type as stored, with byte order.
    offset : int
        Bytes before the first voxel.
    shape : sequence of int
    eager_bytes : int
        Maximum size of a volume that is read now; for images, at most
        `EAGER_IMAGE_BYTES`.

    Returns
    -------
    ndarray or FileVoxels
    """
    source = FileVoxels(path, dtype, offset, shape)
    is_image = sum(n > 1 for n in shape) <= 2
    most = min(eager_bytes, EAGER_IMAGE_BYTES) if is_image else eager_bytes
    return np.asarray(source) if source.nbytes <= most else source
