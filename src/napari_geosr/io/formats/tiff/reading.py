"""Read TIFF files of all kinds: multi-page, ImageJ, OME, BigTIFF, compressed."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.config import (
    format_bytes,
)
from napari_geosr.core.errors import FileError, SeveralImagesError
from napari_geosr.core.file_warnings import (
    IS_COLOUR,
    ORIGIN_UNKNOWN,
    with_file_warnings,
)
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.io.arrangement import (
    EAGER_BYTES,
    arrangement,
    channel_names,
    contiguous,
    finish,
)
from napari_geosr.io.file_voxels import FileVoxels
from napari_geosr.io.formats.tiff.checks import (
    check_missing_planes,
    check_page_chain,
    check_segments,
    check_virtual_stack,
    left_out_planes,
    missing_planes,
    n_planes,
    stated_planes,
)
from napari_geosr.io.formats.tiff.colours import (
    can_invert,
    colour_map,
    inverted,
    is_colour,
    white_is_zero,
)
from napari_geosr.io.formats.tiff.metadata import read_space
from napari_geosr.io.lazy import decoding
from napari_geosr.io.reader_questions import (
    ask_voxel_size,
    frame_interval,
    stored_letters,
    unnamed_axis,
)
from napari_geosr.io.stamp import Stamp, stored_axes
from napari_geosr.io.suffixes import looks_like, stem_of
from napari_geosr.io.voxel_sources import VoxelSource

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

#: Highest plausible compression ratio; a file that claims more is damaged.
_MAX_RATIO = 5000
#: Maximum number of channels that ImageJ can overlay.
_MAX_CHANNELS = 7


_silent_lock = threading.Lock()
_silent_readers: list[None] = []


def _is_log_enabled(_record: logging.LogRecord) -> bool:
    return not _silent_readers


@contextmanager
def _tifffile_silenced() -> Iterator[None]:
    """Suppress tifffile's log messages; errors of napari-geosr also state a remedy.

    Several threads may read at the same time, and tifffile starts its own threads.
    """
    logging.getLogger("tifffile").addFilter(_is_log_enabled)
    with _silent_lock:
        _silent_readers.append(None)
    try:
        yield
    finally:
        with _silent_lock:
            _silent_readers.pop()


def read_tiff(
    path: Path, *, axes: str | None = None, dataset: str | None = None
) -> Volume:
    """Read one image of a TIFF file, lazily if the image is large.

    Images of up to 32 MiB (contiguous 2D images: 1 MiB) are read immediately. Larger
    images are read on demand if they are contiguous, or else decoded page by page.

    Parameters
    ----------
    path : Path
    axes : str, optional
        The meaning of the stored axes if the file does not state it, e.g. ``"TYX"`` for
        a time-lapse series. RGB samples are ``"C"``.
    dataset : str, optional
        Index of the image, if a file holds several images of different shapes.

    Raises
    ------
    FileError
        If the file is not a TIFF, is damaged or truncated, or has no real-valued image.
    """
    import tifffile

    with _tifffile_silenced():
        try:
            tif = tifffile.TiffFile(path)
        except tifffile.TiffFileError as error:
            if "not a TIFF file" not in str(error):
                raise _damaged(path, error) from error
            raise FileError(
                f"{path.name} is not a TIFF file ({looks_like(path)}). Check the file "
                "or download it again."
            ) from error
        except Exception as error:
            raise _damaged(path, error) from error
        with ExitStack() as opened, decoding(path, "its structure"):
            opened.enter_context(tif)
            directories = check_page_chain(tif, path)
            shown, warning = tif, ""
            if tif.is_imagej and len(directories) == 1:
                check_virtual_stack(tif, path)
            elif tif.is_imagej and (warning := _miscounted(tif, len(directories))):
                plain = tifffile.TiffFile(path, is_imagej=False)
                shown = opened.enter_context(plain)
            series = _choose_series(shown, path, dataset)
            _check_dtype(series, path)
            volume = _volume(tif, series, path, axes)
            warning = warning or left_out_planes(tif, series, directories)
            white = white_is_zero(series.keyframe, is_imagej=tif.is_imagej)
            metadata = with_file_warnings(volume.metadata, warning, white)
            return volume.replace(metadata=metadata)


def _miscounted(tif: TiffFile, n_stored: int) -> str:
    """Return a warning if an ImageJ description states a wrong number of planes.

    All planes are then read as slices, as in ImageJ.
    """
    series, stated = tif.series[0], stated_planes(tif.imagej_metadata or {})
    n_read = n_planes(series) if series.kind == "imagej" else stated
    if n_stored < 2 or n_read in (1, n_stored):
        return ""
    return (
        f"its ImageJ description states {n_read:,} planes, but it contains "
        f"{n_stored:,}; all {n_stored:,} were read. Check that the file is complete."
    )


def _damaged(path: Path, error: Exception | str) -> FileError:
    return FileError(
        f"{path.name} is a damaged TIFF file: its structure cannot be read ({error}). "
        "Copy or export the file again."
    )


def _choose_series(tif: TiffFile, path: Path, dataset: str | None) -> Any:
    """Return the image to read; raise if there are several of different shapes."""
    # Damaged tags may give lengths that are not integers.
    found = [s for s in tif.series if math.prod(int(n) for n in s.shape) > 0]
    if not found:
        raise FileError(
            f"{path.name} contains no pixels: its images have zero size. Export it "
            "again."
        )
    if dataset is not None:
        if not dataset.isdecimal() or int(dataset) >= len(found):
            raise FileError(
                f"{path.name} has no image {dataset!r}: choose 0 to {len(found) - 1}."
            )
        return found[int(dataset)]
    # Thumbnails and reduced copies are marked as such in the file.
    full = [s for s in found if not s.keyframe.is_reduced] or found
    if len(full) == 1 or tif.is_lsm:
        return full[0]
    shapes = ", ".join(" × ".join(map(str, s.shape)) for s in full[:4])
    more = " …" if len(full) > 4 else ""
    sizes = {str(found.index(s)): math.prod(int(n) for n in s.shape) for s in full}
    raise SeveralImagesError(
        f"{path.name} contains {len(full)} images of different shape or kind "
        f"({shapes}{more}), not one volume. Choose one as "
        f"'{path.name}::{next(iter(sizes))}' … '{path.name}::{list(sizes)[-1]}' on "
        "the command line; napari opens each as a layer.",
        sizes,
    )


def _check_dtype(series: TiffPageSeries, path: Path) -> None:
    dtype = series.dtype
    if dtype is None:
        raise FileError(
            f"{path.name} has an unsupported pixel type. Export it again as "
            "8- or 16-bit integers or 32-bit floats."
        )
    if np.dtype(dtype).kind == "c":
        raise FileError(
            f"{path.name} contains complex numbers ({np.dtype(dtype)}); volumes must "
            "be real-valued. Save its magnitude (or phase) as a separate file."
        )
    if np.dtype(dtype).kind not in "biuf":
        raise FileError(
            f"{path.name} contains values of type {np.dtype(dtype)}, not numbers. "
            "Export it again as integers or floats."
        )


def _is_stack_called_channels(series: TiffPageSeries) -> bool:
    """Return whether an ImageJ file labels the slices of a plain stack as channels.

    Programs that write an array without naming its axes produce such files; ImageJ
    itself overlays at most seven channels, and none of RGB images.
    """
    sizes = dict(zip(series.axes, series.shape, strict=True))
    most = 1 if "S" in sizes else _MAX_CHANNELS
    return sizes.get("C", 1) > most and not set("ZT") & set(sizes)


def _volume(
    tif: TiffFile, series: TiffPageSeries, path: Path, axes: str | None
) -> Volume:
    check_segments(tif, series, path)
    check_missing_planes(series, path)
    source, letters, chunks = _source(tif, series, path)
    colour = is_colour(series.keyframe, letters)
    notes: list[str] = []
    depth = "ZQI"
    if tif.is_imagej and _is_stack_called_channels(series):
        depth += "C"
        letters = letters.replace("C", "Q")
    n_slices = math.prod(
        n for n, a in zip(series.shape, series.axes, strict=True) if a in depth
    )
    space = read_space(tif, series, n_slices)
    if (
        axes is None
        and space.stamp is not None
        and isinstance(source, np.ndarray | FileVoxels)
    ):
        stored = _own_axes(space.stamp, source.shape, imagej=tif.is_imagej)
        if stored is not None:
            source = source.reshape([n for _, n in stored])
            axes = letters = "".join(letter for letter, _ in stored)
            chunks = (1,) * (len(source.shape) - 2) + source.shape[-2:]
    order, final = arrangement(tuple(source.shape), letters, axes, path, notes)
    data = finish(source, order, chunks, path, final)
    spatial = "".join(a for a in final if a in "ZYX")
    voxel_size, origin = space.complete(spatial)
    metadata: AnyDict = {"format": _format(tif, series)}
    if space.stamp is not None and space.stamp.kind != "image":
        metadata["kind"] = space.stamp.kind
    if space.stamp is not None:
        metadata |= space.stamp.directions
    own = () if space.stamp is None else space.stamp.channels
    metadata |= channel_names(own or space.channels, final, tuple(data.shape))
    if colour:
        metadata[IS_COLOUR] = True
    if not space.origin and space.stamp is None:
        metadata[ORIGIN_UNKNOWN] = True
    if space.notes or notes:
        metadata["notes"] = (*notes, *space.notes)
    volume = Volume(
        data=data,
        axes=final,
        voxel_size=voxel_size,
        unit=space.unit,
        origin=origin,
        name=stem_of(path),
        provenance=space.stamp.provenance if space.stamp else (),
        source=path,
        metadata=metadata,
    )
    volume = ask_voxel_size(volume, further=space.doubts, trusted=space.is_ours)
    if axes is not None or space.stamp is not None or _names_depth(tif, series):
        return volume
    interval = frame_interval(tif.imagej_metadata or {}) if tif.is_imagej else None
    return unnamed_axis(volume, stored_letters(order, final), interval=interval)


def _names_depth(tif: TiffFile, series: TiffPageSeries) -> bool:
    """Return whether the file states that an axis is Z.

    ImageJ calls the planes of any stack slices; only a slice spacing confirms Z.
    """
    is_named = "Z" in series.axes
    return is_named and not (
        tif.is_imagej and "spacing" not in (tif.imagej_metadata or {})
    )


def _own_axes(
    stamp: Stamp, shape: tuple[int, ...], *, imagej: bool
) -> list[tuple[str, int]] | None:
    """Return the stored axes with their lengths, as given in the stamp.

    Axes of length one are included. None if the shape differs from that in the stamp:
    another program changed the file.
    """
    lengths = dict(zip(stamp.axes, stamp.shape, strict=True))
    stored = [(a, lengths[a]) for a in stored_axes(stamp.axes, imagej=imagej)]
    same = [n for _, n in stored if n > 1] == [n for n in shape if n > 1]
    return stored if same else None


def _format(tif: TiffFile, series: TiffPageSeries) -> str:
    kind = "ImageJ TIFF" if tif.is_imagej else "OME-TIFF" if tif.is_ome else "TIFF"
    kind = "LSM" if tif.is_lsm else kind
    big = ", BigTIFF" if tif.is_bigtiff else ""
    compression = getattr(series.keyframe.compression, "name", "")
    packed = f", {compression.lower()}" if series.keyframe.compression != 1 else ""
    return f"{kind}{big}{packed}"


def _source(
    tif: TiffFile, series: TiffPageSeries, path: Path
) -> tuple[VoxelSource, str, tuple[int, ...]]:
    """Return the voxels of a series as stored, their axes, and the shape of a block."""
    page = series.keyframe
    shape = tuple(int(n) for n in series.shape)
    dtype = np.dtype(series.dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if series.dataoffset is not None and page.is_final:
        stored = dtype.newbyteorder(tif.byteorder)
        source: Any = contiguous(path, stored, series.dataoffset, shape, EAGER_BYTES)
        chunks = (1,) * (len(shape) - 2) + shape[-2:]
    else:
        _check_ratio(page, path)
        if nbytes <= EAGER_BYTES or not Pages.fit(series):
            with decoding(path):
                source = series.asarray(maxworkers=1)
            if source.shape != shape:  # tifffile returns the part that it could read
                raise _damaged(path, "it has fewer voxels than its shape requires")
            chunks = source.shape
        else:
            source = Pages(series, path)
            n = len(shape) - len(page.shape)
            chunks = (1,) * n + tuple(page.shape)
            with decoding(path):  # decoding the first page reveals most damage
                source.page(0)
    letters = series.axes
    if tif.is_imagej:
        return source, letters, chunks
    if can_invert(page):
        return inverted(source), letters, chunks
    if int(page.photometric) == 3 and page.colormap is not None:
        return colour_map(source, page.colormap, letters, chunks, path)
    return source, letters, chunks


def _check_ratio(page: TiffPage, path: Path) -> None:
    """Reject a huge page that is stored in a few bytes and would fill the memory."""
    stored = sum(page.databytecounts)
    if page.nbytes > 1 << 28 and page.nbytes > stored * _MAX_RATIO:
        raise FileError(
            f"{path.name} is damaged: its header gives a page of "
            f"{format_bytes(page.nbytes)}, but only {format_bytes(stored)} are stored. "
            "Copy or export the file again."
        )


class Pages:
    """A `VoxelSource` that decodes the pages of a TIFF series one at a time."""

    @staticmethod
    def fit(series: TiffPageSeries) -> bool:
        """Return whether the shape of a page matches the last axes of the series.

        The shapes differ if tifffile wrote a stack one voxel wide: Z and Y then form a
        page.
        """
        page = tuple(series.keyframe.shape)
        return tuple(series.shape[len(series.shape) - len(page) :]) == page

    def __init__(self, series: TiffPageSeries, path: Path) -> None:
        self.shape = tuple(int(n) for n in series.shape)
        self.dtype = np.dtype(series.dtype)
        pages = list(series.pages)
        self._pages = [page for page in pages if page is not None]
        self._page_shape = tuple(series.keyframe.shape)
        n_pages = math.prod(self.shape[: len(self.shape) - len(self._page_shape)])
        if not len(pages) == len(self._pages) == n_pages:
            raise missing_planes(path, n_pages - len(self._pages), n_pages)
        self._lock = threading.Lock()

    def page(self, index: int) -> AnyArray:
        """Decode one page."""
        one = self._pages[index]
        file = one.parent.filehandle  # in a multi-file OME-TIFF: the page's own file
        with self._lock, _tifffile_silenced():
            file.open()
            try:
                decoded: AnyArray = one.asarray()
            finally:
                file.close()
        return decoded.reshape(self._page_shape)

    def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
        leading = self.shape[: len(self.shape) - len(self._page_shape)]
        n = len(leading)
        out = np.empty([s.stop - s.start for s in key], dtype=self.dtype)
        for place in np.ndindex(out.shape[:n]):
            at = tuple(p + s.start for p, s in zip(place, key[:n], strict=True))
            index = int(np.ravel_multi_index(at, leading)) if n else 0
            out[place] = self.page(index)[key[n:]]
        return out
