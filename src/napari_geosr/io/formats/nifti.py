"""NIfTI, read with nibabel (an optional dependency)."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyArray
from napari_geosr.core.units import PIXEL, parse_unit
from napari_geosr.core.volume import Volume
from napari_geosr.io.arrangement import EAGER_BYTES, finish
from napari_geosr.io.formats import FileFormat, ReadOptions
from napari_geosr.io.lazy import decoding
from napari_geosr.io.reader_questions import ask_voxel_size
from napari_geosr.io.suffixes import stem_of

if TYPE_CHECKING:
    import numpy.typing as npt


#: Lock that is held while nibabel's messages are collected.
_LOGGING = threading.Lock()


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI image; its X, Y, Z, T order becomes T, Z, Y, X.

    Raises
    ------
    FileError
        If nibabel is not installed, the file is damaged, or its image is not
        real-valued.
    """
    try:
        import nibabel
    except ImportError as error:
        raise FileError(
            f"{path.name} is a NIfTI image; reading it needs an extra package. Install "
            'it with: pip install "napari-geosr[nifti]".'
        ) from error
    with decoding(path, "its header"), _corrections() as notes:
        # Not memory-mapped: a file that shrinks would kill the process.
        image: Any = nibabel.load(path, mmap=False)
    header = image.header
    if not isinstance(image, nibabel.Nifti1Pair):
        raise FileError(
            f"{path.name} is a {type(image).__name__}, not a NIfTI image or volume."
        )
    least = header.single_vox_offset if header.is_single else 0
    _refuse_low_offset(path, int(getattr(image.dataobj, "offset", least)), least)
    shape = tuple(int(n) for n in image.shape)
    first = (slice(0, 1),) * len(shape)
    if not 2 <= len(shape) <= 5 or math.prod(shape) == 0:
        raise FileError(f"{path.name} has shape {shape}: not an image or volume.")
    with decoding(path):
        dtype = np.asarray(image.dataobj[first]).dtype  # after the header's scaling
    if dtype.kind not in "biuf":
        raise FileError(
            f"{path.name} contains values of type {dtype}; volumes must be "
            "real-valued. Convert it first."
        )
    # Fastest axis first on disk; a fifth axis holds vectors or colours.
    axes = "XYZTC"[: len(shape)]
    ordered = "".join(a for a in "TCZYX" if a in axes)
    kept = [a for a in ordered if a in "YX" or shape[axes.index(a)] > 1]
    order: list[int | None] = [axes.index(a) for a in kept]
    source = _Proxy(image.dataobj, shape, dtype)
    data: Any = source
    if math.prod(shape) * dtype.itemsize <= EAGER_BYTES:
        with decoding(path):
            data = np.asarray(image.dataobj)
    chunks = (*shape[:2], *(1 for _ in shape[2:]))
    final = "".join(kept)
    spatial = [a for a in kept if a in "ZYX"]
    try:
        unit = parse_unit(header.get_xyzt_units()[0]) or PIXEL
    except KeyError:  # not a code of the standard
        unit = PIXEL
        notes.append("The unit in the file's header is invalid.")
    origin, more = _origin(image.affine, "XYZ")
    notes += more
    volume = Volume(
        data=finish(data, order, chunks, path, final),
        axes=final,
        voxel_size=tuple(float(header.get_zooms()[axes.index(a)]) for a in spatial),
        unit=unit,
        origin=tuple(origin[a] for a in spatial),
        name=stem_of(path),
        source=path,
        metadata={"format": "NIfTI", **({"notes": tuple(notes)} if notes else {})},
    )
    return ask_voxel_size(volume)


def _refuse_low_offset(path: Path, offset: int, least: int) -> None:
    """Reject a file whose header says that the voxels begin within the header."""
    if offset < least:
        raise FileError(
            f"{path.name} is damaged: its header says that the voxels start at byte "
            f"{offset}, which is inside the header ({least} bytes). Export it again."
        )


@contextmanager
def _corrections() -> Iterator[list[str]]:
    """Collect nibabel's corrections to a header as notes instead of printing them."""
    notes: list[str] = []

    class Collector(logging.Handler):
        """Turns messages into notes."""

        def emit(self, record: logging.LogRecord) -> None:
            notes.append(f"The file's header is invalid: {record.getMessage()}.")

    logger, handler = logging.getLogger("nibabel.global"), Collector()
    with _LOGGING:  # all threads share the logger
        before, printing = logger.propagate, list(logger.handlers)
        logger.propagate, logger.handlers = False, [handler]
        try:
            yield notes
        finally:
            logger.propagate, logger.handlers = before, printing


def _origin(affine: Any, axes: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """Position of the first voxel, and notes; zeros if rotated or mirrored."""
    matrix = np.asarray(affine, dtype=np.float64)
    steps = np.diag(matrix)[:3]
    tolerance = 1e-5 * np.abs(matrix[:3, :3]).max()
    is_straight = np.allclose(matrix[:3, :3], np.diag(steps), rtol=0, atol=tolerance)
    if is_straight and (steps > 0).all():
        place = dict(zip(axes, (float(v) for v in matrix[:3, 3]), strict=True))
        return place, ()
    note = (
        "The orientation in the file's header (a rotation or reflection) is not "
        "applied."
    )
    if matrix[:3, 3].any():
        note = (
            "The orientation and the origin in the file's header are not applied, "
            "because it rotates or mirrors the volume."
        )
    return dict.fromkeys(axes, 0.0), (note,)


class _Proxy:
    """A `VoxelSource` for nibabel's array proxy, which handles file locking."""

    def __init__(
        self, proxy: Any, shape: tuple[int, ...], dtype: npt.DTypeLike | None
    ) -> None:
        self.proxy = proxy
        self.shape = shape
        self.dtype = dtype

    def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
        return np.asarray(self.proxy[key])


class NiftiFormat(FileFormat):
    """NIfTI; its header defines the axes, so axes given by the user are ignored."""

    title = "NIfTI"
    suffixes = (".nii.gz", ".nii")
    rank = 50

    def read(self, path: Path, options: ReadOptions) -> Volume:
        return read_nifti(path)


FORMAT = NiftiFormat()
