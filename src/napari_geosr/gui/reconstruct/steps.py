"""Steps that a worker runs for the Reconstruct dock, without Qt: open, preview, run."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    TileDone,
)
from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers.projections import (
    LayerData,
    OpenedScan,
    projection_layers,
)
from napari_geosr.gui.reconstruct.coarse_slice import (
    CoarseSlice,
    binning_factor,
    coarse_slice,
)
from napari_geosr.gui.reconstruct.compile_ahead import compile_steps
from napari_geosr.operations.reconstruct import prepare_steps, preview, run_steps
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.inputs import (
    ProjectionsInput,
    open_projections,
)
from napari_geosr.operations.reconstruct.preview import contrast

if TYPE_CHECKING:
    from napari_geosr.operations.reconstruct import Centre, ReconstructionResult
    from napari_geosr.operations.reconstruct.preview import PreviewRow, TrialSlice


#: Data kept from one preview slice to the next; created in the worker.
PreviewRows = dict[str, "PreviewRow"]


@dataclass(frozen=True)
class LimitsFound(Step):
    """Contrast limits found from the first slices of a volume."""

    limits: tuple[float, float] = (0.0, 1.0)


def open_steps(
    path: Path, reading: ProjectionsInput, should_stop: ShouldStop
) -> Generator[Step, None, list[LayerData]]:
    """Open projections and create their layers."""
    yield StageStarted(message=f"Opening {path.name}")
    scan = open_projections(path, reading)
    if should_stop():
        raise Cancelled("Cancelled.")
    given = reading.model_dump(exclude_defaults=True)
    return projection_layers(OpenedScan(scan, given))


def centre_steps(
    scan: Projections, config: ReconstructConfig, should_stop: ShouldStop
) -> Generator[Step, None, Centre]:
    """Find the rotation axis."""
    return (yield from preview.centre_steps(scan, config, should_stop))


def slice_steps(
    scan: Projections,
    config: ReconstructConfig,
    row: int,
    known: Centre | None,
    preview_rows: PreviewRows,
    should_stop: ShouldStop,
) -> Generator[Step, None, TrialSlice]:
    """Reconstruct the slice of one row, preceded by a `CoarseSlice` if it is slow.

    Parameters
    ----------
    scan : Projections
    config : ReconstructConfig
    row : int
        Detector row.
    known : Centre or None
        The rotation axis, if known.
    preview_rows : dict
        Data kept from earlier slices, such as prepared rows.
    should_stop : callable
    """
    yield from compile_steps(config, scan.geometry, should_stop)
    preview_row = preview_rows.setdefault("row", preview.PreviewRow())
    factor = binning_factor(scan, config)
    if factor > 1:
        column = _column(scan, config, known)
        if column is None:
            known = yield from preview.centre_steps(scan, config, should_stop)
            column = known.column
        yield StageStarted(message="Reconstructing a coarse slice")
        lines = preview_row.get(scan, config, row)
        if should_stop():
            raise Cancelled("Cancelled.")
        if lines is not None:
            tried = coarse_slice(lines, config, row, column, factor, should_stop)
            yield CoarseSlice(tried=tried)
    steps = preview.slice_steps(scan, config, row, known, preview_row, should_stop)
    return (yield from steps)


def _column(
    scan: Projections, config: ReconstructConfig, known: Centre | None
) -> float | None:
    """Return the detector column of the rotation axis, if known."""
    if config.centre != "auto":
        return float(config.centre)
    return scan.centre if known is None else known.column


def volume_steps(
    scan: Projections,
    config: ReconstructConfig,
    known: Centre | None,
    unfinished: Volume | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, ReconstructionResult]:
    """Reconstruct a volume like `run_steps`; yield `LimitsFound` with the first slices.

    Parameters
    ----------
    scan : Projections
    config : ReconstructConfig
    known : Centre or None
        The rotation axis, if known.
    unfinished : Volume or None
        Partial result of an earlier run.
    should_stop : callable
    """
    yield from compile_steps(config, scan.geometry, should_stop)
    ready = yield from prepare_steps(scan, config, known=known, should_stop=should_stop)
    steps = run_steps(ready, unfinished=unfinished, should_stop=should_stop)
    has_limits = False
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, TileDone) and step.array is not None and not has_limits:
                has_limits = True
                yield LimitsFound(limits=contrast(step.array))
            yield step
    return iterator.result
