"""NIfTI, read and written with nibabel (an optional dependency)."""

from __future__ import annotations

import gzip
import logging
import math
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

import numpy as np

from napari_geosr.core.array_parts.indexing import Slices
from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import unit_notes, with_file_warnings
from napari_geosr.core.machine.disk_space import reserve_space
from napari_geosr.core.orientation import LPS, ORIENTATION, RAS
from napari_geosr.core.types import AnyArray, AnyDict, AnyDType
from napari_geosr.core.units import PIXEL, convert_length, parse_unit
from napari_geosr.core.volume import Volume
from napari_geosr.io.arrangement import (
    EAGER_BYTES,
    channel_names,
    finish,
    restore_singletons,
)
from napari_geosr.io.formats import ReadOptions, WritableFileFormat
from napari_geosr.io.lazy import decoding
from napari_geosr.io.mapping import MappedFile, release_pages
from napari_geosr.io.orientation import Orientation, as_stored, orient
from napari_geosr.io.output import COPY_BYTES, Output, blank_outside
from napari_geosr.io.reader_questions import ask_voxel_size
from napari_geosr.io.spec import OutputPaths, OutputSpec
from napari_geosr.io.stamp import Stamp, agrees, parse
from napari_geosr.io.suffixes import stem_of
from napari_geosr.io.voxel_sources import FlippedSource, flipped

if TYPE_CHECKING:
    import numpy.typing as npt

#: Code of header extensions that contain text.
_COMMENT = "comment"
#: NIfTI's name for each unit that it supports.
_UNITS = {"µm": "micron", "mm": "mm", "m": "meter", PIXEL: "unknown"}
#: Unit in which lengths are stored, for each unit that NIfTI does not support.
_STORED_IN = {"pm": "µm", "Å": "µm", "nm": "µm", "cm": "mm", "in": "mm"}
#: Axes of a NIfTI file, fastest-varying first.
_AXES = "XYZTC"
#: Converts vectors along left, back and up into vectors along right, front and up.
_FROM_LPS = np.diag([-1.0, -1.0, 1.0])
#: Maximum length of an axis in NIfTI-1, in voxels; larger volumes are written as
#: NIfTI-2.
_LONGEST = 32767
_COMPRESSION = 5
#: Relative difference up to which two voxel sizes count as equal.
_SAME_SIZE = 1e-3
#: Maximum number of compressed files that are open for reading at a time.
_MOST_OPEN = 16
#: Lock that is held while nibabel's messages are collected.
_LOGGING = threading.Lock()


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI image; its X, Y, Z, T order becomes T, Z, Y, X.

    X points to the right, Y to the front and Z up, as in the header's coordinates: the
    stored axes are permuted and reversed as needed, and the origin is the position of
    the first voxel of the result. A rotation that is not a multiple of 90° is not
    applied, and a note is added; the handedness is preserved. If the header states no
    orientation, or the file was written by this package with X pointing to the left and
    Y to the back, the axes are kept as they are stored.

    Raises
    ------
    FileError
        If nibabel is not installed, the file is damaged, or its image is not
        real-valued.
    """
    nibabel = _import_nibabel(path.name, "reading")
    with decoding(path, "its header"), _corrections() as notes:
        # Not memory-mapped: a file that shrinks would kill the process.
        image: Any = nibabel.load(path, mmap=False)
    shape, dtype = _checked(path, image, nibabel)
    header = image.header
    # Fastest axis first on disk; a fifth axis holds vectors or colours.
    stamp = _own_stamp(header)
    found = _orientation(image, shape, stamp)
    notes += found.notes
    axes = found.axes + "XYZTC"[len(found.axes) : len(shape)]
    ordered = "".join(a for a in "TCZYX" if a in axes)
    kept = [a for a in ordered if a in "YX" or shape[axes.index(a)] > 1]
    order: list[int | None] = [axes.index(a) for a in kept]
    final = "".join(kept)
    if stamp is not None:
        order, final = restore_singletons(order, final, shape, stamp.axes)
    data: Any = FlippedSource(_Proxy(path, shape, dtype), found.flipped_axes)
    if math.prod(shape) * dtype.itemsize <= EAGER_BYTES:
        with decoding(path):
            data = flipped(np.asarray(image.dataobj), found.flipped_axes)
    chunks = (*shape[:2], *(1 for _ in shape[2:]))
    spatial = "".join(a for a in final if a in "ZYX")
    try:
        unit = parse_unit(header.get_xyzt_units()[0]) or PIXEL
    except KeyError:  # not a code defined by the standard
        unit = PIXEL
        notes.append("The unit in the file's header is invalid.")
    zooms = dict(zip(axes, map(float, header.get_zooms()), strict=True))
    voxel_size = tuple(zooms.get(a, 1.0) for a in spatial)
    origin = tuple(found.origin.get(a, 0.0) for a in spatial)
    metadata: AnyDict = {
        "format": "NIfTI",
        **with_file_warnings(found.metadata, _other_size(image)),
    }
    exact = None
    if stamp is not None:
        exact = _exact_geometry(stamp, spatial, unit, voxel_size, origin)
        unit, voxel_size, origin = exact or (unit, voxel_size, origin)
        if exact and not found.notes and not stamp.orientation:
            # The orientation was unknown when the file was written.
            metadata.pop(ORIENTATION, None)
        if stamp.kind != "image":
            metadata["kind"] = stamp.kind
    notes += unit_notes(voxel_size, unit)
    if notes:
        metadata["notes"] = tuple(notes)
    data = finish(data, order, chunks, path, final)
    if stamp is not None:
        metadata |= channel_names(stamp.channels, final, tuple(data.shape))
    volume = Volume(
        data=data,
        axes=final,
        voxel_size=voxel_size,
        unit=unit,
        origin=origin,
        name=stem_of(path),
        provenance=() if stamp is None else stamp.provenance,
        source=path,
        metadata=metadata,
    )
    return ask_voxel_size(volume, trusted=exact is not None)


def _other_size(image: Any) -> str:
    """Return a warning if the header states two different voxel sizes; else ""."""
    header = image.header
    # Only an sform has a voxel size of its own; a qform has none.
    if not header["sform_code"]:
        return ""
    matrix = np.asarray(image.affine, dtype=np.float64)[:3, :3]
    sizes: AnyArray = np.array([*header.get_zooms(), 1.0, 1.0][:3], np.float64)
    edges = np.linalg.norm(matrix, axis=0)
    n = min(3, len(header.get_zooms()))
    if np.allclose(edges[:n], sizes[:n], rtol=_SAME_SIZE) or not np.all(edges > 0):
        return ""
    used, other = (
        " × ".join(f"{edge:.4g}" for edge in each[:n]) for each in (sizes, edges)
    )
    return (
        f"The file's header states two different voxel sizes: {used} (pixdim) and "
        f"{other} (sform). The first is used and the scaling of the second is not "
        "applied, so lengths and positions may be wrong. Give the correct voxel size."
    )


def _checked(path: Path, image: Any, nibabel: Any) -> tuple[tuple[int, ...], Any]:
    """Return the shape and data type of an image that can be read as a volume."""
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
        raise FileError(
            f"{path.name} has shape {shape}, so it is not an image or volume."
        )
    with decoding(path):
        # The type after the scaling that the header requests.
        dtype = np.asarray(image.dataobj[first]).dtype
    if dtype.kind not in "biuf":
        raise FileError(
            f"{path.name} contains values of type {dtype}; volumes must be "
            "real-valued. Convert it first."
        )
    return shape, dtype


def _refuse_low_offset(path: Path, offset: int, least: int) -> None:
    """Reject a file if its header states that the voxels begin within the header."""
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
        """Turns the messages that nibabel logs into notes."""

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


def _orientation(
    image: Any, shape: tuple[int, ...], stamp: Stamp | None
) -> Orientation:
    """Return the mapping of the stored axes to X, Y and Z."""
    header, n = image.header, min(3, len(shape))
    if not header["sform_code"] and not header["qform_code"]:
        return as_stored(n)  # nibabel's affine would mirror X
    matrix = np.asarray(image.affine, dtype=np.float64)
    lengths = (*shape[:3], 1)[:3]
    found = orient(matrix[:3, :3], matrix[:3, 3], lengths)
    if stamp is not None and stamp.orientation == LPS:
        as_written = orient(
            _FROM_LPS @ matrix[:3, :3], _FROM_LPS @ matrix[:3, 3], lengths
        )
        if not as_written.notes:
            found = replace(as_written, name=LPS)
    if lengths[2] > 1 or found.axes[2] == "Z":
        return replace(found, axes=found.axes[:n], flipped=found.flipped[:n])
    note = (
        "The orientation and the origin in the file's header are not applied, because "
        "its image is not in the plane of X (right) and Y (front)."
    )
    return as_stored(n, note)


class _Proxy:
    """A `VoxelSource` for nibabel's array proxy.

    A compressed file is kept open; otherwise, each read would decompress it from its
    start. Only the most recently read files are kept open.
    """

    #: Proxies with an open file, least recently read first, and the lock for the list.
    _open: ClassVar[list[weakref.ref[_Proxy]]] = []
    _opening = threading.Lock()

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike | None
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._path = path
        self._is_compressed = path.suffix.lower() == ".gz"
        self._proxy: Any = None
        self._reading = threading.RLock()

    def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
        with self._reading:
            proxy = self._proxy
            if proxy is None:
                proxy = self._proxy = self._loaded()
            if self._is_compressed:
                self._limit_open_files()
            try:
                return np.asarray(proxy[key])
            except BaseException:
                # After an interrupted read, the position in the file is not the one
                # that its reader assumes, so later reads would give wrong voxels.
                self._proxy = None
                raise

    def _loaded(self) -> Any:
        """Return a new array proxy of the file."""
        nibabel = _import_nibabel(self._path.name, "reading")
        # The corrections were already noted when the file was opened.
        with decoding(self._path), _corrections():
            image = nibabel.load(
                self._path, mmap=False, keep_file_open=self._is_compressed
            )
        return image.dataobj

    def _limit_open_files(self) -> None:
        """Close the least recently read files; reads in progress are not affected."""
        with self._opening:
            others = [ref for ref in self._open if ref() not in (None, self)]
            self._open[:] = [*others, weakref.ref(self)][-_MOST_OPEN:]
            for reference in others[: 1 - _MOST_OPEN]:
                if (old := reference()) is not None:
                    old._proxy = None


class NiftiOutput(Output):
    """A NIfTI file; its voxels are collected in a temporary file in the same folder.

    The temporary file has no name, so that a killed run leaves nothing behind. The
    NIfTI file is written, and compressed if its suffix is ``.nii.gz``, once all voxels
    have been written.
    """

    def __init__(self, paths: OutputPaths, spec: OutputSpec) -> None:
        super().__init__(paths, spec)
        self.dtype: AnyDType = np.dtype(spec.dtype)
        # This raises an error if the dtype is not supported.
        self._new_header(self.stamp)
        self.temporary.touch()
        stored = [a for a in reversed(_AXES) if a in self.stamp.axes]
        shape = [self.stamp.shape[self.stamp.axes.index(a)] for a in stored]
        file = tempfile.TemporaryFile(dir=self.temporary.parent)  # noqa: SIM115  # closed by `close`
        self._raw = cast("BinaryIO", file)
        # If the file system cannot reserve space, the earlier check of the free space
        # has to suffice.
        reserve_space(self._raw, spec.nbytes)
        little = self.dtype.newbyteorder("<")
        mapped = MappedFile(cast("Any", self._raw), little, "w+", 0, tuple(shape))
        self._map: MappedFile | None = mapped
        self.array = mapped.transpose([stored.index(a) for a in self.stamp.axes])
        self.block_shape = (1,) * (len(spec.shape) - 2) + tuple(spec.shape[-2:])

    def blank(self, finished: Sequence[Slices]) -> None:
        """Write NaN to the voxels outside the `finished` boxes, plane by plane."""
        blank_outside(self.array, finished)

    def complete(self, *, pyramid: bool) -> None:
        """Write header and voxels, and close the file.

        Parameters
        ----------
        pyramid : bool
            Not used: NIfTI files have one level.
        """
        assert self._map is not None
        header = self._new_header(self.final_stamp())
        with ExitStack() as stack:
            stream: Any = stack.enter_context(self.temporary.open("wb"))
            if self.path.name.lower().endswith(".gz"):
                stream = stack.enter_context(
                    gzip.GzipFile("", "wb", _COMPRESSION, stream, mtime=0)
                )
            header.write_to(stream)
            flat = self._map.reshape(-1)
            step = max(1, COPY_BYTES // self.dtype.itemsize)
            for start in range(0, flat.size, step):
                stream.write(np.asarray(flat[start : start + step]).tobytes())
                release_pages(self._map)
        self.close()

    def close(self) -> None:
        """Discard voxels that have not been written to the file."""
        self._map = self.array = None
        self._raw.close()

    def _new_header(self, stamp: Stamp) -> Any:
        """Return the header of the file, with the stamp as an extension."""
        name = self.path.name
        nibabel = _import_nibabel(name, "writing")
        lengths = dict(zip(stamp.axes, stamp.shape, strict=True))
        shape = [lengths.get(a, 1) for a in _AXES]
        least = len("XYZ") if "Z" in stamp.axes else len("XY")
        while len(shape) > least and shape[-1] == 1:
            shape.pop()
        is_long = max(shape) > _LONGEST
        header = nibabel.Nifti2Header() if is_long else nibabel.Nifti1Header()
        try:
            header.set_data_dtype(self.dtype)
        except nibabel.spatialimages.HeaderDataError as error:
            raise FileError(
                f"{name} cannot be written: NIfTI does not support {self.dtype.name} "
                "voxels. Use the suffix .tif or .ome.zarr."
            ) from error
        header.set_data_shape(shape)
        unit, factor = _stored_unit(stamp.unit)
        sizes = [factor * stamp.size_along(axis) for axis in "XYZ"]
        place = [factor * stamp.origin_along(axis) for axis in "XYZ"]
        affine, turn = np.eye(4), _rotation(stamp)
        affine[:3, :3] = turn * sizes
        affine[:3, 3] = turn @ place
        header.set_zooms([*sizes[: len(shape)], *(1.0 for _ in shape[3:])])
        header.set_qform(affine, code="aligned")
        header.set_sform(affine, code="aligned")
        header.set_xyzt_units(_UNITS[unit])
        text = stamp.to_json().encode("ascii")
        header.extensions.append(nibabel.nifti1.Nifti1Extension(_COMMENT, text))
        return header


def _rotation(stamp: Stamp) -> AnyArray:
    """Return the rotation from the axes of a volume to right, anterior, superior."""
    if stamp.orientation == LPS:
        return _FROM_LPS
    if stamp.orientation == RAS and stamp.rotation and "Z" in stamp.axes:
        return np.reshape(stamp.rotation, (3, 3))
    return np.eye(3)


def _import_nibabel(name: str, task: str) -> ModuleType:
    """Import the package nibabel and return it.

    Raises
    ------
    FileError
        If nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise FileError(
            f"{name} is a NIfTI image; {task} it needs an extra package. Install "
            'it with: pip install "napari-geosr[nifti]".'
        ) from error
    module: ModuleType = nibabel
    return module


def _stored_unit(unit: str) -> tuple[str, float]:
    """Return the unit in which lengths in `unit` are stored, and the scale factor."""
    stored = _STORED_IN.get(unit, unit)
    factor = 1.0 if stored == unit else convert_length(1.0, unit, stored)
    return stored, factor


def _own_stamp(header: Any) -> Stamp | None:
    """Return the stamp in the extensions of a header, or None."""
    for extension in header.extensions:
        content = extension.get_content()
        if isinstance(content, bytes):
            content = content.decode("utf-8", "replace")
        if isinstance(content, str) and (stamp := parse(content.rstrip("\0 "))):
            return stamp
    return None


def _exact_geometry(
    stamp: Stamp,
    spatial_axes: str,
    unit: str,
    voxel_size: Sequence[float],
    origin: Sequence[float],
) -> tuple[str, tuple[float, ...], tuple[float, ...]] | None:
    """Return unit, voxel size and origin from the stamp; the header rounds them.

    None if the header disagrees: another program has changed the file.
    """
    stored, factor = _stored_unit(stamp.unit)
    if stored != unit or stamp.spatial_axes != spatial_axes:
        return None
    sizes = zip(stamp.voxel_size, voxel_size, strict=True)
    places = zip(stamp.origin, origin, voxel_size, strict=True)
    if all(agrees(exact * factor, rounded) for exact, rounded in sizes) and all(
        agrees(exact * factor, rounded, scale=size) for exact, rounded, size in places
    ):
        return stamp.unit, stamp.voxel_size, stamp.origin
    return None


class NiftiFormat(WritableFileFormat):
    """NIfTI; its header defines the axes, so axes given by the user are ignored."""

    title = "NIfTI"
    suffixes = (".nii.gz", ".nii")
    rank = 50
    file_types = {"NIfTI": (".nii.gz", ".nii")}  # noqa: RUF012

    def read(self, path: Path, options: ReadOptions) -> Volume:
        return read_nifti(path)

    def output(self, paths: OutputPaths, spec: OutputSpec) -> Output:
        return NiftiOutput(paths, spec)


FORMAT = NiftiFormat()
