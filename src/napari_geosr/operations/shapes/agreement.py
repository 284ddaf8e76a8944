"""Compare two shapes of the same region."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from napari_geosr.core.interruption import interruptible
from napari_geosr.core.orientation import half_turn
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.units import shown_unit
from napari_geosr.core.volume import Volume
from napari_geosr.measure.shapes import compare_shapes
from napari_geosr.operations.inputs.same_grid import (
    check_known_sizes,
    check_same_grid,
    is_half_turned,
    knowledge_of_size,
)
from napari_geosr.operations.shapes.config import CompareShapesConfig
from napari_geosr.operations.shapes.masks import read_shape_steps
from napari_geosr.operations.shapes.memory import check_comparison_memory

if TYPE_CHECKING:
    from napari_geosr.measure.shapes import ShapeAgreement


def compare_shape_steps(
    volume: Volume,
    reference: Volume,
    config: CompareShapesConfig,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ShapeAgreement]:
    """Compare the shape in `volume` with that in `reference`.

    Raises
    ------
    VolumeError
        If a volume is not a shape, or the two are not on the same grid.
    DeviceMemoryError
        If there is not enough memory; raised before anything is measured.
    """
    if note := check_same_grid(volume, reference, may_be_turned=True):
        yield WarningIssued(message=note)
    one = yield from read_shape_steps(volume, config.label, should_stop)
    if is_half_turned(volume, reference):
        one = half_turn(one)
    other = yield from read_shape_steps(
        reference,
        config.label if config.reference_label is None else config.reference_label,
        should_stop,
        option="--reference-label",
    )
    sized, note = with_known_size(volume, reference)
    if note:
        yield WarningIssued(message=note)
    check_comparison_memory(one, other)
    yield StageStarted(message="Measuring the distances between the surfaces")
    tolerance = config.tolerance_in(sized.unit)
    unit = shown_unit(sized.unit, sized.voxel_size)
    with interruptible(should_stop):
        return compare_shapes(one, other, sized.voxel_size, unit, tolerance)


def with_known_size(volume: Volume, reference: Volume) -> tuple[Volume, str]:
    """Return the volume with the better-known voxel size, and a note about the other.

    The note states that the other voxel size is unknown or lacks a unit. The note is
    empty if both voxel sizes are known equally well.

    Raises
    ------
    VolumeError
        If both have a voxel size and these contradict each other.
    """
    # If both voxel sizes are known equally well, that of `volume` is used.
    sized = max((volume, reference), key=knowledge_of_size)
    other = reference if sized is volume else volume
    check_known_sizes(volume, reference)
    if knowledge_of_size(other) == knowledge_of_size(sized):
        return sized, ""
    size = " × ".join(f"{edge:g}" for edge in sized.voxel_size)
    unit = f" {sized.unit}" if sized.has_physical_size else ""
    what = "a voxel size in an unknown unit" if knowledge_of_size(other) else "none"
    return sized, (
        f"The voxel size of {sized.title} ({size}{unit}) is used for both shapes: "
        f"{other.title} has {what}."
    )
