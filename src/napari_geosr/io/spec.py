"""What a file to be written holds, and how: stated once, handed on as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import FileError, VolumeError
from napari_geosr.core.types import AnyDType, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.stamp import Stamp


@dataclass(frozen=True)
class OutputSpec:
    """A volume to be written, without its voxels.

    Parameters
    ----------
    shape : sequence of int
        In the order of `axes`.
    dtype : dtype
        bool is written as uint8; any other real dtype stays as it is.
    axes : str
        Out of ``"TCZYX"``, in that order.
    voxel_size, origin : sequence of float
        Along the spatial axes, in `unit`.
    unit : str
    provenance : sequence of mapping
        Kept in the file; may be replaced on the `Output` before the end.
    kind : str
        ``"image"`` or ``"labels"``; kept in the file. Labels are never averaged.
    channels : sequence of str
        Names of the channels; not written unless there is one for each.
    multiscale : bool
        For OME-Zarr: add coarser copies for fast display.
    tile : sequence of int, optional
        Shape of the blocks that will be written, one after the other from the first
        voxel on: chunks and shards of an OME-Zarr are chosen to fit into them.
    memory : int, optional
        Bytes that the output may buffer, and use for compression.

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
    multiscale: bool = True
    tile: Sequence[int] | None = None
    memory: int | None = None

    @classmethod
    def like(cls, volume: Volume, **changes: Any) -> OutputSpec:
        """Everything that `volume` says of itself, but for the `changes`."""
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
        )
        return replace(spec, **changes)

    @property
    def nbytes(self) -> int:
        """Size of the voxels in bytes, as they are stored."""
        lengths = (int(n) for n in self.shape)
        return int(np.prod([*lengths, np.dtype(self.dtype).itemsize], dtype=object))

    @property
    def stamp(self) -> Stamp:
        """The block of JSON that the file carries."""
        return Stamp(
            shape=tuple(self.shape),
            axes=self.axes,
            voxel_size=tuple(self.voxel_size),
            unit=self.unit,
            origin=tuple(self.origin),
            provenance=tuple(self.provenance),
            kind=self.kind,
            channels=tuple(self.channels),
        )

    def checked(self, name: str) -> OutputSpec:
        """The same, in the form in which a file called `name` stores it.

        Raises
        ------
        FileError
            If the voxels are not real numbers.
        VolumeError
            If shape, axes, voxel size and origin do not fit together, there are no
            voxels, or the provenance cannot be written as JSON.
        """
        stored = stored_dtype(self.dtype, name)
        # `Volume` checks that everything fits together.
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
                f"{name} cannot be written: its shape {volume.shape} has no voxels."
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
        # A record that cannot be written must not cost a finished run.
        spec.stamp.to_json()
        return spec


def stored_dtype(dtype: npt.DTypeLike, name: str) -> AnyDType:
    """The dtype in the file for voxels of `dtype`: itself, or uint8 for bool.

    Raises
    ------
    FileError
        For what is no real number.
    """
    wanted: AnyDType = np.dtype(dtype).newbyteorder("=")
    if wanted.kind == "b":
        return np.dtype(np.uint8)
    if wanted.kind not in "iuf" or wanted.itemsize > 8:
        raise FileError(
            f"{name} cannot hold voxels of type {wanted}. Convert them to integers or "
            "floats first."
        )
    return wanted


@dataclass(frozen=True)
class OutputPaths:
    """Where a file is while it is made, and where it goes.

    Attributes
    ----------
    final : Path
        Where it appears when it is complete.
    temporary : Path
        Where it is written: a hidden name in the same folder.
    incomplete : Path
        Where an unfinished file is kept, if it is.
    """

    final: Path
    temporary: Path
    incomplete: Path
