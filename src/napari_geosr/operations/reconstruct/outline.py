"""Estimates memory and time of a reconstruction, without reading projections."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import never_stop
from napari_geosr.operations.reconstruct.blocks import reconstruct_rows
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.scan import (
    ReconstructionInput,
    given_centre,
    ready_scan,
    used_projections,
)
from napari_geosr.operations.reconstruct.workers import SlabRun
from napari_geosr.tomography.iterations import ignore_iteration

#: Maximum width of the detector of the small scan that is timed, in pixels; wide enough
#: for the speed to be representative of large scans.
_COLUMNS = 512
#: Maximum width for a cone beam, for which the whole volume is timed.
_CONE_COLUMNS = 96
#: Maximum number of projections of the small scan.
_PROJECTIONS = 32
#: Maximum number of slices of the small scan, except for a cone beam.
_SLICES = 4
#: Maximum number of iterations that are timed.
_ITERATIONS = 4
#: Number of timed runs; the first includes compilation, and the fastest counts.
_REPEATS = 3


@dataclass(frozen=True)
class ReconstructOutline:
    """The resources needed by the largest block of a reconstruction.

    Attributes
    ----------
    ready : ReconstructionInput
        The scan, with the rotation axis in the middle if it is not known.
    slices : int
        Number of slices that are computed and saved together.
    memory : int
        Peak memory of all processes in bytes, excluding the program itself.
    """

    ready: ReconstructionInput
    slices: int
    memory: int

    @property
    def work(self) -> float:
        """Product of the numbers of voxels, projections and iterations of a block."""
        return _work(self.ready, self.slices)

    def seconds(self) -> float:
        """Estimate the CPU time of a block from a small simulated scan.

        Reading the projections is not included.
        """
        small = _small(self.ready, self.slices)
        shape = (small.scan.n_rows, small.scan.n_angles, small.n_columns)
        rows = np.random.default_rng(0).random(shape, np.float32)
        slices = (0, small.n_slices)
        elapsed = []
        for _ in range(_REPEATS):
            began = time.process_time()
            reconstruct_rows(small, rows, never_stop, ignore_iteration, slices)
            elapsed.append(time.process_time() - began)
        return min(elapsed) * self.work / _work(small, small.n_slices)


def outline(
    projections: Projections, config: ReconstructConfig, workers: int | None = None
) -> ReconstructOutline:
    """Divide a reconstruction on the CPU into blocks, as a run does.

    Parameters
    ----------
    projections : Projections
    config : ReconstructConfig
    workers : int, optional
        Number of processes that share the memory budget and the threads.

    Raises
    ------
    DeviceMemoryError
        If not even one slice fits into the memory budget.
    ProjectionsError
        If there are too few projections, or the given axis is not on the detector.
    """
    if projections.geometry == "cone" and config.algorithm == "fbp":
        config = config.model_copy(update={"algorithm": "fdk"})
    scan = used_projections(projections, config)
    first, last = config.rows or (0, projections.n_rows)
    scan = scan if config.rows is None else scan.rows(first, last)
    column = scan.centre
    if config.centre != "auto":
        column = float(config.centre)
    if column is None:
        column = (scan.n_columns - 1) / 2
    centre = given_centre(column, "assumed")
    ready = ready_scan(projections, scan, config, centre, "cpu", first)
    if workers is None:
        slices = min(ready.max_rows(), ready.group)
        return ReconstructOutline(ready, slices, ready.peak_bytes(slices))
    run = SlabRun(ready, workers)
    run.check_memory()
    slices = max(stop - start for start, stop in run.slabs([]))
    block = min(run.shared.max_rows(), ready.group)
    return ReconstructOutline(ready, slices, workers * run.shared.peak_bytes(block))


def _work(ready: ReconstructionInput, slices: int) -> float:
    return float(slices) * ready.size**2 * ready.scan.n_angles * ready.n_steps


def _small(ready: ReconstructionInput, slices: int) -> ReconstructionInput:
    """Return a scan of the same kind that can be reconstructed quickly."""
    scan, config = ready.scan, ready.config
    columns = min(scan.n_columns, _CONE_COLUMNS if ready.is_cone else _COLUMNS)
    ratio = columns / scan.n_columns
    rows = min(slices, _SLICES)
    if ready.is_cone:
        rows = max(1, round(scan.n_rows * ratio))
    angles = scan.angles[:: -(-scan.n_angles // _PROJECTIONS)]
    height, width = scan.pixel_size
    small = scan.replace(
        data=np.zeros((len(angles), rows, columns), np.float32),
        angles=angles,
        flats=None,
        darks=None,
        pixel_size=(height / ratio, width / ratio),
        is_line_integrals=True,
    )
    size = None if config.size is None else max(2, round(config.size * ratio))
    options: dict[str, object] = {"size": size, "threads": 1, "rows": None}
    if ready.iterates:
        options["iterations"] = min(ready.n_steps, _ITERATIONS)
    centre = given_centre(ready.centre.column * ratio, "assumed")
    made = ready_scan(small, small, config.model_copy(update=options), centre, "cpu", 0)
    return replace(made, joined=False, n_columns=columns)
