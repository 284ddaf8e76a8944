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
from napari_geosr.operations.shapes.config import CompareShapesConfig
from napari_geosr.operations.shapes.grids import check_same_grid, is_half_turned
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
    other = yield from read_shape_steps(reference, config.label, should_stop)
    check_comparison_memory(one, other)
    yield StageStarted(message="Measuring the distances between the surfaces")
    tolerance = config.tolerance_in(volume.unit)
    unit = shown_unit(volume.unit, volume.voxel_size)
    with interruptible(should_stop):
        return compare_shapes(one, other, volume.voxel_size, unit, tolerance)
