"""Load and compile in advance everything that an algorithm needs, without Qt."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, run_to_end
from napari_geosr.gui.kit.warm_up import garbage_collection_paused, load_torch
from napari_geosr.operations.reconstruct import reconstruct_slice, reconstruct_steps
from napari_geosr.operations.reconstruct.config import ReconstructConfig

#: Combinations of algorithm and beam that were prepared in this process.
_ready: set[tuple[str, str]] = set()
#: Number of projections of the tiny scan that is reconstructed to compile the loops.
_N_ANGLES = 6
#: Number of detector rows of the tiny scan.
_N_ROWS = 8
#: Number of detector columns of the tiny scan.
_N_COLUMNS = 16
#: Distances from the axis to source and detector, in pixels, for diverging beams.
_DISTANCE = 100.0


def is_ready(config: ReconstructConfig, beam: str) -> bool:
    """Whether everything that a reconstruction needs is loaded and compiled."""
    return (config.algorithm, beam) in _ready


def compile_steps(
    config: ReconstructConfig, beam: str, should_stop: ShouldStop
) -> Generator[Step, None, bool]:
    """Reconstruct a few voxels once, so that everything is loaded and compiled.

    Loops are compiled when they are first used; compiled code is cached on disk.

    Returns
    -------
    bool
        Always True.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    if not is_ready(config, beam):
        yield StageStarted(message="Loading")
        with garbage_collection_paused():
            _load(should_stop)
            try:
                _reconstruct_tiny_scan(config, beam, should_stop)
            except Cancelled:
                raise
            except GeoSRError:
                pass  # too few voxels for this algorithm; a real scan may have enough
        _ready.add((config.algorithm, beam))
    return True


def _load(should_stop: ShouldStop) -> None:
    load_torch()
    if should_stop():
        raise Cancelled("Cancelled.")


def _reconstruct_tiny_scan(
    config: ReconstructConfig, beam: str, should_stop: ShouldStop
) -> None:
    """Reconstruct first one slice and then all slices of a tiny scan."""
    scan = Projections(
        np.ones((_N_ANGLES, _N_ROWS, _N_COLUMNS), np.float32),
        np.arange(_N_ANGLES) * 360 / _N_ANGLES,
        centre=(_N_COLUMNS - 1) / 2,
        is_line_integrals=True,
    )
    if beam != "parallel":
        scan = scan.replace(
            geometry=beam, source_distance=_DISTANCE, detector_distance=_DISTANCE
        )
    settings = {"algorithm": config.algorithm, "device": config.device, "threads": 1}
    if "iterations" in type(config.algorithm_config()).model_fields:
        settings["iterations"] = 1
    small = ReconstructConfig.create(**settings)
    reconstruct_slice(scan, 0, small, should_stop=should_stop)
    if should_stop():
        raise Cancelled("Cancelled.")
    run_to_end(reconstruct_steps(scan, small))
