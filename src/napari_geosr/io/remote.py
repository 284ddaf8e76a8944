"""Read OME-Zarr and HDF5 from an address (S3, SFTP, HTTPS) in parts, with fsspec."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from napari_geosr.core.addresses import (
    ADDRESS,
    METADATA_CHECKSUM,
    clean_reason,
    clean_text,
    host_of,
    without_secrets,
)
from napari_geosr.core.array_parts.indexing import Slices
from napari_geosr.core.errors import FileError, GeoSRError
from napari_geosr.core.types import AnyArray, AnyDict, ZarrNode
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io.formats import ReadOptions, format_of
from napari_geosr.io.formats.hdf5 import FORMAT as HDF5
from napari_geosr.io.formats.hdf5 import read_hdf5
from napari_geosr.io.formats.ome_zarr import FORMAT as OME_ZARR
from napari_geosr.io.formats.ome_zarr import ngff
from napari_geosr.io.formats.ome_zarr.reading import volumes_of
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.voxel_sources import VoxelSource

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: Number of bytes that are fetched from a file at a time.
_BLOCK_BYTES = 1 << 20
#: Metadata that change with the contents of a file, so that changes are detected
#: without reading the contents.
_IDENTITY = ("size", "etag", "lastmodified", "last-modified", "mtime", "modified")
#: Schemes that can be read, with settings of their file systems. Redirects are not
#: followed, as they could lead to an unencrypted connection.
_SCHEMES: dict[str, AnyDict] = {
    "s3": {},
    "sftp": {},
    "https": {"allow_redirects": False},
    "memory": {},
}
#: Libraries that schemes need in addition to those of the extra ``remote``.
_OWN_LIBRARY = {"sftp": "paramiko"}


def read_address(address: str, options: ReadOptions) -> Volume:
    """Read a zarr or an HDF5 file lazily: chunks are fetched when they are used.

    Parameters
    ----------
    address : str
    options : ReadOptions
        Axes, and the image inside the zarr or the file.

    Raises
    ------
    FileError
        If the extra ``remote`` is missing, or the address cannot be read, is not
        encrypted, or holds no such data.
    """
    shown = without_secrets(address)
    _check(address, shown)
    path = Path(PurePosixPath(shown).name)
    try:
        if format_of(Path(shown)) is HDF5:
            opener = _RemoteFile(address)
            volume = read_hdf5(
                path, axes=options.axes, dataset=options.dataset, open_bytes=opener
            )
            checksum = opener.identity()
        else:
            node = _open(address, (options.dataset or "").strip("/"))
            volume = volumes_of(node, path, axes=options.axes)[0]
            checksum = _metadata_checksum(node)
    except FileError as error:  # a quoted message may show the address
        raise FileError(clean_text(str(error), address)) from None
    except GeoSRError:
        raise
    except Exception as error:  # noqa: BLE001  # from the file system or a decoder
        raise _unreadable(error, address) from None
    if isinstance(volume.data, LazyArray):
        volume.data.source = _RemoteVoxels(volume.data.source, address)
        volume.data.is_remote = True
        volume.data.reopening = (_reopen, (address, options))
    facts = {ADDRESS: shown, METADATA_CHECKSUM: checksum}
    return volume.replace(source=None, metadata={**volume.metadata, **facts})


def _reopen(address: str, options: ReadOptions) -> ArrayLike:
    return read_address(address, options).data


class _RemoteFile:
    """Opens a file at an address; its bytes are fetched in whole blocks."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self) -> BinaryIO:
        system, place = self._find()
        file: BinaryIO = system.open(place, "rb", block_size=_BLOCK_BYTES)
        return file

    def identity(self) -> str:
        """Return a checksum of the file's metadata: size, ETag and time, if known."""
        system, place = self._find()
        info = {str(k).lower(): v for k, v in system.info(place).items()}
        known = {k: str(info[k]) for k in _IDENTITY if info.get(k) is not None}
        text = json.dumps(known, sort_keys=True)
        kind = "etag" if "etag" in known else "size-and-time"
        return f"sha256-{kind}:{hashlib.sha256(text.encode()).hexdigest()}"

    def _find(self) -> tuple[AbstractFileSystem, str]:
        scheme = self.address.partition("://")[0]
        with _explained_imports(self.address):
            from fsspec.core import url_to_fs

            found: tuple[AbstractFileSystem, str] = url_to_fs(
                self.address, **_SCHEMES[scheme]
            )
        return found


class _RemoteVoxels:
    """A `VoxelSource` with errors that name the address without credentials."""

    def __init__(self, source: VoxelSource, address: str) -> None:
        self.source, self.address = source, address
        self.shape, self.dtype = source.shape, source.dtype

    def __getitem__(self, key: Slices) -> AnyArray:
        try:
            return self.source[key]
        except (GeoSRError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # file systems' own errors
            raise _unreadable(error, self.address) from None


def _check(address: str, shown: str) -> None:
    """Reject unencrypted addresses, and formats that cannot be read in parts."""
    scheme = address.partition("://")[0]
    if scheme == "http":
        raise FileError(
            f"{shown} is not an https URL, so its voxels could be replaced in "
            "transit. Give the https URL, or download the data yourself."
        )
    if scheme == "file":
        raise FileError(f"{shown} cannot be read. Give the path of the file instead.")
    if scheme not in _SCHEMES:
        raise FileError(
            f"{shown}: {scheme}:// cannot be read. Use s3://, sftp:// or https://, or "
            "copy the data to this computer."
        )
    if not host_of(address):
        raise FileError(
            f"{shown} contains no server name. Give the full URL, such as "
            f"{scheme}://server/folder/scan.ome.zarr."
        )
    known = format_of(Path(shown))
    if scheme == "https" and "?" in address and known is not HDF5:
        raise FileError(
            f"{shown} contains a query (?…), which applies to a single file, but a "
            "zarr consists of many files. Remove the query."
        )
    if known is not None and known not in (OME_ZARR, HDF5):
        raise FileError(
            f"{shown} is neither zarr nor HDF5, and files of other formats cannot be "
            "read in parts. Copy it to this computer first."
        )


def _open(address: str, dataset: str) -> ZarrNode:
    import zarr

    scheme = address.partition("://")[0]
    with _explained_imports(address):
        from zarr.storage import FsspecStore

        store = FsspecStore.from_url(
            address, storage_options=_SCHEMES[scheme], read_only=True
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's warnings show the whole address
        return zarr.open(store, mode="r", path=dataset)


@contextmanager
def _explained_imports(address: str) -> Iterator[None]:
    """Convert import errors to messages that name the missing library."""
    try:
        yield
    except ImportError as error:
        shown, scheme = without_secrets(address), address.partition("://")[0]
        library = _OWN_LIBRARY.get(scheme)
        package = f"the library {library}" if library else "the extra 'remote'"
        command = library or "'napari-geosr[remote]'"
        raise FileError(
            f"Reading {shown} needs {package}, which is not installed. Install it: pip "
            f"install {command}"
        ) from error


def _unreadable(error: Exception, address: str) -> FileError:
    """Return an error to be raised ``from None``, as its cause may hold secrets."""
    return FileError(
        f"{without_secrets(address)} cannot be read "
        f"({clean_reason(error, address)}). Check the URL, your access and the "
        "network connection."
    )


def _metadata_checksum(node: ZarrNode) -> str:
    """Return ``sha256-metadata:…`` of an array, or of a group and its levels.

    The checksum does not cover the voxels.
    """
    found = [node.metadata.to_dict()]
    for entry in ngff.find_multiscales(dict(node.attrs))[:1]:
        found += [node[item["path"]].metadata.to_dict() for item in entry["datasets"]]
    text = json.dumps(found, sort_keys=True, default=str)
    return f"sha256-metadata:{hashlib.sha256(text.encode()).hexdigest()}"
