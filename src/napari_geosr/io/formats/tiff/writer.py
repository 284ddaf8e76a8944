"""Write TIFF (ImageJ, OME or plain), memory-mapped to accept tiles in any order."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from napari_geosr.core.array_parts.indexing import Slices
from napari_geosr.core.errors import FileError
from napari_geosr.core.machine.disk_space import reserve_space
from napari_geosr.core.types import AnyDict, AnyDType
from napari_geosr.io.formats.tiff.metadata import escaped
from napari_geosr.io.mapping import MappedFile, map_file
from napari_geosr.io.output import Output, blank_outside
from napari_geosr.io.spec import OutputPaths, OutputSpec
from napari_geosr.io.stamp import KEY, Stamp, stored_axes
from napari_geosr.io.suffixes import suffix_of

#: Minimum size in bytes at which BigTIFF is used: a classic TIFF has 32-bit offsets.
BIGTIFF_BYTES = 3_900_000_000
_IMAGEJ_DTYPES = {"uint8", "uint16", "float32"}
_OME_TYPES = {
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "float32": "float",
    "float64": "double",
}
_OME_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
#: TIFF tag with ImageJ's metadata.
_INFO_TAG = 50839
#: TIFF tag with the sizes of the entries in ImageJ's metadata.
_INFO_COUNTS_TAG = 50838
#: Bytes reserved at the end of an unfinished file for its final description, which is
#: longer than the initial one; the disk may be full by then.
_RESERVED_BYTES = 64 * 1024
#: End of the reserved space: a magic number, and the file's size without this space.
_MARK = struct.Struct("<8sQ")
_MAGIC = b"GEOSRend"


def choose_layout(name: str, suffix: str, dtype: AnyDType, shape: Sequence[int]) -> str:
    """Choose the first lossless layout: ``"imagej"``, ``"ome"`` or ``"plain"``.

    Parameters
    ----------
    name, suffix : str
        Name and suffix of the file.
    dtype : dtype
        Data type of the voxels.
    shape : sequence of int

    Raises
    ------
    FileError
        If `suffix` requires OME-TIFF, which does not support `dtype`.
    """
    if suffix in (".ome.tif", ".ome.tiff"):
        if dtype.name not in _OME_TYPES:
            raise FileError(
                f"{name} cannot be written: OME-TIFF does not support {dtype.name} "
                "voxels. Use the suffix .tif or .ome.zarr."
            )
        return "ome"
    small = math.prod(shape) * dtype.itemsize < BIGTIFF_BYTES
    # In ImageJ's layout, tifffile interprets a width of 1 as one sample per pixel.
    if dtype.name in _IMAGEJ_DTYPES and small and shape[-1] > 1:
        return "imagej"
    return "ome" if dtype.name in _OME_TYPES else "plain"


class TiffOutput(Output):
    """A TIFF or BigTIFF file with contiguous, memory-mapped voxels.

    Parameters
    ----------
    reopen : bool
        Whether to resume the existing file.
    """

    def __init__(
        self, paths: OutputPaths, spec: OutputSpec, *, reopen: bool = False
    ) -> None:
        super().__init__(paths, spec)
        path, stamp = paths.final, self.stamp
        dtype: AnyDType = np.dtype(spec.dtype)
        self.bigtiff = spec.nbytes >= BIGTIFF_BYTES
        suffix = suffix_of(path)
        self.layout = choose_layout(path.name, suffix, dtype, stamp.shape)
        if suffix in (".tif", ".tiff") and self.layout != "imagej":
            reason = f"{dtype.name} voxels of this shape"
            reason = "4 GB or more" if self.bigtiff else reason
            kind = "OME-TIFF" if self.layout == "ome" else "a plain TIFF"
            self.note = f"ImageJ's own layout does not support {reason}; wrote {kind}."
        stored = stored_axes(stamp.axes, imagej=self.layout == "imagej")
        order = [stamp.axes.index(a) for a in stored]
        self.dtype = dtype
        shape = tuple(stamp.shape[i] for i in order)
        self._has_old_stamp = reopen
        offset = self._existing_offset() if reopen else self._create_file(shape, stored)
        little = dtype.newbyteorder("<")
        self._offset = offset
        mapped = map_file(self.temporary, little, "r+", offset, shape)
        self._map: MappedFile | None = mapped
        self.array = mapped.transpose([stored.index(a) for a in stamp.axes])
        self.block_shape = (1,) * (len(stamp.shape) - 2) + stamp.shape[-2:]

    def _existing_offset(self) -> int:
        """Return the offset of the voxels in the existing file."""
        import tifffile

        with tifffile.TiffFile(self.temporary) as tif:
            return int(tif.pages.first.dataoffsets[0])

    def _create_file(self, shape: tuple[int, ...], axes: str) -> int:
        """Create the file; return the offset of its voxels."""
        import tifffile

        options: AnyDict = {"metadata": None}
        if self.layout == "imagej":
            options = {
                "imagej": True,
                "metadata": {"axes": axes, **_imagej_metadata(self.stamp)},
                "resolution": tuple(1 / self.stamp.size_along(a) for a in "XY"),
                "resolutionunit": "NONE",
            }
        elif self.layout == "ome":
            options["description"] = ome_xml(self.stamp, self.dtype)
        else:
            options["description"] = _plain_description(self.stamp)
        written = tifffile.imwrite(
            self.temporary,
            shape=shape,
            dtype=self.dtype,
            photometric="minisblack",
            planarconfig=None,
            bigtiff=self.bigtiff,
            byteorder="<",
            software="napari-geosr",
            returnoffset=True,
            **options,
        )
        assert written is not None  # because `returnoffset` is set
        offset, _ = written
        self._allocate()
        _reserve(self.temporary)
        return int(offset)

    def _allocate(self) -> None:
        """Reserve disk space; if this is impossible, free space was checked earlier."""
        with self.temporary.open("r+b") as stream:
            reserve_space(stream, os.fstat(stream.fileno()).st_size)

    def flush_to_disk(self) -> None:
        """Flush the voxels written so far to disk."""
        if self._map is not None:
            self._map.check_intact()
            self._map.flush()

    def check_intact(self) -> None:
        """Raise `FileError` if the file was removed or truncated."""
        super().check_intact()
        if self._map is not None:
            self._map.check_intact()

    def blank(self, finished: Sequence[Slices]) -> None:
        """Write NaN to the voxels outside the `finished` boxes, plane by plane."""
        self.check_intact()
        blank_outside(self.array, finished)

    def complete(self, *, pyramid: bool) -> None:
        """Write description and provenance, and close the file.

        Parameters
        ----------
        pyramid : bool
            Not used: TIFF files have one level.
        """
        self.close()
        if self.provenance == self.stamp.provenance and not self._has_old_stamp:
            return
        with _restored_on_failure(self.temporary, self._offset):
            self._write_description(self.final_stamp())

    def _write_description(self, stamp: Stamp) -> None:
        import tifffile

        with tifffile.TiffFile(self.temporary, mode="r+") as tif:
            tags = tif.pages.first.tags
            if self.layout == "imagej":
                info = {"Info": stamp.to_json()}
                for tag in tifffile.tifffile.imagej_metadata_tag(info, tif.byteorder):
                    tags[tag[0]].overwrite(tag[3], dtype=tag[1])
            elif self.layout == "ome":
                tags["ImageDescription"].overwrite(ome_xml(stamp, self.dtype))
            else:
                tags["ImageDescription"].overwrite(_plain_description(stamp))

    def close(self) -> None:
        """Close the file as it is."""
        if self._map is not None:
            self._map.flush()
            self._map = None
            self.array = None
            _release(self.temporary)


def _reserve(path: Path) -> None:
    """Append reserved space; its last bytes contain the original size of the file."""
    with path.open("r+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.write(bytes(_RESERVED_BYTES - _MARK.size) + _MARK.pack(_MAGIC, end))


def _release(path: Path) -> None:
    """Remove the reserved space, if there is any and the file still exists."""
    if not path.exists():
        return
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size < _RESERVED_BYTES:
            return
        stream.seek(size - _MARK.size)
        magic, end = _MARK.unpack(stream.read(_MARK.size))
        if magic == _MAGIC and end == size - _RESERVED_BYTES:
            stream.truncate(end)


@contextmanager
def _restored_on_failure(path: Path, head: int) -> Iterator[None]:
    """On an error, undo changes to the first `head` bytes and the size of a file."""
    with path.open("rb") as stream:
        before = stream.read(head)
        size = stream.seek(0, os.SEEK_END)
    try:
        yield
    except BaseException:
        with path.open("r+b") as stream:
            stream.write(before)
            stream.truncate(size)
        raise


def _plain_description(stamp: Stamp) -> str:
    """Return the stamp, with the shape as in tifffile's "shaped" files."""
    shape = {"shape": list(stamp.shape), "axes": stamp.axes}
    return json.dumps({**shape, **json.loads(stamp.to_json())})


def _imagej_metadata(stamp: Stamp) -> AnyDict:
    """Return ImageJ's voxel size, unit and origin, and the stamp as `Info`."""
    metadata: AnyDict = {
        "unit": escaped(stamp.unit),
        "Info": stamp.to_json(),
    }
    if "Z" in stamp.axes:
        metadata["spacing"] = stamp.size_along("Z")
    for axis in stamp.spatial_axes:
        place = stamp.origin_along(axis)
        if place:
            metadata[f"{axis.lower()}origin"] = -place / stamp.size_along(axis)
    return metadata


def ome_xml(stamp: Stamp, dtype: AnyDType) -> bytes:
    """Create the OME-XML (2016-06) of one image with size, position and provenance."""

    def element(parent: Any, tag: str, **attributes: Any) -> Any:
        """Add an element with `attributes` to `parent`."""
        values = {k: str(v) for k, v in attributes.items()}
        return ElementTree.SubElement(parent, tag, values)

    length = dict(zip(stamp.axes, stamp.shape, strict=True))
    root = ElementTree.Element("OME", {"xmlns": _OME_NAMESPACE, "Creator": KEY})
    image = element(root, "Image", ID="Image:0", Name="volume")
    sizes = {f"Size{a}": length.get(a, 1) for a in "XYZCT"}
    physical: AnyDict = {}
    for axis in reversed(stamp.spatial_axes):
        physical[f"PhysicalSize{axis}"] = repr(stamp.size_along(axis))
        physical[f"PhysicalSize{axis}Unit"] = stamp.unit
    pixels = element(
        image,
        "Pixels",
        ID="Pixels:0",
        DimensionOrder="XYZCT",
        Type=_OME_TYPES[dtype.name],
        BigEndian="false",
        **sizes,
        **physical,
    )
    for c in range(length.get("C", 1)):
        named = {"Name": stamp.channels[c]} if stamp.channels else {}
        element(pixels, "Channel", ID=f"Channel:0:{c}", SamplesPerPixel=1, **named)
    n_planes = math.prod(length.get(a, 1) for a in "ZCT")
    element(pixels, "TiffData", IFD=0, PlaneCount=n_planes)
    # Programs read the position of a volume from its first plane.
    element(pixels, "Plane", TheZ=0, TheC=0, TheT=0, **_first_position(stamp))
    annotations = element(root, "StructuredAnnotations")
    note = element(annotations, "MapAnnotation", ID="Annotation:0", Namespace=KEY)
    entry = element(element(note, "Value"), "M", K=KEY)
    entry.text = stamp.to_json()
    head = b'<?xml version="1.0" encoding="UTF-8"?>'
    body: bytes = ElementTree.tostring(root, encoding="us-ascii")
    return head + body.split(b"?>", 1)[-1]


def _first_position(stamp: Stamp) -> dict[str, str]:
    """Return the attributes of the first plane: centre of the first voxel."""
    positions = {}
    for axis in reversed(stamp.spatial_axes):
        positions[f"Position{axis}"] = repr(stamp.origin_along(axis))
        positions[f"Position{axis}Unit"] = stamp.unit
    return positions
