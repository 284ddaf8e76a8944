"""Reconstruction algorithms, one a file, found by file name.

An algorithm module offers, without importing torch:

``Config``
    A `napari_geosr.core.config.Config` with the algorithm's settings.
``TITLE``
    What people call it.
``BEAMS``
    The geometries it can use: some of ``"parallel"``, ``"fan"``, ``"cone"``.
``reconstruct_slices(sinogram, geometry, config, *, should_stop, on_iteration)``
    Float32 tensor (row, angle, column) of line integrals to slices (row, N, N), on the
    tensor's device, attenuation per unit of the pixel size. Rows are independent but
    for cone beams, where the slices of the volume are returned.
``check_geometry(geometry)`` (optional)
    Raises `ProjectionsError` if the algorithm cannot be right for it: asked before
    anything is prepared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ProjectionsError
from napari_geosr.core.registry import Registry
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.tomography.iterations import OnIteration, check_sinogram, ignore

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.geometry import ParallelGeometry

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
    """What people call each algorithm, by name."""
    return {name: str(ALGORITHMS.load(name).TITLE) for name in ALGORITHMS.names()}


def beam_of(geometry: ParallelGeometry) -> str:
    """``"parallel"``, ``"fan"`` or ``"cone"``."""
    return type(geometry).__name__.removesuffix("Geometry").lower()


def require_beam(name: str, beam: str) -> None:
    """Raise `ProjectionsError` if the algorithm `name` cannot use such a beam."""
    module = ALGORITHMS.load(name)
    if beam not in module.BEAMS:
        able = [n for n in ALGORITHMS.names() if beam in ALGORITHMS.load(n).BEAMS]
        raise ProjectionsError(
            f"{module.TITLE} cannot reconstruct a {beam} beam. Choose one of: "
            f"{', '.join(able)}."
        )


def require_geometry(name: str, geometry: ParallelGeometry) -> None:
    """Raise `ProjectionsError` if the algorithm `name` cannot use such a geometry."""
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
    on_iteration: OnIteration = ignore,
) -> Tensor:
    """Reconstruct with the algorithm registered as `name`.

    Parameters
    ----------
    name : str
        See ``ALGORITHMS.names()``.
    sinogram : Tensor of shape (row, angle, column), float32
        Line integrals.
    geometry : ParallelGeometry
        Parallel, fan or cone.
    config : Config, optional
        Of this algorithm; by default its defaults.
    should_stop : callable
        Asked before every iteration.
    on_iteration : callable
        Told of every iteration.

    Returns
    -------
    Tensor of shape (row, N, N), float32
        For a cone beam (Z, N, N).

    Raises
    ------
    ProjectionsError
        If the projections do not fit the geometry or are not finite, or the algorithm
        cannot use the beam.
    Cancelled
        If `should_stop` says so.
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
