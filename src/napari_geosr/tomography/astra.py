"""The ASTRA toolbox as an alternative engine for slices, fast on CUDA devices.

ASTRA is an optional dependency, ``pip install "napari-geosr[astra]"``, which only this
module imports: it is licensed under GPL-3.0 and not part of this package. The CUDA code
of ASTRA aborts the process if there is no device, so every call is guarded by
``astra.use_cuda()``. Without a CUDA device, the package's own algorithms are faster.

References
----------
.. [1] van Aarle et al. Fast and flexible X-ray tomography using the ASTRA toolbox. Opt.
   Express 24, 25129-25147 (2016). doi:10.1364/OE.24.025129
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError, ProjectionsError
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.physics.projection.geometry import FanGeometry
from napari_geosr.tomography.algorithms import beam_of, config_class
from napari_geosr.tomography.filters import angle_weights, filter_rows
from napari_geosr.tomography.iterations import (
    Iteration,
    OnIteration,
    check_sinogram,
    check_stop,
    ignore_iteration,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import ParallelGeometry

#: Beams that ASTRA supports, by algorithm.
SUPPORTED_BEAMS = {
    "fbp": ("parallel",),
    "sirt": ("parallel", "fan"),
    "cgls": ("parallel", "fan"),
}


def is_installed() -> bool:
    """Whether ASTRA is installed; does not import it."""
    return find_spec("astra") is not None


def uses_cuda() -> bool:
    """Whether ASTRA is installed and finds a CUDA device."""
    if not is_installed():
        return False
    import astra

    return bool(astra.use_cuda())


def reconstruct_slices(
    name: str,
    sinogram: Tensor,
    geometry: ParallelGeometry,
    config: Any = None,
    *,
    should_stop: ShouldStop = never_stop,
    on_iteration: OnIteration = ignore_iteration,
) -> Tensor:
    """Reconstruct slice by slice, like `napari_geosr.tomography.algorithms`.

    `should_stop` and `on_iteration` are called once per slice. FBP uses the package's
    filters and weights with ASTRA's back-projection (on the CPU, ASTRA's strip model);
    the other algorithms use ASTRA's linear interpolation (for fan beams on the CPU, its
    line model).

    Raises
    ------
    ConfigError
        If ASTRA is not installed, or does not support the setting.
    ProjectionsError
        As in `napari_geosr.tomography.algorithms.reconstruct_slices`.
    """
    import torch

    device = sinogram.device
    config = config_class(name)() if config is None else config
    require(name, beam_of(geometry), config)
    check_sinogram(sinogram, geometry)
    sinogram = sinogram.detach().cpu().float()
    if name == "fbp":  # filter here: ASTRA's FBP needs a centred axis and equal steps
        sinogram = filter_rows(sinogram, config.filter, 1.0, config.padding)
        weights = angle_weights(geometry.angles, geometry.unseen)
        sinogram *= sinogram.new_tensor(weights)[:, None]
    values = sinogram.numpy()
    slices = np.empty((len(values), *geometry.volume_shape), np.float32)
    for row, projections in enumerate(values):
        check_stop(should_stop)
        slices[row] = _reconstruct(name, projections, geometry, config)
        on_iteration(Iteration(row + 1, len(values)))
    result = torch.from_numpy(slices / np.float32(geometry.voxel_size))
    if getattr(config, "nonnegative", False):
        result.clamp_(min=0)
    return result.to(device)


def require(name: str, beam: str, config: Config) -> None:
    """Raise an error, before any preparation, if ASTRA cannot be used.

    Parameters
    ----------
    name : str
        Name of the algorithm.
    beam : str
        ``"parallel"``, ``"fan"`` or ``"cone"``.
    config : Config
        Settings of the algorithm.

    Raises
    ------
    ConfigError
        If ASTRA is not installed, or does not support the setting.
    ProjectionsError
        If ASTRA is not used for this combination of algorithm and beam.
    """
    if not is_installed():
        raise ConfigError(
            "ASTRA is not installed. Install it with "
            "pip install 'napari-geosr[astra]', or use the engine 'own'."
        )
    if beam not in SUPPORTED_BEAMS.get(name, ()):
        raise ProjectionsError(
            f"ASTRA is not used for {name} with a {beam} beam. Use the engine 'own'."
        )
    if getattr(config, "relaxation", 1.0) != 1.0:
        raise ConfigError(
            "ASTRA's SIRT supports only a relaxation factor of 1; choose this value, "
            "or the engine 'own'."
        )


def _reconstruct(
    name: str, projections: Any, geometry: ParallelGeometry, config: Any
) -> Any:
    """Reconstruct one slice, in attenuation per voxel."""
    import astra

    cuda = uses_cuda()
    scan = _scan(geometry)
    slices = astra.create_vol_geom(geometry.size, geometry.size)
    made: list[tuple[Any, int]] = []

    def keep(module: object, number: int) -> int:
        made.append((module, number))
        return number

    try:
        kind = "BP" if name == "fbp" else name.upper()
        task = astra.astra_dict(kind + ("_CUDA" if cuda else ""))
        task["ProjectionDataId"] = keep(
            astra.data2d, astra.data2d.create("-sino", scan, projections)
        )
        task["ReconstructionDataId"] = keep(
            astra.data2d, astra.data2d.create("-vol", slices, 0)
        )
        if not cuda:
            fan = beam_of(geometry) == "fan"
            kind = "line_fanflat" if fan else "strip" if name == "fbp" else "linear"
            task["ProjectorId"] = keep(
                astra.projector, astra.create_projector(kind, scan, slices)
            )
        if name == "sirt" and config.nonnegative:
            task["option"] = {"MinConstraint": 0.0}
        number = keep(astra.algorithm, astra.algorithm.create(task))
        astra.algorithm.run(number, getattr(config, "iterations", 1))
        # ASTRA's Y axis points upwards.
        return astra.data2d.get(task["ReconstructionDataId"])[::-1]
    finally:
        for module, number in reversed(made):
            module.delete(number)


def _scan(geometry: ParallelGeometry) -> Any:
    """Describe the geometry as ASTRA vectors, in voxels, for any axis and angles."""
    import astra

    h = geometry.voxel_size
    turn = np.deg2rad(geometry.angles)[:, None]
    side = np.concatenate([np.cos(turn), np.sin(turn)], 1)
    out = np.concatenate([-np.sin(turn), np.cos(turn)], 1)
    pixel = geometry.pixel_size / h
    middle = ((geometry.n_columns - 1) / 2 - geometry.centre) * pixel * side
    first, kind = out, "parallel_vec"
    if isinstance(geometry, FanGeometry):
        first, kind = -out * geometry.source_distance / h, "fanflat_vec"
        middle = middle + out * geometry.detector_distance / h
    vectors = np.concatenate([first, middle, pixel * side], 1)
    return astra.create_proj_geom(kind, geometry.n_columns, vectors)
