"""Reads volumes slab by slab in their common frame, and computes grey-value metrics."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import BlockDone, ShouldStop, Step
from napari_geosr.core.types import AnyArray
from napari_geosr.measure.comparison.frame import FrameArray, FrameVolume
from napari_geosr.measure.comparison.grey import (
    GreyFigures,
    GreySums,
    RangeSample,
)
from napari_geosr.measure.comparison.ssim import (
    MS_SSIM_EDGE,
    SSIM_WINDOW,
    SsimSum,
    window_fits,
)

Mask = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

#: Bytes per voxel of the frame while a slab is processed, in addition to the input.
_BYTES_PER_VOXEL = 120
#: Maximum number of frame voxels in a slab, so that progress is visible.
_MAX_VOXELS = 1 << 22
#: Factor by which a block is repeatedly shrunk until all its voxels are known.
_SHRINK_FACTOR = 0.95
#: Minimum edge of a block, in voxels.
_MIN_EDGE = 16


@dataclass(frozen=True, eq=False)
class FrameVolumes:
    """Volumes in one frame, and the sample mask.

    Attributes
    ----------
    placed : mapping of FrameVolume
    base : str
        Key of the volume that the others are compared with.
    mask : FrameArray or None
        Sample mask: voxels that are more than half covered by non-zero voxels.
    """

    placed: Mapping[str, FrameVolume]
    base: str
    mask: FrameArray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the frame."""
        return self.placed[self.base].frame.shape

    @property
    def others(self) -> tuple[str, ...]:
        """Keys of all volumes but the base."""
        return tuple(key for key in self.placed if key != self.base)

    def read(self, key: Any) -> tuple[dict[str, FloatArray], Mask]:
        """Read a part of the frame.

        Returns grey values, and a mask of the voxels that are known in all volumes.
        """
        values = {name: p.array[key] for name, p in self.placed.items()}
        known: Mask = np.logical_and.reduce([np.isfinite(v) for v in values.values()])
        if self.mask is not None:
            known &= self.inside(key, known.shape)
        return values, known

    def inside(self, key: Any, shape: tuple[int, ...]) -> Mask:
        """Read the sample mask in a part of the frame that has this shape."""
        if self.mask is None:
            return np.ones(shape, bool)
        # Unknown voxels of the mask are outside the sample.
        found: Mask = np.nan_to_num(self.mask[key]) > 0.5
        return found

    @property
    def may_be_unknown(self) -> bool:
        """Whether voxels of a volume may be NaN or infinite."""
        return any(p.volume.dtype.kind == "f" for p in self.placed.values())

    def thickness(self, budget: int, halo: int = 0) -> int:
        """Return the number of slices (for an image: rows) to read at a time."""
        plane = math.prod(self.shape[1:])
        bytes_read = sum(
            plane * math.prod(p.factors) * (4 + p.volume.dtype.itemsize)
            for p in self.placed.values()
        )
        slice_bytes = plane * (_BYTES_PER_VOXEL + 4 * len(self.placed)) + bytes_read
        fitting = int(budget / max(1, slice_bytes)) - 2 * halo
        return max(1, min(fitting, -(-_MAX_VOXELS // plane)))


@dataclass(frozen=True)
class GreyResult:
    """Result of comparing grey values.

    Attributes
    ----------
    figures : mapping of GreyFigures
    data_range, base_range : float
        Range of grey values for PSNR and SSIM, and for the range-invariant PSNR.
    voxels, unknown : int
        Number of compared voxels, and of the remaining voxels inside the sample, which
        are NaN or infinite in at least one volume.
    window : str
        Description of the SSIM window; empty if it does not fit into the volumes.
    remark : str
        Why MS-SSIM is missing; empty if it was computed.
    other_scales : tuple of str
        Keys of the volumes with grey values on a different scale from the base.
    """

    figures: Mapping[str, GreyFigures]
    data_range: float
    base_range: float
    voxels: int
    unknown: int
    window: str
    remark: str = ""
    other_scales: tuple[str, ...] = ()


def grey_steps(
    volumes: FrameVolumes,
    *,
    data_range: float | None,
    of_base: bool,
    affine: bool,
    slicewise: bool | None,
    budget: int,
    should_stop: ShouldStop,
) -> Generator[Step, None, GreyResult]:
    """Compare grey values in two sweeps: sums first, then structural similarity.

    Parameters
    ----------
    volumes : FrameVolumes
    data_range : float, optional
        By default, the range between the 0.1th and 99.9th percentiles.
    of_base : bool
        Whether to take the range from the base; otherwise, the smallest range of all
        volumes is used, because noise widens it least. After a fit of gain and offset,
        grey values are those of the base, so its range is always used.
    affine : bool
        Whether to fit gain and offset of each volume first.
    slicewise : bool, optional
        Whether each SSIM window lies within one slice; by default only if a volume has
        fewer slices than the window.
    budget : int
        Memory budget, in bytes.

    Raises
    ------
    VolumeError
        If no voxel is known in all volumes, or all grey values are equal.
    ConfigError
        If `data_range` is not greater than zero.
    Cancelled
        If `should_stop` returns True.
    """
    if data_range is not None and not 0 < data_range < math.inf:
        raise ConfigError(
            f"The data range must be a number greater than zero, not {data_range}."
        )
    shape = volumes.shape
    sums, found, unknown = yield from _sum_steps(volumes, budget, should_stop)
    voxels = next(iter(sums.values())).n
    if not voxels:
        raise VolumeError(
            "No voxel is known in all volumes: each is NaN, infinite or outside the "
            "sample mask in at least one of them. Check the volumes and the mask."
        )
    if data_range is None:
        used, own = _ranges(volumes, found, of_base=of_base or affine)
    else:
        used = own = data_range
    figures = {k: s.figures(used, own, affine=affine) for k, s in sums.items()}
    if slicewise is None:
        slicewise = len(shape) == 3 and shape[0] < SSIM_WINDOW
    window = ""
    if window_fits(shape, SSIM_WINDOW, slicewise=slicewise):
        figures = yield from _ssim_steps(
            volumes, figures, used, slicewise, budget, should_stop
        )
        edges = 2 if slicewise or len(shape) == 2 else 3
        window = " × ".join([str(SSIM_WINDOW)] * edges) + " voxels"
        if slicewise and len(shape) == 3:
            window += " in each slice"
    remark = ""
    if any(f.ms_ssim is None for f in figures.values()):
        remark = _no_multiscale(shape, slicewise)
    base = found[volumes.base]
    scales = tuple(k for k, s in sums.items() if not s.is_same_scale((found[k], base)))
    return GreyResult(figures, used, own, voxels, unknown, window, remark, scales)


def _sum_steps(
    volumes: FrameVolumes, budget: int, should_stop: ShouldStop
) -> Generator[Step, None, tuple[dict[str, GreySums], dict[str, float], int]]:
    """Return the sums, the ranges, and the number of unknown voxels of the sample."""
    shape = volumes.shape
    sums = {key: GreySums() for key in volumes.others}
    ranges = {key: RangeSample(math.prod(shape)) for key in volumes.placed}
    thickness, unknown = volumes.thickness(budget), 0
    for start in range(0, shape[0], thickness):
        _check(should_stop)
        stop = min(start + thickness, shape[0])
        part = (slice(start, stop),)
        values, known = volumes.read(part)
        if volumes.may_be_unknown:
            unknown += int(np.count_nonzero(volumes.inside(part, known.shape) & ~known))
        chosen = {key: v[known] for key, v in values.items()}
        for key, sample in ranges.items():
            sample.add(chosen[key])
        for key, one in sums.items():
            one.add(chosen[key], chosen[volumes.base])
        yield BlockDone(stop, 2 * shape[0])
    return sums, {key: sample.range() for key, sample in ranges.items()}, unknown


def _ranges(
    volumes: FrameVolumes, found: Mapping[str, float], *, of_base: bool
) -> tuple[float, float]:
    """Return the ranges for PSNR and SSIM, and for the range-invariant PSNR."""
    own = found[volumes.base]
    usable = [own] if of_base else list(found.values())
    smallest = min((r for r in usable if r > 0), default=0.0)
    if smallest == 0:
        raise VolumeError(
            f"{volumes.placed[volumes.base].volume.title} has only one grey value, so "
            "PSNR and SSIM are undefined. Give the data range (--data-range)."
        )
    return smallest, own or smallest


def _ssim_steps(
    volumes: FrameVolumes,
    figures: Mapping[str, GreyFigures],
    data_range: float,
    slicewise: bool,
    budget: int,
    should_stop: ShouldStop,
) -> Generator[Step, None, dict[str, GreyFigures]]:
    shape = volumes.shape
    sums = {k: SsimSum(shape, data_range, slicewise=slicewise) for k in figures}
    thickness = volumes.thickness(budget, next(iter(sums.values())).halo)
    for start in range(0, shape[0], thickness):
        _check(should_stop)
        stop = min(start + thickness, shape[0])
        values, known = volumes.read((slice(start, stop),))
        for key, one in sums.items():
            fit = figures[key]
            image = values[key].astype(np.float64) * fit.gain + fit.offset
            one.add(image, values[volumes.base], known)
        yield BlockDone(shape[0] + stop, 2 * shape[0])
    return {
        key: replace(figures[key], ssim=found.mean(), ms_ssim=found.multiscale())
        for key, found in sums.items()
    }


def _no_multiscale(shape: Sequence[int], slicewise: bool) -> str:
    """Explain why there is no MS-SSIM: values from fewer scales are not comparable."""
    axes = "ZYX"[-len(shape) :]
    if window_fits(shape, MS_SSIM_EDGE, slicewise=slicewise):
        return (
            "MS-SSIM was left out: unknown voxels or the sample mask leave no complete "
            f"window of {MS_SSIM_EDGE} voxels, which its coarsest scale needs."
        )
    needed = axes[-2:] if slicewise else axes
    remark = (
        f"MS-SSIM was left out: its five scales need at least {MS_SSIM_EDGE} voxels "
        f"along {', '.join(needed[:-1])} and {needed[-1]}, and the comparison has "
        f"{' × '.join(map(str, shape))} voxels."
    )
    if window_fits(shape, MS_SSIM_EDGE, slicewise=True):
        remark += " It can be computed within slices (--ssim slices)."
    return remark


def _check(should_stop: ShouldStop) -> None:
    if should_stop():
        raise Cancelled("The comparison was cancelled.")


def known_block(
    volumes: FrameVolumes, most_voxels: int
) -> tuple[dict[str, FloatArray], tuple[slice, ...]]:
    """Find the largest central block of up to `most_voxels` voxels that are all known.

    Raises
    ------
    VolumeError
        If no such block is large enough for a Fourier transform.
    """
    box = central_box(volumes.shape, most_voxels)
    values, known = volumes.read(box)
    inner: tuple[slice, ...] = tuple(slice(0, n) for n in known.shape)
    while not known[inner].all():
        edges = [s.stop - s.start for s in inner]
        # A scanner's field of view is circular in each slice, so shrink only Y and X.
        axes = range(len(edges))[-2:]
        if min(edges[a] for a in axes) <= _MIN_EDGE:
            raise VolumeError(
                "There is no block of known voxels in the middle of the volumes for a "
                "Fourier transform. Crop them to the measured part."
            )
        inner = tuple(
            _shrunk(s, max(1, round(n * (1 - _SHRINK_FACTOR)))) if a in axes else s
            for a, (s, n) in enumerate(zip(inner, edges, strict=True))
        )
        # Remove slices at the ends that contain no known voxels.
        if len(edges) == 3 and not known[inner].all():
            inner = _without_empty_ends(known, inner)
    place = tuple(
        slice(b.start + i.start, b.start + i.stop)
        for b, i in zip(box, inner, strict=True)
    )
    return {key: v[inner] for key, v in values.items()}, place


def _without_empty_ends(known: Mask, inner: tuple[slice, ...]) -> tuple[slice, ...]:
    filled = np.flatnonzero(known[inner].any(axis=(1, 2)))
    if not len(filled):
        return inner
    start = inner[0].start
    return (slice(start + int(filled[0]), start + int(filled[-1]) + 1), *inner[1:])


def _shrunk(part: slice, by: int) -> slice:
    return slice(part.start + -(-by // 2), part.stop - -(-by // 2))


def central_box(shape: Sequence[int], most_voxels: int) -> tuple[slice, ...]:
    """Return a central block: the longest edges are cropped first."""
    edges = list(shape)
    if math.prod(edges) > most_voxels:
        low, high = 1.0, float(max(edges))
        for _ in range(60):
            most = (low + high) / 2
            fits = math.prod(min(n, most) for n in edges) <= most_voxels
            low, high = (most, high) if fits else (low, most)
        edges = [max(1, min(n, int(low))) for n in edges]
    starts = [(n - e) // 2 for n, e in zip(shape, edges, strict=True)]
    return tuple(slice(s, s + e) for s, e in zip(starts, edges, strict=True))


class KnownArray:
    """Mask of the voxels that are known in all volumes, read on demand."""

    def __init__(self, volumes: FrameVolumes) -> None:
        self._volumes = volumes
        self.shape = volumes.shape
        self.ndim = len(self.shape)
        self.dtype = np.dtype(bool)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        return np.asarray(self[(slice(None),) * self.ndim], dtype)

    def __getitem__(self, key: Any) -> Mask:
        return self._volumes.read(key)[1]


class DifferenceArray:
    """Volume minus base in units of the noise of both, computed on demand.

    Parameters
    ----------
    volumes : FrameVolumes
    key : str
        Key of the volume.
    gain, offset : float
        Gain and offset that are applied to the volume first.
    noise : sequence of Noise
        Noise on the frame, for volumes where it was measured.
    unit : float
        Divisor of the differences if no noise was measured.
    """

    def __init__(
        self,
        volumes: FrameVolumes,
        key: str,
        *,
        gain: float,
        offset: float,
        noise: Sequence[Noise],
        unit: float,
    ) -> None:
        base = volumes.placed[volumes.base]
        self._volumes = FrameVolumes(
            {volumes.base: base, key: volumes.placed[key]}, volumes.base, volumes.mask
        )
        self._key, self._gain, self._offset = key, gain, offset
        self._noise, self._unit = tuple(noise), unit
        self.shape = volumes.shape
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        return np.asarray(self[(slice(None),) * self.ndim], dtype)

    def __getitem__(self, key: Any) -> FloatArray:
        values, known = self._volumes.read(key)
        base = values[self._volumes.base]
        image = values[self._key] * np.float32(self._gain) + np.float32(self._offset)
        sigma: Any = np.float32(self._unit)
        if self._noise:
            variance = np.zeros(np.shape(base), np.float64)
            for noise in self._noise:
                # The curve may be close to zero at rare grey values.
                least = 0.25 * noise.level
                level = np.maximum(noise.at(np.nan_to_num(base)), least)
                variance += level**2
            sigma = np.sqrt(variance)
        found = np.where(known, (image - base) / sigma, np.nan)
        return np.asarray(found, np.float32)
