"""Define `Volume`, an array with named axes and a position in physical space."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core import layer_data, units
from napari_geosr.core.arrays import ArrayLike as ArrayLike
from napari_geosr.core.arrays import (
    at_indices,
    image_array,
    letters_of,
    per_axis,
    sliceable,
    to_numpy,
    usual_axes,
)
from napari_geosr.core.errors import GeoSRError, VolumeError
from napari_geosr.core.file_warnings import with_size_given
from napari_geosr.core.questions import voxel_size_question, with_voxel_size_question
from napari_geosr.core.reading import part_metadata
from napari_geosr.core.text.display import array_facts, html_figure, one_line, printable
from napari_geosr.core.types import AnyArray, AnyDict, AnyDType, AnyMapping
from napari_geosr.core.units import MILLIMETRES, PIXEL, check_edge_range, require_unit

AXES = "TCZYX"
SPATIAL_AXES = "ZYX"
#: Minimum edge of a voxel in any unit; the maximum is its inverse. Outside these
#: limits, powers of the volumes of voxels may exceed the range of float64.
_SMALLEST_EDGE = 1e-60
#: Words for the non-spatial axes in messages and options.
_WORDS = {"T": "time", "C": "channel"}


@dataclass(frozen=True, eq=False)
class Volume:
    """An array (numpy, dask or zarr) with axes, voxel size, unit and origin.

    A 2D image is a volume with fewer axes.

    Parameters
    ----------
    data : ArrayLike
        Any real dtype. One array axis for each letter of `axes`.
    axes : str
        Letters of ``"TCZYX"``, in that order, ending in ``"YX"``.
    voxel_size : tuple of float
        Edge lengths of a voxel along the spatial axes (Z, Y, X order), in `unit`; one
        number applies to all. All 1 if unknown.
    unit : str
        ``"µm"``, ``"mm"``, …; ``"pixel"`` when unknown, never guessed.
    origin : tuple of float
        Position of the *centre* of the first voxel along the spatial axes, in `unit`.
    name : str
        Name shown to the user: a file's stem or a layer's name.
    provenance : tuple of mapping
        Processing history, oldest record first, JSON-serialisable
        (`napari_geosr.core.provenance`).
    source : Path or None
        The file or folder from which the volume was read.
    metadata : mapping
        Further information from the file that may be shown to the user. Only the kind
        of data, channel names and orientation are written to files.

    Raises
    ------
    VolumeError
        If the fields are inconsistent.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_geosr import Volume
    >>> scan = Volume(np.zeros((8, 64, 64), "f4"), "ZYX", (2.0, 1.0, 1.0), "µm")
    >>> scan
    <Volume 'volume': Z 8 × Y 64 × X 64, voxel size 2 × 1 × 1 µm, float32, 131 kB>
    >>> np.asarray(scan).shape
    (8, 64, 64)

    See Also
    --------
    Volume.from_array : create a volume from a plain array
    """

    data: ArrayLike
    axes: str
    voxel_size: tuple[float, ...] = ()
    unit: str = PIXEL
    origin: tuple[float, ...] = ()
    name: str = "volume"
    provenance: tuple[AnyMapping, ...] = ()
    source: Path | None = None
    metadata: AnyMapping = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable(self.name))
        axes = self.axes
        in_order = "".join(letter for letter in AXES if letter in axes)
        if axes != in_order or not axes.endswith("YX"):
            raise VolumeError(
                f"{self.name!r} has axes {axes!r}; they must be letters of {AXES!r} in "
                "that order, with Y and X."
            )
        if len(self.data.shape) != len(axes):
            raise VolumeError(
                f"The array of {self.name!r} has {len(self.data.shape)} axes "
                f"{tuple(self.data.shape)}, but {len(axes)} are named: {axes!r}."
            )
        n = len(self.spatial_axes)
        object.__setattr__(self, "unit", require_unit(self.unit))
        for attribute, default in (("voxel_size", 1.0), ("origin", 0.0)):
            given = getattr(self, attribute)
            if isinstance(given, tuple) and not given:
                given = (default,) * n
            if attribute == "origin" and np.ndim(given) == 1 and len(given) != n:
                raise VolumeError(
                    f"{self.name!r} needs {n} numbers for {attribute} "
                    f"({', '.join(self.spatial_axes)}), not {given}."
                )
            values = per_axis(given, self.spatial_axes, repr(self.name), name=attribute)
            object.__setattr__(self, attribute, values)
        if min(self.voxel_size) <= 0:
            raise VolumeError(
                f"{self.name!r} has voxel size {self.voxel_size}; every edge length "
                "must be greater than zero."
            )
        if not all(_SMALLEST_EDGE < v < 1 / _SMALLEST_EDGE for v in self.voxel_size):
            raise VolumeError(
                f"{self.name!r} has voxel size {self.voxel_size} {self.unit}, which is "
                "too small or too large to compute with. Check voxel size and unit."
            )

    @classmethod
    def from_array(
        cls,
        array: object,
        voxel_size: float | Sequence[float] | None = None,
        unit: str | None = None,
        axes: str | Sequence[str] | None = None,
        name: str = "array",
    ) -> Volume:
        """Create a volume from a plain array, without copying or reading it.

        Parameters
        ----------
        array : array-like
            numpy, dask or zarr array, or nested lists, of real numbers, with two to
            five axes.
        voxel_size : float or sequence of float, optional
            Edge lengths of a voxel along Z, Y, X (or Y, X), or one number for all.
            All 1 by default.
        unit : str, optional
            Unit of length of `voxel_size`, such as ``"µm"`` (or ``"um"``). The default
            is ``"pixel"``; results are then not given in physical units.
        axes : str or sequence of str, optional
            One letter of ``"TCZYX"`` for each axis of the array, in array order, e.g.
            ``"TYX"`` or ``"YXC"``. By default the dimensions of an xarray object, or
            ``"YX"``, ``"ZYX"``, ``"TZYX"`` or ``"TCZYX"``, by number of axes.
        name : str
            Name used in messages and results.

        Returns
        -------
        Volume
            The volume, with its axes in the order T, C, Z, Y, X.

        Raises
        ------
        VolumeError, ConfigError
            If the array cannot be interpreted as an image or a volume, or does not
            match the axes, voxel size or unit.

        Examples
        --------
        >>> import numpy as np
        >>> Volume.from_array(np.zeros((16, 32, 32), "u1"), voxel_size=1.5, unit="um")
        <Volume 'array': Z 16 × Y 32 × X 32, voxel size 1.5 µm, uint8, 16.4 kB>
        >>> Volume.from_array(np.zeros((32, 48, 3), "u1"), axes="YXC", name="photo")
        <Volume 'photo': C 3 × Y 32 × X 48, voxel size unknown, uint8, 4.61 kB>
        """
        voxels = array.data if isinstance(array, Volume) else array
        data = image_array(voxels, name)
        letters = usual_axes(data, name, array) if axes is None else letters_of(axes)
        ordered = "".join(a for a in AXES if a in letters)
        if len(letters) != len(data.shape) or sorted(letters) != sorted(ordered):
            raise VolumeError(
                f"{name!r} has {len(data.shape)} axes {tuple(data.shape)}; axes "
                f"{axes!r} do not match. Give one letter of T, C, Z, Y, X for each."
            )
        if letters != ordered:
            order = [letters.index(a) for a in ordered]
            data = sliceable(data).transpose(order)
        return cls(data, ordered, name=name).with_geometry(voxel_size, unit)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        """Return the voxels as a numpy array; voxels of a lazy volume are read."""
        return to_numpy(self.data, self.title, dtype, copy)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any, /) -> AnyArray:
        """Index the array; use `take` to get a `Volume`."""
        return self.data[key]

    def __repr__(self) -> str:
        return one_line(
            "Volume",
            self.name,
            array_facts(
                dict(zip(self.axes, self.shape, strict=True)),
                ("voxel size", self.voxel_size, self.unit),
                self.dtype,
                lazy=self.is_lazy,
            ),
        )

    def _repr_html_(self) -> str:
        """Show the middle slice and a summary in notebooks."""
        try:
            plane, caption = self._middle_slice()
        except (OSError, GeoSRError) as error:
            plane, caption = None, f"The middle slice cannot be read: {error}"
        return html_figure(repr(self), plane, caption)

    def _middle_slice(self) -> tuple[AnyArray | None, str]:
        """Return the middle slice (middle time point, first channel) and a caption."""
        if 0 in self.shape:
            return None, "no voxels"
        key: list[Any] = [slice(None)] * len(self.axes)
        chosen = []
        for letter, at in (
            ("T", self.length("T") // 2),
            ("C", 0),
            ("Z", self.length("Z") // 2),
        ):
            if letter in self.axes:
                key[self.axes.index(letter)] = at
                chosen.append(f"{letter} = {at}")
        return np.asarray(self.data[tuple(key)]), ", ".join(chosen)

    @property
    def title(self) -> str:
        """Name of the volume in messages, taken from its file or layer."""
        return repr(self.name) if self.source is None else printable(self.source.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along each axis."""
        return tuple(int(n) for n in self.data.shape)

    @property
    def dtype(self) -> AnyDType:
        """Type of the voxels."""
        dtype: AnyDType = np.dtype(self.data.dtype)
        return dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def spatial_axes(self) -> str:
        """``"ZYX"`` or ``"YX"``."""
        return "".join(letter for letter in self.axes if letter in SPATIAL_AXES)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Number of voxels along the spatial axes."""
        return self.shape[-len(self.spatial_axes) :]

    def length(self, axis: str) -> int:
        """Return the number of voxels along an axis; 1 if there is no such axis."""
        at = self.axes.find(axis)
        return 1 if at < 0 else self.shape[at]

    @property
    def nbytes(self) -> int:
        """Size of all voxels in bytes, whether or not they are in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_lazy(self) -> bool:
        """Whether the voxels are not in memory (anything but a numpy array)."""
        return type(self.data) is not np.ndarray

    @property
    def holds_labels(self) -> bool:
        """Whether the values are labels, according to the metadata."""
        return self.metadata.get("kind") == "labels" and self.dtype.kind in "iu"

    @property
    def has_physical_size(self) -> bool:
        """Whether the voxel size is known in a unit of length."""
        return self.unit != PIXEL

    @property
    def voxel_volume_mm3(self) -> float | None:
        """Volume (area, in 2D) of a voxel in mm³ (mm²); None when unknown."""
        if not self.has_physical_size:
            return None
        return math.prod(edge * MILLIMETRES[self.unit] for edge in self.voxel_size)

    def replace(self, **changes: Any) -> Volume:
        """Return a validated copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def select(self, *, time: int | None = None, channel: int | None = None) -> Volume:
        """Take one time point and one channel, dropping those axes.

        The index along an axis of length one may be omitted. No voxels are read. Raises
        `VolumeError` when an index is missing or out of range.
        """
        for letter, choice, things in (
            ("T", time, "time points"),
            ("C", channel, "channels"),
        ):
            n = self.length(letter)
            if choice is None and n > 1:
                word = _WORDS[letter]
                raise VolumeError(
                    f"{self.title} has {n} {things}. Choose one of them, 0 to "
                    f"{n - 1} (--{word})."
                )
        has_time, has_channel = "T" in self.axes, "C" in self.axes
        return self.take(
            time=0 if time is None and has_time else time,
            channel=0 if channel is None and has_channel else channel,
        )

    def take(self, *, time: int | None = None, channel: int | None = None) -> Volume:
        """Take one time point, one channel, or both, dropping those axes.

        Axes not chosen are kept. Raises `VolumeError` if an index is out of range.
        """
        indices: dict[int, int] = {}
        axes, metadata = self.axes, self.metadata
        for letter, choice in (("T", time), ("C", channel)):
            word = _WORDS[letter]
            if letter not in self.axes:
                if choice not in (None, 0):
                    raise VolumeError(
                        f"{self.name!r} has no {word} axis. Omit the {word}."
                    )
                continue
            n = self.length(letter)
            if choice is None:
                continue
            if not 0 <= choice < n:
                raise VolumeError(
                    f"{self.name!r} has no {word} {choice}: choose 0 to {n - 1}."
                )
            indices[self.axes.index(letter)] = choice
            axes = axes.replace(letter, "")
            metadata = part_metadata(metadata, letter, choice, n)
        if axes == self.axes:
            return self
        data = at_indices(self.data, indices)
        return self.replace(data=data, axes=axes, metadata=metadata)

    def as_slices(self, *, channel: int | None = None) -> Volume:
        """Treat the images of a time series as the slices of one volume.

        Time steps have no length, so the voxel size along Z is set to that along Y.
        No voxels are read.

        Parameters
        ----------
        channel : int, optional
            Index of the channel; required if there are several.

        Raises
        ------
        VolumeError
            If this is not a time series of images, or has no such channel.
        """
        if "T" not in self.axes or "Z" in self.axes:
            raise VolumeError(f"{self.name!r} is not a time series of images.")
        image = self.select(time=0, channel=channel)
        key = tuple(channel or 0 if a == "C" else slice(None) for a in self.axes)
        return image.replace(
            data=sliceable(self.data)[key],
            axes="ZYX",
            voxel_size=(image.voxel_size[0], *image.voxel_size),
            origin=(0.0, *image.origin),
            metadata=part_metadata(self.metadata, "C", channel or 0, self.length("C")),
        )

    def upscaled_geometry(
        self, factor: int | Sequence[int]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the voxel size and origin of the volume after upscaling.

        A single factor s applies to all spatial axes. The outer edges of the field of
        view do not move, so the centre of the first voxel moves by
        ``-(s - 1) / (2 s)`` voxels of the input.

        Returns
        -------
        voxel_size, origin : tuple of float
        """
        n = len(self.spatial_axes)
        factors = (factor,) * n if isinstance(factor, int) else tuple(factor)
        if len(factors) != n or min(factors) < 1:
            raise VolumeError(
                f"{self.name!r}: {factors} is an invalid upscale factor for {n} axes."
            )
        size = tuple(v / s for v, s in zip(self.voxel_size, factors, strict=True))
        origin = tuple(
            o - (s - 1) / (2 * s) * v
            for o, v, s in zip(self.origin, self.voxel_size, factors, strict=True)
        )
        return size, origin

    def with_geometry(
        self,
        voxel_size: float | Sequence[float] | None = None,
        unit: str | None = None,
    ) -> Volume:
        """Return the volume with a voxel size and unit given by the user.

        `voxel_size` may be one number for all axes; a unit alone applies to the voxel
        size stored in a file that gives no unit. The origin is kept in voxels, i.e. it
        scales with the voxel size. An open question about the voxel size then counts as
        answered.

        Raises
        ------
        VolumeError
            If the voxel size is not one finite number greater than zero for each axis.
        ConfigError
            If the unit is unknown, or is given alone and does not suit the volume.
        """
        if voxel_size is None:
            place = self.title, self.voxel_size, self.unit
            if unit is None or units.restates_unit(unit, *place):
                return self
            voxel_size = self.voxel_size
        axes = self.spatial_axes
        if len(axes) == 2 and isinstance(voxel_size, Sequence) and len(voxel_size) == 3:
            voxel_size = voxel_size[1:]
        sizes = per_axis(voxel_size, axes, repr(self.name))
        origin = tuple(
            o / old * new
            for o, old, new in zip(self.origin, self.voxel_size, sizes, strict=True)
        )
        asked = voxel_size_question(self.metadata)
        if unit is None and asked is not None and asked.may_be_right:
            unit = asked.unit  # only the numbers were corrected
        unit = self.unit if unit is None else require_unit(unit)
        check_edge_range(sizes, unit)
        confirmed = asked is not None and asked.is_size(sizes, unit)
        facts = with_voxel_size_question(self.metadata, None)
        facts = with_size_given(facts, confirmed=confirmed)
        return self.replace(voxel_size=sizes, unit=unit, origin=origin, metadata=facts)

    def to_layer_data(self) -> tuple[Any, AnyDict, str]:
        """Return the volume as a napari layer data tuple, with its position in space.

        No voxels are read, and napari need not be installed.

        Returns
        -------
        data : array
            A numpy array, or a dask array if the voxels are not in memory.
        attributes : dict
            ``name``, ``scale``, ``translate``, ``units``, ``axis_labels`` and
            ``metadata``.
        layer_type : str
            ``"image"`` or ``"labels"``.

        Examples
        --------
        >>> import numpy as np
        >>> scan = Volume(np.zeros((8, 64, 64), "f4"), "ZYX", (2.0, 1.0, 1.0), "µm")
        >>> data, attributes, layer_type = scan.to_layer_data()
        >>> attributes["scale"], attributes["units"], layer_type
        ((2.0, 1.0, 1.0), ('um', 'um', 'um'), 'image')

        With napari: ``viewer.add_layer(napari.layers.Layer.create(data, attributes,
        layer_type))``.
        """
        attributes = {
            "name": self.name,
            **layer_data.geometry(self.axes, self.voxel_size, self.unit, self.origin),
            "metadata": layer_data.entry(self.provenance, self.source, self.metadata),
        }
        layer_type = "labels" if self.holds_labels else "image"
        return sliceable(self.data), attributes, layer_type
