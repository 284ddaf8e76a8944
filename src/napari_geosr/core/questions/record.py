"""Questions in the metadata of a volume: put in, looked up, taken out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from napari_geosr.core.questions.axes import TimeSeriesQuestion
from napari_geosr.core.questions.voxel_size import VoxelSizeQuestion

Question = VoxelSizeQuestion | TimeSeriesQuestion
_Kind = TypeVar("_Kind", VoxelSizeQuestion, TimeSeriesQuestion)

#: Key in the metadata of volumes and projections.
QUESTIONS = "questions"


def questions_of(metadata: Mapping[str, Any]) -> tuple[Question, ...]:
    """Give the open questions in `metadata`."""
    return tuple(metadata.get(QUESTIONS, ()))


def find_question(metadata: Mapping[str, Any], kind: type[_Kind]) -> _Kind | None:
    """Give the open question of one kind, or None."""
    for question in questions_of(metadata):
        if isinstance(question, kind):
            return question
    return None


def add_question(metadata: Mapping[str, Any], question: Question) -> dict[str, Any]:
    """Give `metadata` with one more question, in place of an older one of its kind."""
    kept = answered(metadata, type(question))
    return {**kept, QUESTIONS: (*questions_of(kept), question)}


def answered(metadata: Mapping[str, Any], kind: type[Question]) -> dict[str, Any]:
    """Give `metadata` without the question of one kind."""
    left = tuple(q for q in questions_of(metadata) if not isinstance(q, kind))
    rest = {key: value for key, value in metadata.items() if key != QUESTIONS}
    return {**rest, QUESTIONS: left} if left else rest


def sentences(metadata: Mapping[str, Any], title: str) -> list[str]:
    """Give a warning for each open question: what was found, why, what to do.

    Parameters
    ----------
    metadata : mapping
        Of a volume.
    title : str
        What messages call the volume.
    """
    return [f"{title}: {question}" for question in questions_of(metadata)]
