"""What readers ask about: implausible voxel sizes, planes that look like frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_geosr.core.questions import (
    VoxelSizeQuestion,
    add_question,
    reasons_against,
)
from napari_geosr.core.units import PIXEL
from napari_geosr.core.volume import Volume
from napari_geosr.io.time_series import time_series_question


def ask_voxel_size(
    volume: Volume, *, further: tuple[str, ...] = (), trusted: bool = False
) -> Volume:
    """Take an implausible voxel size out of `volume` and put a question in its place.

    Parameters
    ----------
    volume : Volume
        As its file has it.
    further : tuple of str
        Reasons that only the reader knows.
    trusted : bool
        Whether a person or this package wrote the size: then nothing is asked.

    Returns
    -------
    Volume
        Unchanged if the size is plausible or unknown; else in pixels, with a
        `VoxelSizeQuestion` in its metadata.
    """
    reasons, may_be_right = reasons_against(volume.voxel_size, volume.unit)
    reasons += tuple(reason for reason in further if reason not in reasons)
    if trusted or not reasons or not volume.has_physical_size:
        return volume
    question = VoxelSizeQuestion(volume.voxel_size, volume.unit, reasons, may_be_right)
    places = zip(volume.origin, volume.voxel_size, strict=True)
    return volume.replace(
        voxel_size=(1.0,) * len(volume.voxel_size),
        unit=PIXEL,
        origin=tuple(place / edge for place, edge in places),
        metadata=add_question(volume.metadata, question),
    )


def ask_axes(volume: Volume, stored: str, *, interval: float | None = None) -> Volume:
    """Put a question into `volume` if its slices look like frames.

    Parameters
    ----------
    volume : Volume
        With a Z axis that its file does not name.
    stored : str
        Its axes in the order of the file.
    interval : float, optional
        Seconds between frames, where the file gives them.
    """
    question = time_series_question(volume.data, volume.axes, stored, interval=interval)
    if question is None:
        return volume
    return volume.replace(metadata=add_question(volume.metadata, question))


def stored_letters(order: Sequence[int | None], final: str) -> str:
    """The axes of a volume in the order in which its file stores them."""
    places = {i: a for i, a in zip(order, final, strict=True) if i is not None}
    return "".join(places[i] for i in sorted(places))


def frame_interval(metadata: Mapping[str, Any]) -> float | None:
    """Seconds between the frames of an ImageJ stack that gives no slice distance."""
    value = metadata.get("finterval")
    if not isinstance(value, int | float) or "spacing" in metadata:
        return None
    return float(value) if value > 0 else None
