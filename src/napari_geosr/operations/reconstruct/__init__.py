"""Reconstruct a volume from projections: preparation, preview of a slice, full run."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import ConfigError, ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.inference.device import pick_device
from napari_geosr.io.unfinished_files.unfinished import find_unfinished
from napari_geosr.operations.cluster import Workers, check_workers
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.reconstruct.blocks import reconstruct_rows
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.inputs import (
    ProjectionsInput,
    open_projections,
)
from napari_geosr.operations.reconstruct.preparation import prepare_steps
from napari_geosr.operations.reconstruct.resume import as_volume, centre_of
from napari_geosr.operations.reconstruct.run import ReconstructionResult, run_steps
from napari_geosr.operations.reconstruct.scan import (
    ReconstructionInput,
    given_centre,
    ready_scan,
    used_projections,
)
from napari_geosr.tomography.centre import Centre
from napari_geosr.tomography.iterations import ignore_iteration
from napari_geosr.tomography.preprocess import LineIntegrals, beam_without_sample

__all__ = [
    "Centre",
    "ProjectionsInput",
    "ReconstructConfig",
    "ReconstructionInput",
    "ReconstructionResult",
    "find_unfinished",
    "open_projections",
    "prepare_steps",
    "reconstruct_slice",
    "reconstruct_steps",
    "run_steps",
]


def reconstruct_steps(
    projections: Projections | str | Path,
    config: ReconstructConfig | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    unfinished: Volume | None = None,
    workers: Workers | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ReconstructionResult]:
    """Find the rotation axis once, then reconstruct block by block.

    See `prepare_steps` and `run_steps`.

    Parameters
    ----------
    projections : Projections or path
        Projections, or a path that is opened with `open_projections`.
    unfinished : Volume, optional
        Unfinished result of an earlier run; see `find_unfinished`.
    workers : int or distributed.Client, optional
        Processes that share the slices; the result does not depend on their number.

    Yields
    ------
    Step
        `CentreFound`, `TargetReady`, `IterationDone` and `TileDone`.

    Returns
    -------
    ReconstructionResult

    Raises
    ------
    FileError, ProjectionsError, ConfigError, DeviceMemoryError
        If the run fails; the message states the problem and what to do.
    """
    if workers is not None:
        check_workers(workers)
    config = config or ReconstructConfig()
    scan = projections
    if not isinstance(scan, Projections):
        scan = open_projections(scan)
    if out is not None:
        io.check_output(out, overwrite=overwrite, continues=unfinished is not None)
        if scan.source is not None:
            check_not_source(as_volume(scan), out)
    known = None if unfinished is None else centre_of(unfinished)
    centre = None
    if known is not None:
        centre = given_centre(float(known["column"]), str(known["method"]))
    ready = yield from prepare_steps(
        scan, config, known=centre, should_stop=should_stop
    )
    steps = run_steps(
        ready,
        out=out,
        overwrite=overwrite,
        unfinished=unfinished,
        workers=workers,
        should_stop=should_stop,
    )
    return (yield from steps)


def reconstruct_slice(
    projections: Projections,
    row: int,
    config: ReconstructConfig | None = None,
    centre: float | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Volume:
    """Reconstruct the slice of one detector row, for previews.

    The rotation axis is not searched for. No other row is read, except for cone beams:
    FDK needs the neighbouring rows, and iterative algorithms need all rows. Without
    flat fields, some whole projections are read to determine the beam intensity without
    the sample.

    Parameters
    ----------
    row : int
        Detector row; `config.rows` is ignored.
    centre : float, optional
        Column of the rotation axis; by default, taken from the settings or the file.

    Returns
    -------
    Volume
        One slice, axes (Z, Y, X), with the same values and position as in the whole
        volume.

    Raises
    ------
    ConfigError
        If the position of the rotation axis is unknown.
    ProjectionsError
        If there is no such row, or the projections cannot be used.
    Cancelled
        If `should_stop` returns True.
    """
    config = (config or ReconstructConfig()).model_copy(update={"rows": None})
    if projections.geometry == "cone" and config.algorithm == "fbp":
        config = config.model_copy(update={"algorithm": "fdk"})
    if centre is None:
        centre = projections.centre if config.centre == "auto" else config.centre
    if centre is None:
        raise ConfigError(
            "A single slice requires the column of the rotation axis: give the "
            "centre, or determine it first."
        )
    if not 0 <= row < projections.n_rows:
        raise ProjectionsError(
            f"{projections.title} has rows 0 to {projections.n_rows - 1} and no row "
            f"{row}. Choose another row."
        )
    scan = used_projections(projections, config)
    device = pick_device(config.device)
    preparation = config.preparation()
    incident = beam_without_sample(projections, preparation)
    known = given_centre(float(centre), "given")
    ready = ready_scan(projections, scan, config, known, device, 0, incident)
    at = ready.slice_of(row)
    sinogram, _ = LineIntegrals(scan, preparation, incident).rows(
        *ready.detector_rows((at, at + 1))
    )
    slices = reconstruct_rows(
        ready, sinogram, should_stop, ignore_iteration, (at, at + 1)
    )
    z, y, x = ready.origin
    return Volume(
        np.ascontiguousarray(slices[at if ready.whole else 0][None]),
        "ZYX",
        ready.voxel_size,
        scan.unit,
        (z + at * ready.voxel_size[0], y, x),
        name=f"{projections.name} · {config.algorithm}",
        metadata={"values": f"attenuation per {scan.unit}"},
    )
