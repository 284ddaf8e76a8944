"""Previews of a run: one restored region, and the estimated time and memory."""

from __future__ import annotations

from collections.abc import Generator

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.inference.runner import Estimate, estimate, restore_region
from napari_geosr.operations.restore.preparation import PreparedRestoration

__all__ = ["Estimate", "estimate_steps", "preview_steps"]


def preview_steps(
    prepared: PreparedRestoration,
    region: tuple[slice, ...],
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Volume]:
    """Restore one region, with the same result as a run over the whole volume.

    Parameters
    ----------
    region : tuple of slice
        The region in voxels of the input, one slice per spatial axis.

    Returns
    -------
    Volume
        The region at its position in space.
    """
    yield StageStarted(message="Preview")
    volume = prepared.volume
    if should_stop():
        raise Cancelled("The preview was cancelled.")
    data = restore_region(
        prepared.network,
        volume.data,
        region,
        statistics=prepared.statistics,
        device=prepared.device,
        budget=prepared.budget,
        nonfinite=prepared.config.nonfinite,
        threads=prepared.config.threads,
        should_stop=should_stop,
    )
    voxel_size, origin = volume.upscaled_geometry(prepared.factors)
    steps = (part.indices(n)[0] for part, n in zip(region, volume.shape, strict=True))
    corner = tuple(
        o + start * v
        for o, start, v in zip(origin, steps, volume.voxel_size, strict=True)
    )
    return Volume(
        data.astype(prepared.output_dtype) if prepared.labels else data,
        volume.axes,
        voxel_size,
        volume.unit,
        corner,
        name=prepared.result_name,
        metadata=prepared.metadata,
    )


def estimate_steps(prepared: PreparedRestoration) -> Generator[Step, None, Estimate]:
    """Estimate the time and memory of a run."""
    yield StageStarted(message="Estimating time and memory")
    result: Estimate = estimate(
        prepared.network,
        prepared.volume.shape,
        device=prepared.device,
        budget=prepared.budget,
        threads=prepared.config.threads,
    )
    return result
