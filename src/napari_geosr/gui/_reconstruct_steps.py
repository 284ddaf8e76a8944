"""What a worker does for the Reconstruct dock: open, try a slice, run. No Qt here."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    ResultReady,
    ShouldStop,
    StageStarted,
    Step,
    TileDone,
    Warned,
    relay,
)
from napari_geosr.core.volume import Volume
from napari_geosr.gui._projection_layers import OpenedScan, projection_layers
from napari_geosr.gui._warm_up import load_torch_libraries
from napari_geosr.io import atomic
from napari_geosr.operations.projection_inputs import ProjectionsInput, open_projections
from napari_geosr.operations.reconstruct_config import ReconstructConfig

if TYPE_CHECKING:
    from napari_geosr.operations.reconstruct_preview import KeptRow
    from napari_geosr.operations.study_config import StudyConfig
    from napari_geosr.tomography.centre import Centre


#: What one slice leaves for the next; made in the worker.
Kept = dict[str, "KeptRow"]


@dataclass(frozen=True)
class LimitsFound(Step):
    """A contrast that fits the first slices of a volume."""

    limits: tuple[float, float] = (0.0, 1.0)


def open_steps(
    path: Path, reading: ProjectionsInput, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Open projections and make their layers: ``ResultReady(list of LayerData)``."""
    yield StageStarted(message=f"Opening {path.name}")
    scan = open_projections(path, reading)
    if should_stop():
        raise Cancelled("Cancelled.")
    for note in scan.metadata.get("notes", ()):
        yield Warned(message=note)
    given = reading.model_dump(exclude_defaults=True)
    yield ResultReady(result=projection_layers(OpenedScan(scan, given)))


def centre_steps(
    scan: Projections, config: ReconstructConfig, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Find the rotation axis: ``ResultReady(Centre)``."""
    # Here and below: the dock opens without all that computes.
    from napari_geosr.operations import reconstruct_preview as preview

    yield from preview.centre_steps(scan, config, should_stop)


def slice_steps(
    scan: Projections,
    config: ReconstructConfig,
    row: int,
    known: Centre | None,
    kept: Kept,
    should_stop: ShouldStop,
) -> Generator[Step, None, None]:
    """Reconstruct the slice of one row: torch is loaded first."""
    load_torch_libraries()
    from napari_geosr.operations import reconstruct_preview as preview

    row_kept = kept.setdefault("row", preview.KeptRow())
    yield from preview.slice_steps(scan, config, row, known, row_kept, should_stop)


def volume_steps(
    scan: Projections,
    config: ReconstructConfig,
    known: Centre | None,
    unfinished: Volume | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, None]:
    """Reconstruct all: as `run_steps`, and `LimitsFound` with the first slices."""
    yield StageStarted(message="Starting")
    load_torch_libraries()
    from napari_geosr.operations.reconstruct import prepare_steps, run_steps
    from napari_geosr.operations.reconstruct_preview import contrast

    ready = yield from relay(
        prepare_steps(scan, config, known=known, should_stop=should_stop)
    )
    steps = run_steps(ready, unfinished=unfinished, should_stop=should_stop)
    told = False
    try:
        for step in steps:
            if isinstance(step, TileDone) and step.array is not None and not told:
                told = True
                yield LimitsFound(limits=contrast(step.array))
            yield step
    finally:
        steps.close()


def study_steps(
    scan: Projections, out: Path, config: StudyConfig, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Study how few projections do, in a folder that is made: ``Studied``."""
    yield StageStarted(message="Starting")
    load_torch_libraries()
    from napari_geosr.operations import study

    with atomic.explained(out):
        out.mkdir(parents=True, exist_ok=True)
    yield from study.study_steps(scan, out, config, should_stop=should_stop)
