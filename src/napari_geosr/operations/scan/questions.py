"""What a person should answer before the figures of a file can be trusted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.questions import (
    TimeSeriesQuestion,
    VoxelSizeQuestion,
    voxel_size_question,
)
from napari_geosr.core.volume import Volume
from napari_geosr.measure.time_series import time_series_question

if TYPE_CHECKING:
    from napari_geosr.models.card import ModelCard


def open_questions(volume: Volume, cards: Iterable[ModelCard] = ()) -> list[str]:
    """Give a sentence for everything in doubt: what was found, why, what to do.

    Parameters
    ----------
    volume : Volume
        Where its file does not name its Z axis, a few planes are read.
    cards : iterable of ModelCard
        Of the models that are to restore it.

    Raises
    ------
    VolumeError
        If the slices look like frames of a time series and a model uses neighbouring
        slices: it would mix points in time.
    """
    frames = frames_question(volume)
    if frames is not None and frames.certain:
        _refuse_to_mix(volume, frames, cards)
    return [f"{volume.title}: {question}" for question in _asked(volume, frames)]


def questions_about(volume: Volume) -> list[str]:
    """Give the sentences of :func:`open_questions` without the volume's title."""
    return [str(question) for question in _asked(volume, frames_question(volume))]


def _asked(
    volume: Volume, frames: TimeSeriesQuestion | None
) -> list[VoxelSizeQuestion | TimeSeriesQuestion]:
    asked = (voxel_size_question(volume.metadata), frames)
    return [question for question in asked if question is not None]


def frames_question(volume: Volume) -> TimeSeriesQuestion | None:
    """Ask whether slices are frames of a time series, where they look like it."""
    return time_series_question(volume)


def _refuse_to_mix(
    volume: Volume, frames: TimeSeriesQuestion, cards: Iterable[ModelCard]
) -> None:
    for card in cards:
        if card.axes == "ZYX" or card.adjacent_slices > 1:
            raise VolumeError(
                f"{volume.title}: {frames} The model {card.name!r} uses neighbouring "
                "slices and would mix points in time."
            )
