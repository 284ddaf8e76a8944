"""Simulates a low-resolution system from a scan, a few slices at a time."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import BlockDone, ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io.output import Output
from napari_geosr.operations.pairs.config import DegradeConfig
from napari_geosr.operations.pairs.inputs import millimetres
from napari_geosr.operations.pairs.quality import times
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.degradations import (
    DEGRADATIONS,
    ContrastLevels,
    DegradationConfig,
)
from napari_geosr.physics.sampling import (
    area_downsample,
    kept_samples,
    shift_half_voxel,
    without_kept,
)
from napari_geosr.registration.sampled import Grid, finite

_MIN_VOXELS = 8
_BLUR_REACH = 4
#: Memory per high-resolution voxel while a block is processed, in bytes.
_BYTES_PER_VOXEL = 12
#: Additional memory per voxel for interpolation, in bytes.
_INTERPOLATION_BYTES = 12
#: Reach of cubic interpolation, in voxels.
_CUBIC_REACH = 2


def cropped(high: Volume, factors: tuple[int, ...]) -> Volume:
    """Crop the scan to a whole number of low-resolution voxels along each axis."""
    shape = tuple(n // f * f for n, f in zip(high.shape, factors, strict=True))
    coarse = tuple(n // f for n, f in zip(shape, factors, strict=True))
    if min(coarse[-2:]) < _MIN_VOXELS or min(coarse) < 1:
        raise VolumeError(
            f"{high.title} has {times(high.shape)} voxels: with an upscale factor of "
            f"{max(factors)}, too few low-resolution voxels are left ({times(coarse)}; "
            f"at least {_MIN_VOXELS} along Y and X are needed). Choose a smaller "
            "factor."
        )
    if shape == high.shape:
        return high
    return high.replace(data=_CroppedArray(high.data, shape))


class _CroppedArray:
    """View of the first voxels of an array along each axis, read when indexed."""

    def __init__(self, data: ArrayLike, shape: tuple[int, ...]) -> None:
        self.data, self.shape = data, shape
        self.dtype, self.ndim = np.dtype(data.dtype), len(shape)

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        parts = (*parts, *(slice(None),) * (len(self.shape) - len(parts)))
        inner = tuple(
            slice(*part.indices(n)) if isinstance(part, slice) else part
            for part, n in zip(parts, self.shape, strict=True)
        )
        return self.data[inner]


class DegradedScan:
    """A scan and its simulated low-resolution version, slice by slice.

    The high-resolution volume of a pair must have its voxels where a network places
    them: at subdivisions of the low-resolution voxels. If one voxel of each block is
    kept and the block has no central voxel, the subdivisions are half a voxel away from
    the voxels of the scan; their values are then interpolated.
    """

    def __init__(
        self,
        high: Volume,
        factors: tuple[int, ...],
        config: DegradeConfig,
        imaging: DegradationConfig,
        levels: ContrastLevels,
    ) -> None:
        self.high, self.factors, self.imaging = high, factors, imaging
        fine = Grid.of(high)
        module = DEGRADATIONS.load(config.degrade)
        self.keeps = getattr(module, "SAMPLING", "mean") == "kept"
        coarse = fine.kept(factors) if self.keeps else fine.coarsened(factors)
        even = [axis for axis, factor in enumerate(factors) if factor % 2 == 0]
        self.between = even if self.keeps else []
        separates = getattr(module, "separates_noise", None)
        self.separates = (
            self.keeps
            and separates is not None
            and separates(imaging)
            and min(factors[-2:]) > 1
        )
        self.grids = {
            "low": coarse,
            "high": coarse.refined(factors) if self.between else fine,
        }
        widths = module.blur_widths(
            imaging, coarse.voxel_size.tolist(), millimetres(high)
        )
        self.sigma: list[float] = [s * f for s, f in zip(widths, factors, strict=True)]
        if config.dimensions == "2D" and high.axes == "ZYX":
            self.sigma[0] = 0.0  # slices are not blurred into each other
        self.noise = module.Noise(imaging, levels, coarse.shape[-2:])

    def describe_grid(self, key: str) -> AnyDict:
        """Return the shape and position of one of the volumes, for the report."""
        return self.grids[key].to_record()

    def write(
        self,
        files: Mapping[str, Path],
        record: AnyMapping,
        memory: int,
        overwrite: bool,
        should_stop: ShouldStop,
    ) -> Generator[Step, None, None]:
        """Write both files; they appear when both are complete."""
        yield StageStarted(message="Writing the pair")
        with ExitStack() as stack:
            outputs = {
                key: stack.enter_context(self._output(key, files, overwrite))
                for key in ("low", "high")
            }
            planes = self.grids["low"].shape[0]
            step = self._step(memory)
            for start in range(0, planes, step):
                if should_stop():
                    raise Cancelled("Stopped; no file was written.")
                stop = min(start + step, planes)
                self._fill(outputs, start, stop)
                for output in outputs.values():
                    output.release()
                yield BlockDone(stop, planes)
            for output in outputs.values():
                output.provenance = (*self.high.provenance, record)

    def _step(self, memory: int) -> int:
        """Return the number of slices per block; an image is processed as a whole."""
        shape = self.grids["low"].shape
        if len(shape) == 2:
            return shape[0]
        each = _BYTES_PER_VOXEL + (
            _INTERPOLATION_BYTES if self.between or self.separates else 0
        )
        plane = math.prod(self.high.shape[1:]) * each
        return max(1, (memory // plane - 2 * self._reach) // self.factors[0])

    @property
    def _reach(self) -> int:
        """Number of extra slices read on either side of a block."""
        reach = math.ceil(_BLUR_REACH * self.sigma[0])
        return max(reach, _CUBIC_REACH if 0 in self.between else 0)

    def _fill(self, outputs: AnyMapping, start: int, stop: int) -> None:
        first = self.factors[0]
        begin, end = start * first, stop * first
        low_edge = max(0, begin - self._reach)
        high_edge = min(self.high.shape[0], end + self._reach)
        block = finite(self.high, (slice(low_edge, high_edge),))
        config = self.imaging
        with np.errstate(over="ignore"):  # infinite values are refused below
            block = block * np.float32(config.grey_gain)
            block += np.float32(config.grey_offset)
        if not np.isfinite(block).all():
            raise VolumeError(
                f"{self.high.title} times the grey gain {config.grey_gain:g}, plus "
                f"the offset {config.grey_offset:g}, gives grey values beyond "
                "float32 (3.4e+38). Choose a smaller gain or offset."
            )
        own = slice(begin - low_edge, end - low_edge)
        if self.between:
            target = shift_half_voxel(self._target(block, low_edge), self.between)[own]
        elif (config.grey_gain, config.grey_offset) == (1.0, 0.0):
            target = self._target(np.asarray(self.high.data[begin:end]), begin)
        else:
            target = self._target(block, low_edge)[own]
        outputs["high"].array[begin:end] = target
        blurred = gaussian_blur(block, self.sigma) if any(self.sigma) else block
        sampled = kept_samples if self.keeps else area_downsample
        coarse = sampled(blurred[own], self.factors)
        outputs["low"].array[start:stop] = self._noisy(coarse, start)

    def _target(self, block: AnyArray, first: int) -> AnyArray:
        """Return the target for a block; `first` is the index of its first slice."""
        return without_kept(block, self.factors, first) if self.separates else block

    def _noisy(
        self, coarse: npt.NDArray[np.float32], start: int
    ) -> npt.NDArray[np.float32]:
        if coarse.ndim == 2:
            return np.asarray(self.noise.add(coarse, 0))
        planes = [self.noise.add(p, z) for z, p in enumerate(coarse, start)]
        return np.stack(planes)

    def _output(
        self, key: str, files: Mapping[str, Path], overwrite: bool
    ) -> AbstractContextManager[Output]:
        grid = self.grids[key]
        as_it_was = (self.imaging.grey_gain, self.imaging.grey_offset) == (1.0, 0.0)
        dtype = self.high.dtype
        kept = key == "high" and as_it_was and dtype.kind in "iub" and not self.between
        kept = kept and dtype.itemsize <= 4
        return io.create(
            files[key],
            io.OutputSpec(
                shape=grid.shape,
                dtype=dtype if kept else np.float32,
                axes=self.high.axes,
                voxel_size=tuple(grid.voxel_size.tolist()),
                unit=self.high.unit,
                origin=tuple(grid.origin.tolist()),
            ),
            overwrite=overwrite,
        )
