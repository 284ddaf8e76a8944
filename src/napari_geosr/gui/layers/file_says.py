"""Ask a layer's file for the voxel size that the reader of the layer left out.

napari's own TIFF reader, for one, takes the voxels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_geosr.core.questions import VoxelSizeQuestion, voxel_size_question
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.gui.layers import METADATA, finest, spatial_ndim

if TYPE_CHECKING:
    from napari.layers import Layer

_OURS = "napari-geosr"


@dataclass(frozen=True)
class Said:
    """The voxel size along the layer's spatial axes, or a question about it."""

    voxel_size: tuple[float, ...]
    unit: str
    question: VoxelSizeQuestion | None = None

    def __str__(self) -> str:
        return " × ".join(f"{size:.4g}" for size in self.voxel_size) + f" {self.unit}"


def question_to_file(
    layer: Layer,
) -> Callable[[ShouldStop], Generator[Step, None, Said | None]] | None:
    """Give the steps that read what the layer's file says, for a worker.

    They return None where the file does not say, or holds other voxels than the layer.
    They may raise `FileError`.

    Returns
    -------
    callable or None
        None where the layer has no file, or our own reader has asked it already.
    """
    origin = layer.source
    path = origin.path
    asked = origin.reader_plugin == _OURS or METADATA in layer.metadata
    if path is None or origin.parent is not None or asked:
        return None
    n = spatial_ndim(layer)
    shape = tuple(finest(layer).shape[-n:])

    def steps(_should_stop: ShouldStop) -> Generator[Step, None, Said | None]:
        """Read voxel size and unit from the file, if it has the layer's shape."""
        from napari_geosr import io

        yield StageStarted(message="Reading the voxel size")
        volume = io.read(path)
        same = len(volume.voxel_size) == n and volume.shape[-n:] == shape
        said = None
        if same and volume.has_physical_size:
            said = Said(volume.voxel_size, volume.unit)
        elif same and (asked := voxel_size_question(volume.metadata)) is not None:
            said = Said(asked.voxel_size, asked.unit, asked)
        return said

    return steps
