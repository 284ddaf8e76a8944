"""Previews a slice with any axis, row or settings before the full run."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    CentreFound,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.core.volume import Volume
from napari_geosr.operations.reconstruct import ReconstructConfig, reconstruct_slice
from napari_geosr.operations.reconstruct.preparation import preparation_for_axis
from napari_geosr.operations.reconstruct.scan import used_projections
from napari_geosr.tomography.centre import Centre, find_centre
from napari_geosr.tomography.preparation_config import PreparationConfig
from napari_geosr.tomography.preprocess import LineIntegrals, beam_without_sample

#: Maximum fraction of the free memory for line integrals kept for the next preview.
_KEPT_SHARE = 0.2
#: Percentiles of the slice's values used as contrast limits.
_CONTRAST = (0.5, 99.5)

Limits = tuple[float, float]


@dataclass(frozen=True, eq=False)
class TrialSlice:
    """A slice with its contrast limits and computing time.

    Attributes
    ----------
    volume : Volume
        One slice (1, N, N), at its position.
    limits : tuple of float
        Suitable contrast limits.
    seconds : float
        Duration of the reconstruction alone, in seconds.
    """

    volume: Volume
    limits: Limits
    seconds: float


@dataclass
class PreviewRow:
    """Line integrals for the previewed slice, which do not depend on the axis."""

    key: tuple[Any, ...] = ()
    scan: Projections | None = None
    _prepared: tuple[tuple[Any, ...], LineIntegrals] | None = field(
        default=None, repr=False
    )

    def get(
        self, scan: Projections, config: ReconstructConfig, row: int
    ) -> Projections | None:
        """Return the line integrals needed for a slice; None if they are too large."""
        whole = scan.geometry == "cone"
        about = (id(scan), config.every, config.half, config.preparation())
        key = (*about, None if whole else row)
        if key == self.key:
            return self.scan
        self.key, self.scan = (), None
        n = scan.n_rows if whole else 1
        used = used_projections(scan, config)
        nbytes = 4 * used.n_angles * n * scan.n_columns
        if nbytes > _KEPT_SHARE * free_host_memory():
            return None
        if self._prepared is None or self._prepared[0] != about:
            preparation = config.preparation()
            incident = beam_without_sample(scan, preparation)
            self._prepared = about, LineIntegrals(used, preparation, incident)
        first = 0 if whole else row
        sinogram, _ = self._prepared[1].rows(first, first + n)
        lines: npt.NDArray[np.float32] = np.ascontiguousarray(sinogram.swapaxes(0, 1))
        self.scan = used.replace(
            data=lines, flats=None, darks=None, is_line_integrals=True
        )
        self.key = key
        return self.scan


def centre_steps(
    scan: Projections, config: ReconstructConfig, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, Centre]:
    """Find the rotation axis.

    Yields
    ------
    Step
        `CentreFound`.

    Returns
    -------
    Centre

    Raises
    ------
    ProjectionsError
        If the axis cannot be determined.
    Cancelled
        If `should_stop` returns True.
    """
    yield StageStarted(message="Finding the rotation axis")
    used = used_projections(scan, config.model_copy(update={"half": "all"}))
    incident = beam_without_sample(scan, config.preparation())
    preparation = preparation_for_axis(config, incident)
    centre = find_centre(used, preparation=preparation, should_stop=should_stop)
    yield CentreFound(centre=centre)
    return centre


def slice_steps(
    scan: Projections,
    config: ReconstructConfig,
    row: int,
    known: Centre | None,
    kept: PreviewRow,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, TrialSlice]:
    """Reconstruct the slice of one row, finding the axis first if it is unknown.

    Parameters
    ----------
    row : int
        Detector row.
    known : Centre, optional
        The rotation axis, if it was found before and the setting is ``auto``.
    kept : PreviewRow
        Line integrals kept between calls.

    Yields
    ------
    Step
        `CentreFound`.

    Returns
    -------
    TrialSlice

    Raises
    ------
    ProjectionsError, ConfigError
        If the run fails.
    Cancelled
        If `should_stop` returns True.
    """
    yield StageStarted(message="Reconstructing the slice")
    column = scan.centre if config.centre == "auto" else float(config.centre)
    if config.centre == "auto" and known is not None:
        column = known.column
    if column is None:
        found = yield from centre_steps(scan, config, should_stop)
        column = found.column
    if should_stop():
        raise Cancelled("Cancelled.")
    lines = kept.get(scan, config, row)
    if should_stop():
        raise Cancelled("Cancelled.")
    began = time.monotonic()
    if lines is None:
        volume = reconstruct_slice(scan, row, config, column, should_stop=should_stop)
    else:
        at = row if lines.n_rows > 1 else 0
        volume = reconstruct_slice(
            lines, at, _line_integral_settings(config), column, should_stop=should_stop
        )
        z = (row - at) * volume.voxel_size[0]
        volume = volume.replace(
            origin=(volume.origin[0] + z, *volume.origin[1:]), name=volume.name
        )
    seconds = time.monotonic() - began
    return TrialSlice(volume, contrast(volume.data), seconds)


def _line_integral_settings(config: ReconstructConfig) -> ReconstructConfig:
    """Return the settings to use with line integrals that are already prepared."""
    done = PreparationConfig().model_dump() | {"every": 1, "half": "all", "rows": None}
    return config.model_copy(update=done)


def contrast(slices: Any) -> Limits:
    """Return contrast limits for the middle slice, ignoring its corners."""
    plane = np.asarray(slices[len(slices) // 2])
    step = max(1, len(plane) // 256)
    some = plane[::step, ::step]
    y, x = (np.linspace(-1, 1, n) for n in some.shape)
    inside = some[(y[:, None] ** 2 + x**2 < 1) & np.isfinite(some)]
    if not inside.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(inside, _CONTRAST))
    return (low, high) if high > low else (low, low + 1.0)
