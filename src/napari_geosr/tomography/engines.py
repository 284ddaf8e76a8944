"""Engines that compute slices: the package's own algorithms, or the ASTRA toolbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.core.config import Config
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.tomography import algorithms, astra
from napari_geosr.tomography.iterations import OnIteration, ignore_iteration

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import ParallelGeometry

OWN, ASTRA = "own", "astra"


def require(engine: str, name: str, geometry: ParallelGeometry, config: Config) -> None:
    """Raise an error, before any preparation, if `engine` cannot run an algorithm.

    Parameters
    ----------
    engine : str
    name : str
        Name of the algorithm.
    geometry : ParallelGeometry
    config : Config
        Settings of the algorithm.

    Raises
    ------
    ProjectionsError
        If the algorithm does not support the geometry.
    ConfigError
        If the engine is not installed, or does not support a setting.
    """
    algorithms.require_geometry(name, geometry)
    if engine == ASTRA:
        astra.require(name, algorithms.beam_of(geometry), config)


def reconstruct_slices(
    engine: str,
    name: str,
    sinogram: Tensor,
    geometry: ParallelGeometry,
    config: Config,
    *,
    should_stop: ShouldStop = never_stop,
    on_iteration: OnIteration = ignore_iteration,
) -> Tensor:
    """Reconstruct with an engine; see `algorithms.reconstruct_slices`."""
    module = astra if engine == ASTRA else algorithms
    slices: Tensor = module.reconstruct_slices(
        name,
        sinogram,
        geometry,
        config,
        should_stop=should_stop,
        on_iteration=on_iteration,
    )
    return slices
