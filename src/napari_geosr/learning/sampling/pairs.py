"""Check whether a source and its target are aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.positions import states_position
from napari_geosr.core.units import MILLIMETRES
from napari_geosr.core.volume import Volume

FloatArray = npt.NDArray[np.float64]

#: Shift, in voxels, above which a warning is given, because Noise2Noise needs aligned
#: scans.
MAX_SHIFT = 0.2
#: Maximum shift according to the files, in voxels of the source; above it, a warning is
#: given. The limit exceeds the difference between positions of centres and of edges.
_MAX_OFFSET = 1.0
#: Relative difference between voxel sizes that is accepted as equal.
_SAME_SIZE = 0.02
#: Size of the compared region along Y and X, in voxels of the source.
_REGION_EDGE = 128
#: Size of the compared region along Z, in voxels of the source.
_REGION_DEPTH = 32
#: Minimum number of slices to measure a shift along Z.
_MIN_DEPTH = 8


@dataclass(frozen=True)
class PairCheck:
    """Result of checking a pair.

    Attributes
    ----------
    shift : tuple of float
        Shift of the target relative to the source along (Z, Y, X), in voxels of the
        source; along (Y, X) with fewer than 8 slices. With few slices, the shift along
        Z is underestimated: a shift of 0.5 is measured as 0.3 with 8 slices and as 0.45
        with 20 slices.
    warnings : tuple of str
        Warnings as sentences for users.
    """

    shift: tuple[float, ...]
    warnings: tuple[str, ...]


def check_shapes(
    source: Volume, target: Volume, factor: int, ndim: int
) -> tuple[int, ...]:
    """Return the voxels of the target per voxel of the source along every axis.

    Parameters
    ----------
    source, target : Volume
    factor : int
        Upscale factor of the network.
    ndim : int
        Number of axes on which the network works: 2 or 3.

    Raises
    ------
    VolumeError
        If axes or shapes do not fit together.
    """
    n_kept_axes = max(0, len(source.shape) - ndim)
    factors = (1,) * n_kept_axes + (factor,) * (len(source.shape) - n_kept_axes)
    expected = tuple(n * f for n, f in zip(source.shape, factors, strict=True))
    if source.axes != target.axes or target.shape != expected:
        raise VolumeError(
            f"{target.title} has shape {_times(target.shape)} ({target.axes}) but "
            f"{source.title} needs {_times(expected)} ({source.axes}). Crop or "
            "resample one of them."
        )
    return factors


def check_pair(
    source: Volume,
    target: Volume,
    factor: int = 1,
    ndim: int = 3,
    *,
    is_correlated: bool = True,
) -> PairCheck:
    """Compare shape, voxel size and stated position, and measure the shift.

    The shift is measured by phase correlation.

    Parameters
    ----------
    factor : int
        Voxels of the target per voxel of the source.
    ndim : int
        Number of axes, counted from the last, to which the factor applies.
    is_correlated : bool
        Whether source and target have correlated grey values, so that a shift can be
        measured; this is not the case if the target has more than two labels.

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
        if not np.allclose(ratio, 1, rtol=_SAME_SIZE):
            times = ", ".join(
                f"{r:.3g} along {axis}"
                for axis, r in zip(source.spatial_axes, ratio, strict=True)
            )
            warnings.append(
                f"The voxel size of {target.title} does not match {source.title} "
                f"(ratio to the expected size: {times}). Check that it is the right "
                "target."
            )
    if warning := position_warning(source, target, factor, ndim):
        warnings.append(warning)
    shift = _shift(source, target, factors) if is_correlated else (0.0,) * len(factors)
    if max(map(abs, shift)) > MAX_SHIFT:
        shown = ", ".join(f"{s:+.2f}" for s in shift)
        axes = ", ".join("ZYX"[-len(shift) :])
        shallow = len(shift) == 3 and source.shape[0] < _REGION_DEPTH
        note = " (uncertain along Z because there are few slices)" if shallow else ""
        warnings.append(
            f"{target.title} is shifted by {shown} voxels ({axes}) from "
            f"{source.title}{note}: align them first, or the model learns to blur."
        )
    return PairCheck(shift, tuple(warnings))


def position_warning(source: Volume, target: Volume, factor: int, ndim: int) -> str:
    """Return a warning if the files state that a target shows another region, or "".

    The parameters are those of `check_shapes`.
    """
    shift = position_shift(source, target, check_shapes(source, target, factor, ndim))
    if shift is None or max(map(abs, shift)) <= _MAX_OFFSET:
        return ""
    shown = ", ".join(f"{s:+.4g}" for s in shift)
    return (
        f"According to their files, {target.title} is shifted by {shown} voxels "
        f"({', '.join(source.spatial_axes)}) from {source.title}, but both are used as "
        "if they showed the same region. Check that it is the right target."
    )


def position_shift(
    source: Volume, target: Volume, factors: Sequence[int], *, shown: bool = False
) -> tuple[float, ...] | None:
    """Return the stated shift of a target along the spatial axes, in source voxels.

    The outer edges of the first voxels are compared, because the centres differ if the
    voxels of the target are smaller. Without a common unit of length, positions are
    compared in voxels.

    Parameters
    ----------
    source, target : Volume
        Volumes with the same axes.
    factors : sequence of int
        Voxels of the target per voxel of the source along each axis.
    shown : bool
        Whether a position at the default origin is also a stated position.

    Returns
    -------
    tuple of float or None
        None if one of the files states no position, or if voxel sizes in the same unit
        do not correspond to the factors.
    """
    if not (shown or (states_position(source) and states_position(target))):
        return None
    along = factors[-len(source.origin) :]
    edges = [t * f for t, f in zip(target.voxel_size, along, strict=True)]
    are_known = source.has_physical_size and target.has_physical_size
    if are_known:
        scale = MILLIMETRES[source.unit] / MILLIMETRES[target.unit]
        expected, edges = edges, [s * scale for s in source.voxel_size]
    else:
        expected = list(source.voxel_size)
    is_one_unit = are_known or source.unit == target.unit
    if is_one_unit and not np.allclose(edges, expected, rtol=_SAME_SIZE):
        return None
    return tuple(
        (t - 0.5 * t_edge) / edge - (s / s_edge - 0.5)
        for t, t_edge, edge, s, s_edge in zip(
            target.origin,
            target.voxel_size,
            edges,
            source.origin,
            source.voxel_size,
            strict=True,
        )
    )


def _shift(
    source: Volume, target: Volume, factors: tuple[int, ...]
) -> tuple[float, ...]:
    """Measure the shift of the central blocks; with few slices, only along Y and X."""
    from skimage.registration import phase_cross_correlation

    a = _central_block(source, (1,) * len(factors))
    b = _central_block(target, factors)
    if a.ndim == 3 and len(a) < _MIN_DEPTH:
        a, b = a.mean(axis=0), b.mean(axis=0)
    a, b = (_apply_window(part) for part in (a, b))
    if not (a.any() and b.any()):
        return (0.0,) * a.ndim  # a block is constant: no shift can be measured
    shift, _, _ = phase_cross_correlation(a, b, upsample_factor=20, normalization=None)
    return tuple(float(v) for v in shift)


def _central_block(volume: Volume, factors: tuple[int, ...]) -> FloatArray:
    """Return the middle of a volume, averaged over blocks of `factors` voxels."""
    key, split = [], []
    edges = (_REGION_DEPTH, _REGION_EDGE, _REGION_EDGE)[-len(factors) :]
    for n, edge, factor in zip(volume.shape, edges, factors, strict=True):
        coarse = n // factor
        wide = min(coarse, edge)
        start = (coarse - wide) // 2 * factor
        key.append(slice(start, start + wide * factor))
        split += [wide, factor]
    block = np.nan_to_num(np.asarray(volume.data[tuple(key)], np.float64))
    block_axes = tuple(range(1, len(split), 2))
    return np.asarray(block.reshape(split).mean(axis=block_axes))


def _apply_window(image: FloatArray) -> FloatArray:
    windowed: FloatArray = image - image.mean()
    for axis, n in enumerate(image.shape):
        shape = [n if i == axis else 1 for i in range(image.ndim)]
        windowed = windowed * np.hanning(n + 2)[1:-1].reshape(shape)
    return windowed


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
