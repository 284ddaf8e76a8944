"""What a restoration asks before it runs: frames taken for slices, odd voxel sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.questions import TimeSeriesQuestion, find_question, sentences

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.models.bundle import Model


def open_questions(volume: Volume, models: Iterable[Model]) -> list[str]:
    """Give a warning for each question that the volume's file left open.

    Raises
    ------
    VolumeError
        If the slices look like frames of a time series and a model uses neighbouring
        slices: it would mix points in time.
    """
    asked = find_question(volume.metadata, TimeSeriesQuestion)
    if asked is not None and asked.certain:
        for model in models:
            card = model.card
            if card.axes == "ZYX" or card.adjacent_slices > 1:
                raise VolumeError(
                    f"{volume.title}: {asked} The model {card.name!r} uses "
                    "neighbouring slices and would mix points in time."
                )
    return sentences(volume.metadata, volume.title)
