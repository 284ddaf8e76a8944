"""Whether a source and its target show the same thing in the same place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.units import MILLIMETRES
from napari_geosr.core.volume import Volume

FloatArray = npt.NDArray[np.float64]

#: Voxels of shift that are noted; Noise2Noise wants less than this.
LARGEST_SHIFT = 0.2
_EDGE = 128


@dataclass(frozen=True)
class PairCheck:
    """What was measured of a pair.

    Attributes
    ----------
    shift : tuple of float
        Of the target against the source, in voxels of the source.
    warnings : tuple of str
        Sentences for people.
    """

    shift: tuple[float, ...]
    warnings: tuple[str, ...]


def check_shapes(
    source: Volume, target: Volume, factor: int, ndim: int
) -> tuple[int, ...]:
    """Return the voxels of the target per voxel of the source along every axis.

    Raises
    ------
    VolumeError
        If axes or shapes do not fit together.
    """
    kept = max(0, len(source.shape) - ndim)
    factors = (1,) * kept + (factor,) * (len(source.shape) - kept)
    wanted = tuple(n * f for n, f in zip(source.shape, factors, strict=True))
    if source.axes != target.axes or target.shape != wanted:
        raise VolumeError(
            f"{target.title} has shape {_times(target.shape)} ({target.axes}) but "
            f"{source.title} needs {_times(wanted)} ({source.axes}). Crop or resample "
            "one of them."
        )
    return factors


def check_pair(
    source: Volume, target: Volume, factor: int = 1, ndim: int = 3
) -> PairCheck:
    """Compare shape and voxel size, and measure the shift by phase correlation.

    Parameters
    ----------
    factor : int
        Voxels of the target per voxel of the source.
    ndim : int
        Number of axes, from the last, along which it is so; the network's.

    Raises
    ------
    VolumeError
        If axes or shapes do not fit together.
    """
    factors = check_shapes(source, target, factor, ndim)
    warnings = []
    if source.has_physical_size and target.has_physical_size:
        scale = MILLIMETRES[target.unit] / MILLIMETRES[source.unit]
        ratio = [
            t * f * scale / s
            for s, t, f in zip(
                source.voxel_size, target.voxel_size, factors, strict=True
            )
        ]
        if not np.allclose(ratio, 1, rtol=0.02):
            times = ", ".join(
                f"{r:.3g} along {axis}"
                for axis, r in zip(source.spatial_axes, ratio, strict=True)
            )
            warnings.append(
                f"The voxels of {target.title} are not as large as {source.title} lets "
                f"expect, but so many times: {times}. Is it the right target?"
            )
    shift = _shift(source, target, factor)
    if max(map(abs, shift)) > LARGEST_SHIFT:
        shown = ", ".join(f"{s:+.2f}" for s in shift)
        warnings.append(
            f"{target.title} lies {shown} voxels (Y, X) from {source.title}: align "
            "them first, else the model learns to blur."
        )
    return PairCheck(shift, tuple(warnings))


def _shift(source: Volume, target: Volume, factor: int) -> tuple[float, ...]:
    """Shift in the plane, from the middle slices."""
    from skimage.registration import phase_cross_correlation

    a, b = _middle(source, 1), _middle(target, factor)
    if factor > 1:
        h, w = (n // factor for n in b.shape)
        b = b[: h * factor, : w * factor].reshape(h, factor, w, factor).mean((1, 3))
        a = a[:h, :w]
    a, b = (_windowed(part) for part in (a, b))
    if not (a.any() and b.any()):
        return (0.0, 0.0)  # nothing to be seen in the middle: nothing to measure
    found, _, _ = phase_cross_correlation(a, b, upsample_factor=20, normalization=None)
    return tuple(float(v) for v in found)


def _middle(volume: Volume, factor: int) -> FloatArray:
    shape = volume.shape
    edge = _EDGE * factor
    key = tuple(
        slice((n - min(n, edge)) // 2, (n + min(n, edge)) // 2) for n in shape[-2:]
    )
    if len(shape) == 3:
        depth = shape[0]
        few = slice(max(0, depth // 2 - 2 * factor), depth // 2 + 2 * factor)
        slab = np.nan_to_num(np.asarray(volume.data[(few, *key)], np.float64))
        return np.asarray(slab.mean(axis=0))
    return np.nan_to_num(np.asarray(volume.data[key], np.float64))


def _windowed(image: FloatArray) -> FloatArray:
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in image.shape))
    windowed: FloatArray = (image - image.mean()) * window
    return windowed


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
