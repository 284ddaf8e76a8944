"""Contrast limits from a sample of a whole volume, not from the slice shown first.

Arrays in memory are sampled immediately, in milliseconds. For arrays on disk, a worker
reads a few planes; until then napari's limits are used, and limits set by the user are
kept. Results of jobs are sampled in the same way.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.steps import BlockDone, ShouldStop, Step
from napari_geosr.core.types import AnyArray
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers import METADATA

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image
    from napari.utils.events import Event

#: Number of planes sampled to find the contrast limits of a layer.
_N_PLANES = 9
#: Maximum edge length of the window read from a plane, in voxels.
_MAX_WINDOW = 2048
#: Maximum number of voxels sampled: in total from arrays in memory, per plane from
#: others.
_MAX_VOXELS = 2**16
#: Percentage of the voxels, at either end of the histogram, that may be outliers.
_TAIL = 0.1
#: Minimum gap between the grey values of outliers and of other voxels, relative to the
#: range of the latter.
_OUTLIER_GAP = 0.5

Limits = tuple[float, float]

#: References to running tasks; without one, the callbacks of a task would be lost.
_running: set[BackgroundTask] = set()


def sample_added_layers(viewer: ViewerModel) -> None:
    """Set contrast limits of layers from this package's readers when they are added."""
    viewer.layers.events.inserted.connect(_on_inserted)


def _on_inserted(event: Event) -> None:
    layer = event.value
    if METADATA not in layer.metadata or not hasattr(layer, "contrast_limits"):
        return
    if layer.source.reader_plugin is None:  # a result, or a view of another layer
        return
    if layer.metadata[METADATA].get("view"):
        return  # projections have their own limits
    data = layer.data[-1] if layer.multiscale else layer.data
    if isinstance(data, np.ndarray) and not isinstance(data, np.memmap):
        set_limits(layer, limits_of(_sample(data)))
        return
    _LimitsReader(layer, data)


class _LimitsReader:
    """Reads a few planes in a worker; sets the limits unless the user has set them."""

    def __init__(self, layer: Image, data: Any) -> None:
        self._layer = weakref.ref(layer)
        # napari sets limits from the first slice only once: either now or when the
        # layer is first drawn.
        lowest, highest = layer.contrast_limits_range
        self._n_expected_changes = int(
            tuple(layer.contrast_limits) == (lowest, highest)
        )
        self._n_changes = 0
        layer.events.contrast_limits.connect(self._on_changed)
        task = BackgroundTask(
            partial(limits_steps, data),
            on_result=self._on_sampled,
            # Read errors are reported when napari draws the layer.
            on_error=lambda _error: None,
            on_finished=lambda: _running.discard(task),
        )
        _running.add(task)

    def _on_changed(self, _event: Event) -> None:
        self._n_changes += 1

    def _on_sampled(self, limits: Limits | None) -> None:
        layer = self._layer()
        if layer is None:
            return
        layer.events.contrast_limits.disconnect(self._on_changed)
        if self._n_changes <= self._n_expected_changes:
            set_limits(layer, limits)


def limits_steps(
    data: Any, should_stop: ShouldStop
) -> Generator[Step, None, Limits | None]:
    """Find limits from evenly spaced planes of the volume; to be called in a worker.

    Only a central window of large planes is read.

    Returns
    -------
    tuple of float or None
        None if the values are constant, or if no plane was read.
    """
    leading = tuple(int(n) for n in data.shape[:-2])
    n = int(np.prod(leading)) if leading else 1
    places = np.unique(np.linspace(0, n - 1, min(n, _N_PLANES)).round().astype(int))
    window = tuple(_central_window(int(size)) for size in data.shape[-2:])
    found = []
    for done, place in enumerate(places, start=1):
        if should_stop():
            break
        index = tuple(int(i) for i in np.unravel_index(place, leading)) if n > 1 else ()
        key = (*(index or (0,) * len(leading)), *window)
        found.append(_sample(np.asarray(data[key])))
        yield BlockDone(done, len(places))
    return limits_of(np.concatenate(found)) if found else None


def _central_window(size: int) -> slice:
    start = max(0, (size - _MAX_WINDOW) // 2)
    return slice(start, min(size, start + _MAX_WINDOW))


def _sample(data: AnyArray) -> AnyArray:
    """Return at most `_MAX_VOXELS` evenly spaced finite values of an array."""
    values: AnyArray = data[_strides(data.shape)].ravel()
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def _strides(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return slices with steps, for at most `_MAX_VOXELS` evenly spaced voxels."""
    steps = [1] * len(shape)
    room = _MAX_VOXELS
    by_length = sorted(range(len(shape)), key=lambda axis: shape[axis])
    for i, axis in enumerate(by_length):
        n = max(1, shape[axis])
        taken = min(n, max(1, int(room ** (1 / (len(shape) - i)))))
        steps[axis] = math.ceil(n / taken)
        room //= taken
    return tuple(slice(None, None, step) for step in steps)


def limits_of(values: AnyArray) -> Limits | None:
    """Return the lowest and highest values except outliers; None if all are equal."""
    if not values.size:
        return None
    ends = np.percentile(values, (0, _TAIL, 100 - _TAIL, 100))
    lowest, low, high, highest = (float(v) for v in ends)
    room = _OUTLIER_GAP * (high - low)
    if room > 0:
        lowest = lowest if low - lowest <= room else low
        highest = highest if highest - high <= room else high
    return (lowest, highest) if highest > lowest else None


def set_limits(layer: Image, limits: Limits | None) -> None:
    """Set contrast limits; for integers, limit the slider to twice their range."""
    if limits is None:
        return
    room = (limits[1] - limits[0]) / 2
    lowest, highest = layer.contrast_limits_range
    if np.dtype(layer.dtype).kind in "biu":
        lowest = max(lowest, limits[0] - room)
        highest = min(highest, limits[1] + room)
        layer.contrast_limits_range = (
            min(lowest, limits[0]),
            max(highest, limits[1]),
        )
    layer.contrast_limits = limits
