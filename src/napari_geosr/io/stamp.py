"""The stamp, a JSON block in files of this package: exact geometry and provenance."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from napari_geosr.core.documents import MAX_RESULT_BYTES, load_json
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.orientation import orientation_entry, orientation_of, rotation_of
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL, parse_unit

KEY = "napari-geosr"
VERSION = 1
#: Relative tolerance within which a value rounded by a file format counts as equal.
_SAME = 1e-3


@dataclass(frozen=True)
class Stamp:
    """Metadata that a written file must contain in addition to its voxels.

    Attributes
    ----------
    shape : tuple of int
    axes : str
        Letters of ``"TCZYX"``.
    voxel_size, origin : tuple of float
        Along the spatial axes, in `unit`.
    unit : str
    provenance : tuple of mapping
    kind : str
        ``"image"`` or ``"labels"``.
    channels : tuple of str
        Names of the channels, one for each; empty if the channels have no names.
    orientation : str
        Directions of X, Y and Z (`napari_geosr.core.orientation`); empty if unknown.
    rotation : tuple of float
        Rotation of the axes of an oblique volume, row by row; empty if there is none.
    """

    shape: tuple[int, ...]
    axes: str
    voxel_size: tuple[float, ...]
    unit: str
    origin: tuple[float, ...]
    provenance: tuple[AnyMapping, ...] = field(default=())
    kind: str = "image"
    channels: tuple[str, ...] = ()
    orientation: str = ""
    rotation: tuple[float, ...] = ()

    @property
    def directions(self) -> AnyDict:
        """Metadata entries for the directions of a volume's axes."""
        return orientation_entry(self.orientation, self.rotation)

    @property
    def spatial_axes(self) -> str:
        """The spatial axes, in order."""
        return "".join(a for a in self.axes if a in "ZYX")

    def size_along(self, axis: str, default: float = 1.0) -> float:
        """Return the voxel size along `axis`, or `default` if there is no such axis."""
        return self._along(self.voxel_size, axis, default)

    def origin_along(self, axis: str, default: float = 0.0) -> float:
        """Return the origin along `axis`, or `default` if there is no such axis."""
        return self._along(self.origin, axis, default)

    def _along(self, values: Sequence[float], axis: str, default: float) -> float:
        at = self.spatial_axes.find(axis)
        return default if at < 0 else values[at]

    def to_dict(self) -> AnyDict:
        """Return the stamp as JSON-serialisable values."""
        named = {"channels": list(self.channels)} if self.channels else {}
        return {
            "version": VERSION,
            "shape": list(self.shape),
            "axes": self.axes,
            "voxel_size": list(self.voxel_size),
            "unit": self.unit,
            "origin": list(self.origin),
            "kind": self.kind,
            **self.directions,
            **named,
            "provenance": [dict(entry) for entry in self.provenance],
        }

    def to_json(self) -> str:
        """Return the stamp as one line of ASCII, which is safe in TIFF tags and XML."""
        try:
            return json.dumps({KEY: self.to_dict()}, ensure_ascii=True)
        except (TypeError, ValueError) as error:
            raise VolumeError(
                f"The provenance record cannot be written as JSON ({error}). "
                "Keep only text, numbers, lists and mappings in it."
            ) from error


def stored_axes(axes: str, *, imagej: bool) -> str:
    """Return the order of the axes in a TIFF file; in ImageJ's order, Z precedes C."""
    order = "TZCYX" if imagej else "TCZYX"
    return "".join(a for a in order if a in axes)


def parse(text: str | None) -> Stamp | None:
    """Find the stamp in `text` (a tag's value); None if it is missing or damaged."""
    if not text or KEY not in text:
        return None
    try:
        return from_dict(load_json(text, MAX_RESULT_BYTES)[KEY])
    except (ValueError, KeyError, TypeError):
        # The text only mentions the package, or the block was edited by hand.
        return None


def from_dict(block: AnyMapping) -> Stamp | None:
    """Create a stamp from the mapping of `Stamp.to_dict`; None if it is damaged."""
    try:
        unit = parse_unit(block["unit"])
        stamp = Stamp(
            shape=tuple(int(n) for n in block["shape"]),
            axes=str(block["axes"]),
            voxel_size=tuple(float(v) for v in block["voxel_size"]),
            unit=PIXEL if unit is None else unit,
            origin=tuple(float(v) for v in block["origin"]),
            provenance=tuple(dict(entry) for entry in block["provenance"]),
            kind=str(block.get("kind", "image")),
            channels=tuple(str(name) for name in block.get("channels", ())),
            orientation=orientation_of(block),
            rotation=rotation_of(block),
        )
    except (KeyError, TypeError, ValueError):
        return None
    n = len(stamp.spatial_axes)
    fits = len(stamp.shape) == len(stamp.axes)
    if not fits or len(stamp.voxel_size) != n or len(stamp.origin) != n:
        return None
    return stamp


def agrees(exact: float, rounded: float, scale: float = 0.0) -> bool:
    """Return whether `rounded`, as stored by another program, agrees with `exact`.

    Parameters
    ----------
    exact, rounded : float
    scale : float
        Magnitude that sets the absolute tolerance, for values near zero.
    """
    return math.isclose(exact, rounded, rel_tol=_SAME, abs_tol=_SAME * scale)
