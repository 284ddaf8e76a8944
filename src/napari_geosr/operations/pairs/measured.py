"""Measures grey values of a scan, and blur and noise of a low-resolution scan."""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.volume import Volume
from napari_geosr.measure.resolution.degradation import (
    MAX_DEPTH,
    MAX_WINDOW,
    degradation_steps,
)
from napari_geosr.operations.pairs.config import DegradeConfig
from napari_geosr.physics.degradations import (
    DEGRADATIONS,
    ContrastLevels,
    ImagingEstimate,
)
from napari_geosr.registration.sampled import finite

FloatArray = npt.NDArray[np.float32]

#: Number of planes sampled for grey values.
_PLANES = 16
#: Number of voxels sampled per plane.
_PLANE_VOXELS = 1 << 18
#: Percentile of the grey values that counts as background.
_BACKGROUND_PERCENTILE = 0.5
#: Percentile of the grey values that counts as bright structures.
_BRIGHT_PERCENTILE = 99.5
#: Maximum number of high-resolution voxels that are used to measure blur and noise.
_MAX_HIGH_VOXELS = 1 << 23
#: Maximum number of low-resolution voxels that are used to measure blur and noise.
_MAX_LOW_VOXELS = 1 << 22
#: Noise spectra considered for each simulated imaging modality; for third-party
#: modalities, all of these spectra are considered.
_NOISE_SPECTRA = {"ct": ("white", "reconstruction", "smooth"), "fluo": ("white",)}


def contrast_levels(high: Volume) -> ContrastLevels:
    """Measure the grey values of background and bright structures, and the contrast.

    Raises
    ------
    VolumeError
        If there is only one grey value, or voxels are NaN or infinite.
    """
    from skimage.filters import threshold_otsu

    values = np.concatenate([plane.ravel() for plane in _planes(high)])
    if not values.min() < values.max():
        raise VolumeError(
            f"{high.title} has only one grey value, so there is nothing to learn from "
            "it. Check that it is the right file."
        )
    dark, bright = (
        float(v)
        for v in np.percentile(values, (_BACKGROUND_PERCENTILE, _BRIGHT_PERCENTILE))
    )
    if not dark < bright:
        dark, bright = float(values.min()), float(values.max())
    threshold = threshold_otsu(values)
    upper = values > threshold
    contrast = float(values[upper].mean() - values[~upper].mean())
    return ContrastLevels(dark, bright, contrast)


def _planes(volume: Volume) -> list[FloatArray]:
    if volume.axes == "YX":
        keys: list[tuple[int | slice, ...]] = [(slice(None),)]
    else:
        places = np.linspace(0, volume.shape[0] - 1, min(_PLANES, volume.shape[0]))
        keys = [(int(z),) for z in np.unique(places.astype(int))]
    planes = []
    for key in keys:
        plane = finite(volume, key)
        step = max(1, math.isqrt(plane.size // _PLANE_VOXELS))
        planes.append(plane[::step, ::step])
    return planes


def measure_steps(
    high: Volume,
    like: Volume,
    factors: tuple[int, ...],
    config: DegradeConfig,
    should_stop: ShouldStop,
) -> Generator[Step, None, ImagingEstimate]:
    """Measure blur, noise and grey scale of `like`.

    Parameters
    ----------
    high : Volume
        High-resolution scan from which a low-resolution one is made.
    like : Volume
        Real low-resolution scan of the same material.
    factors : tuple of int
        Voxels of `high` per low-resolution voxel, along each axis.
    config : DegradeConfig
    should_stop : callable

    Raises
    ------
    VolumeError
        If there is too little to measure, or voxels are NaN or infinite.
    """
    yield StageStarted(message="Measuring blur and noise of the real scan")
    module = DEGRADATIONS.load(config.degrade)
    coarse = [v * f for v, f in zip(high.voxel_size, factors, strict=True)]
    # Set the in-plane blur to one voxel, so that all widths are relative to it.
    imaging = config.imaging(blur=1.0).model_copy(update={"blur": 1.0, "mtf10": None})
    widths = list(module.blur_widths(imaging, coarse, None))
    if config.dimensions == "2D" and len(widths) == 3:
        widths[0] = 0.0
    fine = (1,) * (3 - len(factors)) + tuple(factors)
    widths = [0.0] * (3 - len(widths)) + widths
    edge = MAX_WINDOW
    limits = (MAX_DEPTH, 2 * edge, 2 * edge)
    low_parts = _parts(like, limits, _MAX_LOW_VOXELS)
    high_parts = _parts(high, _high_part(fine), _MAX_HIGH_VOXELS)
    steps = degradation_steps(
        low_parts,
        high_parts,
        (fine[0], fine[1], fine[2]),
        relative_widths=widths,
        shapes=_NOISE_SPECTRA.get(
            config.degrade, ("white", "reconstruction", "smooth")
        ),
        name=like.title,
        should_stop=should_stop,
    )
    return (yield from steps)


def _high_part(factors: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the edge lengths of a part, which contains only whole windows."""
    depth = MAX_DEPTH * factors[0]
    edge = math.isqrt(_MAX_HIGH_VOXELS // depth) // factors[1] * factors[1]
    edge = min(edge, 4 * MAX_WINDOW * factors[1])
    return depth, edge, edge


def _parts(volume: Volume, edges: tuple[int, ...], most: int) -> list[FloatArray]:
    """Read parts that are evenly spread over a volume, with axes Z, Y and X."""
    shape = (1,) * (3 - len(volume.shape)) + volume.shape
    size = [min(n, e) for n, e in zip(shape, edges, strict=True)]
    counts = [n // s for n, s in zip(shape, size, strict=True)]
    count = max(1, min(most // math.prod(size), math.prod(counts)))
    places = np.unique(np.linspace(0, math.prod(counts) - 1, count).astype(int))
    found = []
    for place in places:
        steps = np.unravel_index(int(place), counts)
        # Space the parts evenly, with the last one at the end.
        start = [
            int(step * (n - s) / max(1, n_parts - 1)) if n_parts > 1 else (n - s) // 2
            for step, n, s, n_parts in zip(steps, shape, size, counts, strict=True)
        ]
        key = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
        part = finite(volume, key[-len(volume.shape) :])
        found.append(part.reshape(size))
    return found
