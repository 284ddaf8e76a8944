"""Record questions for the user: implausible voxel size, unnamed axis."""

from __future__ import annotations

from collections.abc import Sequence

from napari_geosr.core.questions import (
    UNNAMED_AXIS,
    UnnamedAxis,
    VoxelSizeQuestion,
    implausibility_reasons,
    with_voxel_size_question,
)
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.units import PIXEL
from napari_geosr.core.volume import Volume


def ask_voxel_size(
    volume: Volume, *, further: tuple[str, ...] = (), trusted: bool = False
) -> Volume:
    """Replace an implausible voxel size of `volume` with a question for the user.

    Parameters
    ----------
    volume : Volume
        The volume as read from its file.
    further : tuple of str
        Additional reasons for doubt, known only to the reader.
    trusted : bool
        Whether the user specified the size, or this package wrote it to the file, so
        that no question is needed.

    Returns
    -------
    Volume
        Unchanged if the size is plausible, unknown or trusted; otherwise with a voxel
        size of one pixel and a `VoxelSizeQuestion` in its metadata.
    """
    reasons, may_be_right = implausibility_reasons(volume.voxel_size, volume.unit)
    reasons += tuple(reason for reason in further if reason not in reasons)
    if trusted or not reasons or not volume.has_physical_size:
        return volume
    question = VoxelSizeQuestion(volume.voxel_size, volume.unit, reasons, may_be_right)
    places = zip(volume.origin, volume.voxel_size, strict=True)
    return volume.replace(
        voxel_size=(1.0,) * len(volume.voxel_size),
        unit=PIXEL,
        origin=tuple(place / edge for place, edge in places),
        metadata=with_voxel_size_question(volume.metadata, question),
    )


def unnamed_axis(
    volume: Volume, stored: str, *, interval: float | None = None
) -> Volume:
    """Record that the file does not name the Z axis of `volume`, if there is one.

    Whether its slices are frames is checked only when the volume is used, because no
    voxels are read when a file is opened.

    Parameters
    ----------
    volume : Volume
    stored : str
        Axes of the volume in the order of the file.
    interval : float, optional
        Seconds between frames, if the file states it.
    """
    if "Z" not in volume.axes or "T" in volume.axes:
        return volume
    note = UnnamedAxis(stored, interval)
    return volume.replace(metadata={**volume.metadata, UNNAMED_AXIS: note})


def stored_letters(order: Sequence[int | None], final: str) -> str:
    """Return the axes of a volume in the order in which its file stores them."""
    places = {i: a for i, a in zip(order, final, strict=True) if i is not None}
    return "".join(places[i] for i in sorted(places))


def frame_interval(metadata: AnyMapping) -> float | None:
    """Return the frame interval in seconds of an ImageJ stack without slice spacing."""
    value = metadata.get("finterval")
    if not isinstance(value, int | float) or "spacing" in metadata:
        return None
    return float(value) if value > 0 else None
