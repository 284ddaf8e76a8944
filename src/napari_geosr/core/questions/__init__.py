"""Questions that only the user can answer: voxel size, and whether Z is time.

Readers record these questions in a volume's metadata; operations, commands and docks
ask them.
"""

from napari_geosr.core.questions.axes import (
    AXES_GIVEN,
    UNNAMED_AXIS,
    TimeSeriesQuestion,
    UnnamedAxis,
)
from napari_geosr.core.questions.record import (
    VOXEL_SIZE_QUESTION,
    voxel_size_question,
    with_voxel_size_question,
)
from napari_geosr.core.questions.voxel_size import (
    VoxelSizeQuestion,
    doubts_of_given_size,
    implausibility_reasons,
)

__all__ = [
    "AXES_GIVEN",
    "UNNAMED_AXIS",
    "VOXEL_SIZE_QUESTION",
    "TimeSeriesQuestion",
    "UnnamedAxis",
    "VoxelSizeQuestion",
    "doubts_of_given_size",
    "implausibility_reasons",
    "voxel_size_question",
    "with_voxel_size_question",
]
