"""Reconstruction algorithms, one module each, found by file name.

Each algorithm module defines the following, without importing torch:

``Config``
    A `napari_geosr.core.config.Config` with the algorithm's settings.
``TITLE``
    Title, as shown to the user.
``BEAMS``
    The supported geometries: some of ``"parallel"``, ``"fan"``, ``"cone"``.
``reconstruct_slices(sinogram, geometry, config, *, should_stop, on_iteration)``
    Reconstructs slices (row, N, N) from a float32 tensor (row, angle, column) of line
    integrals, on the tensor's device, in attenuation per unit of the pixel size. Rows
    are independent except for cone beams, for which the slices of the volume are
    returned.
``check_geometry(geometry)`` (optional)
    Raises `ProjectionsError` if the algorithm is unsuitable for the geometry; called
    before any preparation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ProjectionsError
from napari_geosr.core.registry import Registry
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.tomography.iterations import (
    OnIteration,
    check_sinogram,
    ignore_iteration,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import ParallelGeometry

ALGORITHMS = Registry(
    package="napari_geosr.tomography.algorithms",
    group="napari_geosr.algorithms",
    noun="reconstruction algorithm",
)


def config_class(name: str) -> type[Config]:
    """Return the config class of an algorithm."""
    kind: type[Config] = ALGORITHMS.load(name).Config
    return kind


def titles() -> dict[str, str]:
    """Return the title of each algorithm, by name."""
    return {name: str(ALGORITHMS.load(name).TITLE) for name in ALGORITHMS.names()}


def beam_of(geometry: ParallelGeometry) -> str:
    """Return the type of beam: ``"parallel"``, ``"fan"`` or ``"cone"``."""
    return type(geometry).__name__.removesuffix("Geometry").lower()


def require_beam(name: str, beam: str) -> None:
    """Raise `ProjectionsError` if the algorithm `name` does not support the beam."""
    module = ALGORITHMS.load(name)
    if beam not in module.BEAMS:
        able = [n for n in ALGORITHMS.names() if beam in ALGORITHMS.load(n).BEAMS]
        raise ProjectionsError(
            f"{module.TITLE} cannot reconstruct {beam}-beam scans. Choose one of: "
            f"{', '.join(able)}."
        )


def require_geometry(name: str, geometry: ParallelGeometry) -> None:
    """Raise `ProjectionsError` if algorithm `name` does not support the geometry."""
    require_beam(name, beam_of(geometry))
    check = getattr(ALGORITHMS.load(name), "check_geometry", None)
    if check is not None:
        check(geometry)


def reconstruct_slices(
    name: str,
    sinogram: Tensor,
    geometry: ParallelGeometry,
    config: Config | None = None,
    *,
    should_stop: ShouldStop = never_stop,
    on_iteration: OnIteration = ignore_iteration,
) -> Tensor:
    """Reconstruct with the algorithm registered as `name`.

    Parameters
    ----------
    name : str
        See ``ALGORITHMS.names()``.
    sinogram : Tensor of shape (row, angle, column), float32
        Line integrals.
    geometry : ParallelGeometry
        Parallel, fan or cone beam.
    config : Config, optional
        Settings of this algorithm; by default, its default settings.
    should_stop : callable
        Called before every iteration.
    on_iteration : callable
        Called after every iteration.

    Returns
    -------
    Tensor of shape (row, N, N), float32
        For a cone beam (Z, N, N).

    Raises
    ------
    ProjectionsError
        If the projections do not match the geometry or are not finite, or the algorithm
        does not support the beam.
    Cancelled
        If `should_stop` returns True.
    """
    module = ALGORITHMS.load(name)
    require_beam(name, beam_of(geometry))
    sinogram = sinogram.float()
    check_sinogram(sinogram, geometry)
    slices: Tensor = module.reconstruct_slices(
        sinogram,
        geometry,
        module.Config() if config is None else config,
        should_stop=should_stop,
        on_iteration=on_iteration,
    )
    return slices
