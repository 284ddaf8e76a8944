"""Stages of a measurement with a local threshold, hysteresis, or a blurred surface."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np

from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.config import format_available, format_enough
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.measure.budget import available_bytes
from napari_geosr.measure.histogram import GreyHistogram
from napari_geosr.measure.porosity_run import PorosityRun
from napari_geosr.measure.segment import phase_mask
from napari_geosr.measure.slabs.part import provisional_labels
from napari_geosr.measure.thresholds.hysteresis import CoredComponents, core_threshold
from napari_geosr.measure.thresholds.local_mean import LevelledArray, levelled_bytes


def level_grey_values(run: PorosityRun, level: float) -> None:
    """Make the run read all further grey values relative to their local mean.

    Parameters
    ----------
    run : PorosityRun
    level : float
        Mean grey value, which replaces the local mean.

    Raises
    ------
    VolumeError
        If there is not enough memory for the planes around a slab.
    """
    window = run.config.local_window
    assert window is not None
    shape = run.shape[1:] if run.geometry.flat else run.shape
    itemsize = np.dtype(run.source.dtype).itemsize
    needed = levelled_bytes(shape, itemsize, window)
    free = available_bytes(run.config)
    if needed > free:
        raise VolumeError(
            f"The local threshold of {run.name!r} with a window of {window} voxels "
            f"needs {format_enough(needed)} of additional memory, but "
            f"{format_available(free)} is available. Use a smaller window.",
            fields=["local_window"],
        )
    source = LevelledArray(run.source, run.mask, window, level, flat=run.geometry.flat)
    run.uncorrected, run.plan = run.source, replace(run.plan, source=source)


def hysteresis_steps(
    run: PorosityRun,
    histogram: GreyHistogram,
    threshold: float,
    limits: tuple[float, float],
) -> Generator[Step, None, None]:
    """Find pores that reach the core threshold, at the threshold and both limits."""
    share, phase = run.config.hysteresis, run.config.phase
    assert share is not None
    core = core_threshold(histogram, threshold, share, phase)
    values = (threshold, *limits)
    found = [CoredComponents(run.config.connectivity) for _ in values]
    offsets = []
    yield StageStarted(message="Applying the hysteresis threshold")
    for slab in run.slabs:
        run.check("applying the hysteresis threshold")
        block = np.asarray(run.source[slab])
        sample = run.sample(slab, block)
        for components, value in zip(found, values, strict=True):
            pores, inner = (
                phase_mask(block, at, phase) for at in (value, core + value - threshold)
            )
            if sample is not None:
                pores &= sample
            counted = run.below_surface(slab, sample)
            offset = components.add(pores, inner & pores, counted)
            if components is found[0]:
                offsets.append(offset)
        yield Step()
    kept = found[0].kept()
    run.cored = PackedMask(run.shape)
    for slab, offset in zip(run.slabs, offsets, strict=True):
        run.check("applying the hysteresis threshold")
        labels, n = provisional_labels(
            run.pores_at(slab, threshold)[1], run.config.connectivity
        )
        here = np.concatenate([[False], kept[offset + 1 : offset + n + 1]])
        run.cored.write(slab.start, here[labels])
        yield Step()
    run.cored_at_limits = (found[1].kept_voxels(), found[2].kept_voxels())


class CoveredArray:
    """Grey values with one value at the blurred surface of a sample; read in slabs.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X)
    surface : ndarray of bool of the same shape
        True in solid voxels that blur mixes with the surroundings.
    value : float
        Grey value of the solid; rounded if the voxels of `source` are integers.

    Examples
    --------
    >>> surface = np.array([[[True, False, False]]])
    >>> CoveredArray(np.array([[[130, 200, 60]]]), surface, 199.7)[0:1].tolist()
    [[[200, 200, 60]]]
    """

    def __init__(self, source: Any, surface: np.ndarray, value: float) -> None:
        self.source, self.surface = source, surface
        self.shape, self.ndim = tuple(source.shape), 3
        self.dtype = np.dtype(source.dtype)
        is_integer = self.dtype.kind in "iu"
        self.value = self.dtype.type(round(value) if is_integer else value)

    def __getitem__(self, key: Any) -> np.ndarray:
        values = np.asarray(self.source[key])
        return np.where(self.surface[key], self.value, values)
