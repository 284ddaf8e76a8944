"""The layer of standard deviations that a run fills along with its result."""

from __future__ import annotations

import math
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.steps import Step
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import ArrayLike
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    alignment_with,
    layer_metadata,
    series_alignment_with,
)
from napari_geosr.gui.layers.refresh import rename

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.restore import RestorationResult

#: Number of planes sampled to find the upper contrast limit.
_N_PLANES = 8
#: Approximate number of voxels sampled per plane.
_PLANE_VOXELS = 1 << 16
#: Percentile of the sampled deviations that is the upper contrast limit.
_PERCENTILE = 99.8


class DeviationLayer:
    """Standard deviations at the position of the result, initially hidden."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._layer: weakref.ref[Image] | None = None
        self._original_name = ""
        #: Incomplete standard deviations of a stopped run.
        self.stopped: Volume | None = None

    def layer(self) -> Image | None:
        """Return the layer while it is in the viewer."""
        layer = None if self._layer is None else self._layer()
        return layer if layer is not None and layer in self._viewer.layers else None

    def forget(self) -> None:
        """Prepare for a new run; the layer of the last run is kept unchanged."""
        self._layer = self.stopped = None

    def can_resume(self) -> bool:
        """Whether a stopped run can be resumed: its layer must still have its data.

        True if no run with standard deviations was stopped.
        """
        if self.stopped is None:
            return True
        layer = self.layer()
        return layer is not None and layer.data is self.stopped.data

    def show(
        self, volume: Volume, target: Layer, source: Image, facts: AnyDict
    ) -> Image:
        """Add a layer, unless a resumed run has one; `target` remains the active layer.

        The layer is hidden because it would cover the result.
        """
        layer = self.layer()
        if layer is not None:
            return layer
        layer = add_image_result(
            self._viewer,
            volume,
            None,
            name=f"{volume.name} (unfinished)",
            colormap="inferno",
            contrast_limits=(0.0, 1.0),
            visible=False,
            **alignment_with(source),
            **(series_alignment_with(volume, source) if "series" in facts else {}),
        )
        layer.metadata[METADATA] |= facts
        self._original_name = layer.name
        self._layer = weakref.ref(layer)
        self._viewer.layers.selection.active = target
        return layer

    def finish(
        self, volume: Volume, facts: AnyDict, limit: float, *, complete: bool
    ) -> None:
        """Set the layer's provenance record and contrast after the run.

        `limit` is the value returned by `with_upper_limit`.
        """
        layer = self.layer()
        if layer is None:
            return
        layer.metadata[METADATA] = layer_metadata(volume)[METADATA] | facts
        if limit > 0:
            layer.contrast_limits = (0.0, limit)
        if not complete:
            self.stopped = volume
        elif layer.name == self._original_name:
            rename(self._viewer, layer, volume.name)


def with_upper_limit(
    steps: Generator[Step, None, RestorationResult],
) -> Generator[Step, None, tuple[RestorationResult, float]]:
    """Run a restoration, then find the upper contrast limit of its standard deviations.

    The limit is found in the worker because voxels may have to be read from disk.

    Returns
    -------
    restored : RestorationResult
    limit : float
        0 if unknown.
    """
    restored = yield from steps
    deviation = restored.deviation
    limit = 0.0 if deviation is None else upper_limit(deviation.data)
    return restored, limit


def upper_limit(data: ArrayLike) -> float:
    """Return a value that few of the sampled voxels exceed; 0 if none is finite.

    Parameters
    ----------
    data : array of shape ([T, C, Z,] Y, X)
        NaN marks voxels that were not restored.
    """
    step = math.ceil(math.sqrt(math.prod(data.shape[-2:]) / _PLANE_VOXELS))
    plane = (slice(step // 2, None, step),) * 2
    if data.ndim == 2:
        values = np.asarray(data[plane], np.float32).ravel()
    else:
        leading = tuple(data.shape[:-2])
        n = math.prod(leading)
        count = min(n, _N_PLANES)
        flat = [(2 * i + 1) * n // (2 * count) for i in range(count)]
        places = [tuple(map(int, np.unravel_index(i, leading))) for i in flat]
        sampled = [np.asarray(data[(*at, *plane)], np.float32) for at in places]
        values = np.concatenate([part.ravel() for part in sampled])
    values = values[np.isfinite(values)]
    return float(np.percentile(values, _PERCENTILE)) if values.size else 0.0
