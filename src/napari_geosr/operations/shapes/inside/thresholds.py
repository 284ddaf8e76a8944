"""Masks of the voxels of a scan above or below a grey value."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import BlockDone, ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.measure.blocks import check_real
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import histogram_steps
from napari_geosr.measure.segment import threshold_of
from napari_geosr.operations.shapes.config import SegmentInsideConfig
from napari_geosr.operations.shapes.masks import cached_within, new_mask, voxels_at_once


def read_beyond_steps(
    volume: Volume, config: SegmentInsideConfig, budget: int, should_stop: ShouldStop
) -> Generator[Step, None, tuple[PackedMask, float]]:
    """Read which voxels of a scan are above or below the threshold in `config`.

    Parameters
    ----------
    volume : Volume
        Grey values (Z, Y, X). NaN and infinite values are outside the mask.
    config : SegmentInsideConfig
        Settings with `above` or `below`.
    budget : int
        Bytes of memory that may be used. If it is small, fewer planes are read at a
        time.
    should_stop : callable

    Returns
    -------
    inside : PackedMask
    threshold : float
        The given grey value, or Otsu's threshold of the scan.

    Raises
    ------
    VolumeError
        If no voxel, or every voxel, is inside.
    DeviceMemoryError
        If the memory budget is too small for a large mask that has no temporary file.
    Cancelled
        If `should_stop` returns True.
    """
    check_real(volume.dtype, volume.title)
    inside = new_mask(volume, budget)
    rule = config.threshold
    assert rule is not None
    with cached_within(volume.data, budget) as held:
        at_once = voxels_at_once(volume, budget - inside.nbytes - held)
        depth = max(1, at_once // max(1, volume.shape[1] * volume.shape[2]))
        if rule == "otsu":
            threshold = yield from _otsu_steps(volume, depth, should_stop)
        else:
            threshold = rule
        limits = yield from _fill_steps(
            inside, volume, threshold, config.is_above, depth, should_stop
        )
    _check_contents(volume, inside, threshold, config.is_above, limits)
    return inside, threshold


def _fill_steps(
    inside: PackedMask,
    volume: Volume,
    threshold: float,
    is_above: bool,
    depth: int,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[float, float]]:
    """Read the voxels beyond a threshold into `inside`; return the range of values."""
    yield StageStarted(message=f"Reading {volume.title}")
    low, high = np.inf, -np.inf
    for start in range(0, volume.shape[0], depth):
        if should_stop():
            raise Cancelled("Stopped while reading; no file was written.")
        part = np.asarray(volume.data[start : start + depth])
        found: AnyArray = part > threshold if is_above else part <= threshold
        finite = np.isfinite(part)
        inside.write(start, found & finite)
        if finite.any():
            low = min(low, float(part.min(where=finite, initial=part[finite][0])))
            high = max(high, float(part.max(where=finite, initial=part[finite][0])))
        yield BlockDone(min(start + depth, volume.shape[0]), volume.shape[0])
    return low, high


def _otsu_steps(
    volume: Volume, depth: int, should_stop: ShouldStop
) -> Generator[Step, None, float]:
    """Determine Otsu's threshold from the histogram of a scan."""
    yield StageStarted(message=f"Determining Otsu's threshold of {volume.title}")
    histogram = yield from histogram_steps(
        volume.data, thickness=depth, name=volume.title, should_stop=should_stop
    )
    config = PorosityConfig(threshold="otsu")
    return threshold_of(histogram, config, volume.dtype, name=volume.title)


def _check_contents(
    volume: Volume,
    inside: PackedMask,
    threshold: float,
    is_above: bool,
    limits: tuple[float, float],
) -> None:
    """Raise `VolumeError` if no voxel or every voxel is inside."""
    count = inside.count()
    if 0 < count < inside.size:
        return
    which = "Every voxel" if count else "No voxel"
    place = "above" if is_above else "at or below"
    low, high = limits
    span = (
        f"its grey values are between {low:.6g} and {high:.6g}"
        if low <= high
        else "it contains no finite value"
    )
    raise VolumeError(
        f"{which} of {volume.title} is {place} {threshold:.6g}: {span}. Choose another "
        "grey value."
    )
