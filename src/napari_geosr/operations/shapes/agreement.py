"""Compare two shapes of the same region."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.units import same_position, same_sizes
from napari_geosr.core.volume import Volume
from napari_geosr.measure.shapes import compare_shapes
from napari_geosr.operations.shapes.config import CompareShapesConfig
from napari_geosr.operations.shapes.masks import read_shape_steps

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
    """
    _check_same_grid(volume, reference)
    one = yield from read_shape_steps(volume, config.label, should_stop)
    other = yield from read_shape_steps(reference, config.label, should_stop)
    yield StageStarted(message="Measuring the distances between the surfaces")
    tolerance = config.tolerance_in(volume.unit)
    return compare_shapes(one, other, volume.voxel_size, volume.unit, tolerance)


def _check_same_grid(volume: Volume, reference: Volume) -> None:
    if volume.shape != reference.shape:
        sizes = [" × ".join(map(str, v.shape)) for v in (volume, reference)]
        raise VolumeError(
            f"{volume.title} has {sizes[0]} voxels and {reference.title} {sizes[1]}. "
            "Compare shapes on the same grid."
        )
    known = volume.has_physical_size and reference.has_physical_size
    if volume.unit != reference.unit and known:
        raise VolumeError(
            f"{volume.title} is in {volume.unit} and {reference.title} in "
            f"{reference.unit}. Give both the same unit (--unit)."
        )
    if not known:
        return
    same = same_sizes(volume.voxel_size, reference.voxel_size)
    if not same or not same_position(
        volume.origin, reference.origin, reference.voxel_size
    ):
        raise VolumeError(
            f"{volume.title} and {reference.title} have different voxel sizes or "
            "origins, so they do not show the same region."
        )
