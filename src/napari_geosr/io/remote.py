"""Read OME-Zarr from an address (S3, SFTP, HTTPS), chunk by chunk, with fsspec."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path, PurePosixPath

from napari_geosr.core.addresses import (
    ADDRESS,
    METADATA_CHECKSUM,
    clean_reason,
    without_secrets,
)
from napari_geosr.core.errors import FileError, GeoSRError
from napari_geosr.core.indexing import Slices
from napari_geosr.core.types import AnyArray, AnyDict, ZarrNode
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io.formats import ReadOptions, format_of
from napari_geosr.io.formats.ome_zarr import FORMAT as OME_ZARR
from napari_geosr.io.formats.ome_zarr import ngff
from napari_geosr.io.formats.ome_zarr.reading import volumes_of
from napari_geosr.io.lazy import LazyArray, VoxelSource

#: Schemes that can be read, with settings of their file systems. A redirect could lead
#: to an address that is not encrypted.
_SCHEMES: dict[str, AnyDict] = {
    "s3": {},
    "sftp": {},
    "https": {"allow_redirects": False},
    "memory": {},
}
#: Libraries of these schemes that are not in the extra.
_OWN_LIBRARY = {"sftp": "paramiko"}


def read_address(address: str, options: ReadOptions) -> Volume:
    """Read an OME-Zarr or a zarr array lazily: chunks are fetched when they are used.

    Parameters
    ----------
    address : str
    options : ReadOptions
        Axes, and the image inside the zarr.

    Raises
    ------
    FileError
        If the extra is missing, the address cannot be read or is not encrypted, or
        holds no zarr.
    """
    shown = without_secrets(address)
    _check(address, shown)
    path = Path(PurePosixPath(shown).name)
    node = _open(address, shown, (options.dataset or "").strip("/"))
    try:
        volume = volumes_of(node, path, axes=options.axes)[0]
        checksum = _metadata_checksum(node)
    except GeoSRError:
        raise
    except Exception as error:  # noqa: BLE001  # of the file system or the zarr
        raise _unreadable(error, address) from None
    if isinstance(volume.data, LazyArray):
        volume.data.source = _RemoteVoxels(volume.data.source, address)
        volume.data.is_remote = True
        volume.data.reopening = (_reopen, (address, options))
    facts = {ADDRESS: shown, METADATA_CHECKSUM: checksum}
    return volume.replace(source=None, metadata={**volume.metadata, **facts})


def _reopen(address: str, options: ReadOptions) -> ArrayLike:
    return read_address(address, options).data


class _RemoteVoxels:
    """A `VoxelSource` whose errors name the address, and show no credentials."""

    def __init__(self, source: VoxelSource, address: str) -> None:
        self.source, self.address = source, address
        self.shape, self.dtype = source.shape, source.dtype

    def __getitem__(self, key: Slices) -> AnyArray:
        try:
            return self.source[key]
        except (GeoSRError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # file systems have their own
            raise _unreadable(error, self.address) from None


def _check(address: str, shown: str) -> None:
    """Refuse addresses that are not encrypted, and formats that cannot be read."""
    scheme = address.partition("://")[0]
    if scheme == "http":
        raise FileError(
            f"{shown} is not an https address, so its voxels could be replaced in "
            "transit. Give the https address, or download the data by hand."
        )
    if scheme not in _SCHEMES:
        raise FileError(
            f"{shown}: {scheme}:// cannot be read. Use s3://, sftp:// or https://, or "
            "copy the data to this computer."
        )
    if scheme == "https" and "?" in address:
        raise FileError(
            f"{shown} was given with a query (?…), which names a single file, but a "
            "zarr consists of many. Give the address of its folder."
        )
    known = format_of(Path(shown))
    if known is not None and known is not OME_ZARR:
        raise FileError(
            f"{shown} is not a zarr: of other formats, the whole file would have to be "
            "fetched. Copy it to this computer first, or convert it to OME-Zarr."
        )


def _open(address: str, shown: str, dataset: str) -> ZarrNode:
    scheme = address.partition("://")[0]
    try:
        import zarr
        from zarr.storage import FsspecStore

        store = FsspecStore.from_url(
            address, storage_options=_SCHEMES[scheme], read_only=True
        )
    except ImportError as error:
        library = _OWN_LIBRARY.get(scheme)
        package = f"the library {library}" if library else "the extra 'remote'"
        command = library or "'napari-geosr[remote]'"
        raise FileError(
            f"Reading {shown} needs {package}, which is not installed. Install it: pip "
            f"install {command}"
        ) from error
    except Exception as error:  # noqa: BLE001  # settings, such as a missing key
        raise _unreadable(error, address) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr's show the whole address
            return zarr.open(store, mode="r", path=dataset)
    except Exception as error:  # noqa: BLE001  # file systems have their own
        raise _unreadable(error, address) from None


def _unreadable(error: Exception, address: str) -> FileError:
    """The error for the user; raise it ``from None``: its cause may show secrets."""
    return FileError(
        f"{without_secrets(address)} cannot be read "
        f"({clean_reason(error, address)}). Check the address, your access and the "
        "network connection."
    )


def _metadata_checksum(node: ZarrNode) -> str:
    """``sha256-metadata:…`` of the metadata of a group and its levels, or an array.

    Voxels are not part of it.
    """
    found = [node.metadata.to_dict()]
    for entry in ngff.find_multiscales(dict(node.attrs))[:1]:
        found += [node[item["path"]].metadata.to_dict() for item in entry["datasets"]]
    text = json.dumps(found, sort_keys=True, default=str)
    return f"sha256-metadata:{hashlib.sha256(text.encode()).hexdigest()}"
