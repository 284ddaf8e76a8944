"""Specification of a file to be written: its contents and how they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import FileError, VolumeError
from napari_geosr.core.orientation import orientation_of, rotation_of
from napari_geosr.core.types import AnyDType, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.stamp import Stamp


@dataclass(frozen=True)
class OutputSpec:
    """Description of a volume to be written: everything except its voxels.

    Parameters
    ----------
    shape : sequence of int
        Number of voxels along each of the `axes`.
    dtype : dtype
        bool is written as uint8; any other real dtype is kept.
    axes : str
        Letters of ``"TCZYX"``, in that order.
    voxel_size, origin : sequence of float
        Along the spatial axes, in `unit`.
    unit : str
    provenance : sequence of mapping
        Stored in the file; can be replaced on the `Output` until it is complete.
    kind : str
        ``"image"`` or ``"labels"``; stored in the file. Labels are never averaged.
    channels : sequence of str
        Names of the channels; written only if there is one name per channel.
    orientation : str
        Directions of X, Y and Z (`napari_geosr.core.orientation`); stored in the file.
    rotation : sequence of float
        Rotation of the axes of an oblique volume, row by row; stored in the file.
    multiscale : bool
        For OME-Zarr: whether to add coarser levels for fast display.
    tile : sequence of int, optional
        Shape of the blocks in which the voxels will be written, from the first voxel
        on: chunks and shards of an OME-Zarr are chosen to fit into them.
    memory : int, optional
        Bytes that the output may use for buffering and compression.
    shared : bool
        Whether other processes write whole tiles: no shard then spans several tiles.

    Examples
    --------
    >>> spec = OutputSpec((4, 8, 8), "float32", "ZYX", (1, 1, 1), "µm", (0, 0, 0))
    >>> spec.checked("scan.tif").nbytes
    1024
    """

    shape: Sequence[int]
    dtype: npt.DTypeLike
    axes: str
    voxel_size: Sequence[float]
    unit: str
    origin: Sequence[float]
    provenance: Sequence[AnyMapping] = ()
    kind: str = "image"
    channels: Sequence[str] = ()
    orientation: str = ""
    rotation: Sequence[float] = ()
    multiscale: bool = True
    tile: Sequence[int] | None = None
    memory: int | None = None
    shared: bool = False

    @classmethod
    def like(cls, volume: Volume, **changes: Any) -> OutputSpec:
        """Return the specification of a copy of `volume`, with the given `changes`."""
        spec = cls(
            shape=volume.shape,
            dtype=volume.dtype,
            axes=volume.axes,
            voxel_size=volume.voxel_size,
            unit=volume.unit,
            origin=volume.origin,
            provenance=volume.provenance,
            kind=str(volume.metadata.get("kind", "image")),
            channels=volume.metadata.get("channels", ()),
            orientation=orientation_of(volume.metadata),
            rotation=rotation_of(volume.metadata),
        )
        return replace(spec, **changes)

    @property
    def nbytes(self) -> int:
        """Size of the stored voxels in bytes."""
        lengths = (int(n) for n in self.shape)
        return int(np.prod([*lengths, np.dtype(self.dtype).itemsize], dtype=object))

    @property
    def stamp(self) -> Stamp:
        """The metadata block stored in the file as JSON."""
        return Stamp(
            shape=tuple(self.shape),
            axes=self.axes,
            voxel_size=tuple(self.voxel_size),
            unit=self.unit,
            origin=tuple(self.origin),
            provenance=tuple(self.provenance),
            kind=self.kind,
            channels=tuple(self.channels),
            orientation=self.orientation,
            rotation=tuple(self.rotation),
        )

    def checked(self, name: str) -> OutputSpec:
        """Return the validated specification, as it would be stored in the file `name`.

        Raises
        ------
        FileError
            If the voxels are not real numbers.
        VolumeError
            If shape, axes, voxel size and origin are inconsistent, there are no voxels,
            or the provenance cannot be written as JSON.
        """
        stored = stored_dtype(self.dtype, name)
        # `Volume` checks that everything is consistent.
        like = np.broadcast_to(np.zeros((), stored), tuple(int(n) for n in self.shape))
        volume = Volume(
            data=like,
            axes=self.axes,
            voxel_size=tuple(self.voxel_size),
            unit=self.unit,
            origin=tuple(self.origin),
            name=name,
        )
        if min(volume.shape) < 1:
            raise VolumeError(
                f"{name} cannot be written: it has no voxels (shape {volume.shape})."
            )
        n_channels = dict(zip(volume.axes, volume.shape, strict=True)).get("C", 0)
        named = len(self.channels) == n_channels
        spec = replace(
            self,
            shape=volume.shape,
            dtype=stored,
            axes=volume.axes,
            voxel_size=volume.voxel_size,
            unit=volume.unit,
            origin=volume.origin,
            provenance=tuple(self.provenance),
            channels=tuple(self.channels) if named else (),
        )
        # Fail now: a record that cannot be written must not spoil a finished run.
        spec.stamp.to_json()
        return spec


def stored_dtype(dtype: npt.DTypeLike, name: str) -> AnyDType:
    """Return the dtype in the file for voxels of `dtype`: itself, or uint8 for bool.

    Raises
    ------
    FileError
        If `dtype` is not a real number type.
    """
    native: AnyDType = np.dtype(dtype).newbyteorder("=")
    if native.kind == "b":
        return np.dtype(np.uint8)
    if native.kind not in "iuf" or native.itemsize > 8:
        raise FileError(
            f"{name} cannot hold voxels of type {native}. Convert them to integers or "
            "floats first."
        )
    return native


@dataclass(frozen=True)
class OutputPaths:
    """Paths of a file while it is written, and when it is complete.

    Attributes
    ----------
    final : Path
        Path of the complete file.
    temporary : Path
        Path while the file is being written: a hidden name in the same folder.
    incomplete : Path
        Path of the file if it is kept unfinished.
    """

    final: Path
    temporary: Path
    incomplete: Path
