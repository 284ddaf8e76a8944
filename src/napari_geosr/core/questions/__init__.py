"""What a file leaves in doubt and a person has to answer: voxel size, depth or time.

Readers put questions into a volume's metadata; operations and docks ask them.
"""

from napari_geosr.core.questions.axes import TimeSeriesQuestion
from napari_geosr.core.questions.record import (
    QUESTIONS,
    Question,
    add_question,
    answered,
    find_question,
    questions_of,
    sentences,
)
from napari_geosr.core.questions.voxel_size import (
    VoxelSizeQuestion,
    reasons_against,
)

__all__ = [
    "QUESTIONS",
    "Question",
    "TimeSeriesQuestion",
    "VoxelSizeQuestion",
    "add_question",
    "answered",
    "find_question",
    "questions_of",
    "reasons_against",
    "sentences",
]
