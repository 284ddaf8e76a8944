"""Loads and compiles what an algorithm needs ahead of its use. No Qt here."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, run_to_end
from napari_geosr.gui.kit.warm_up import garbage_collection_paused, load_torch_libraries
from napari_geosr.operations.reconstruct import reconstruct_slice, reconstruct_steps
from napari_geosr.operations.reconstruct.config import ReconstructConfig

#: Combinations of algorithm and beam prepared in this process.
_ready: set[tuple[str, str]] = set()
_ANGLES, _ROWS, _COLUMNS = 6, 8, 16
#: Distances from the axis to source and detector, in pixels, for diverging beams.
_DISTANCE = 100.0


def is_ready(config: ReconstructConfig, beam: str) -> bool:
    """Whether nothing is left to be loaded or compiled for a reconstruction."""
    return (config.algorithm, beam) in _ready


def ready_steps(
    config: ReconstructConfig, beam: str, should_stop: ShouldStop
) -> Generator[Step, None, bool]:
    """Reconstruct next to nothing, once, so that all is there for the first slice.

    Loops are compiled when they are first used; what was compiled is kept on disk.

    Returns
    -------
    bool

    Raises
    ------
    Cancelled
        If `should_stop` says so.
    """
    if not is_ready(config, beam):
        yield StageStarted(message="Loading")
        with garbage_collection_paused():
            _load(should_stop)
            try:
                _try(config, beam, should_stop)
            except Cancelled:
                raise
            except GeoSRError:
                pass  # so few voxels are too few for it; the scan itself may do
        _ready.add((config.algorithm, beam))
    return True


def _load(should_stop: ShouldStop) -> None:
    load_torch_libraries()
    if should_stop():
        raise Cancelled("Cancelled.")


def _try(config: ReconstructConfig, beam: str, should_stop: ShouldStop) -> None:
    """Reconstruct one slice, and several at once, of a few voxels."""
    scan = Projections(
        np.ones((_ANGLES, _ROWS, _COLUMNS), np.float32),
        np.arange(_ANGLES) * 360 / _ANGLES,
        centre=(_COLUMNS - 1) / 2,
        is_line_integrals=True,
    )
    if beam != "parallel":
        scan = scan.replace(
            geometry=beam, source_distance=_DISTANCE, detector_distance=_DISTANCE
        )
    few = {"algorithm": config.algorithm, "device": config.device, "threads": 1}
    if "iterations" in type(config.algorithm_config()).model_fields:
        few["iterations"] = 1
    tried = ReconstructConfig.create(**few)
    reconstruct_slice(scan, 0, tried, should_stop=should_stop)
    if should_stop():
        raise Cancelled("Cancelled.")
    run_to_end(reconstruct_steps(scan, tried))
