"""The question about the voxel size in the metadata of a volume."""

from __future__ import annotations

from napari_geosr.core.questions.voxel_size import VoxelSizeQuestion
from napari_geosr.core.types import AnyDict, AnyMapping

#: Key of the open question in the metadata of volumes and projections.
VOXEL_SIZE_QUESTION = "voxel_size_question"


def voxel_size_question(metadata: AnyMapping) -> VoxelSizeQuestion | None:
    """Return the open question about the voxel size, or None."""
    found = metadata.get(VOXEL_SIZE_QUESTION)
    return found if isinstance(found, VoxelSizeQuestion) else None


def with_voxel_size_question(
    metadata: AnyMapping, question: VoxelSizeQuestion | None
) -> AnyDict:
    """Return a copy of `metadata` with `question`; None removes the question."""
    rest = {k: v for k, v in metadata.items() if k != VOXEL_SIZE_QUESTION}
    return rest if question is None else {**rest, VOXEL_SIZE_QUESTION: question}
