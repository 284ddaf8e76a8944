"""Stages of a measurement with a local, hysteresis or shifted threshold."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.config import format_available, format_enough
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import StageStarted, Step, StepIterator, WarningIssued
from napari_geosr.core.types import AnyArray
from napari_geosr.measure.budget import available_bytes
from napari_geosr.measure.histogram import GreyHistogram
from napari_geosr.measure.phases.findings import Band, Findings, Morphometry
from napari_geosr.measure.phases.requested import morphometry_steps
from napari_geosr.measure.porosity_run import PorosityRun, SweepProgress
from napari_geosr.measure.reports.table import pore_table
from napari_geosr.measure.sample.counts import SampleCounts
from napari_geosr.measure.segment import phase_mask
from napari_geosr.measure.slabs.labelling import label_steps
from napari_geosr.measure.slabs.part import provisional_labels
from napari_geosr.measure.slabs.pool import processed
from napari_geosr.measure.sums import Pores, SweepTotals
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


class HeldSurface:
    """Grey values for a shifted threshold; the surface of the sample keeps its phase.

    At another threshold, an automatic sample mask would end elsewhere. Without this
    correction, its blurred surface would change from one phase to the other.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X)
    inner : ArrayLike of bool of the same shape
        The sample below its blurred surface.
    threshold : float
        The threshold that gives the phase of the surface.
    shifted : float
        The threshold that will be applied to the values.

    Examples
    --------
    >>> inner = np.array([[[False, False, True]]])
    >>> HeldSurface(np.array([[[90, 110, 110]]]), inner, 100, 120)[0:1].tolist()
    [[[90, 121, 110]]]
    """

    def __init__(
        self, source: Any, inner: Any, threshold: float, shifted: float
    ) -> None:
        self.source, self.inner = source, inner
        self.threshold, self.shifted = threshold, shifted
        self.shape, self.ndim = tuple(source.shape), 3
        self.dtype = np.dtype(source.dtype)
        if self.dtype.kind in "iu":
            info = np.iinfo(self.dtype)
            below = np.clip(np.floor(shifted), info.min, info.max - 1)
            self.below = self.dtype.type(below)
            self.above = self.dtype.type(below + 1)
        else:
            value = self.dtype.type(shifted)
            self.below = np.nextafter(value, self.dtype.type(-np.inf))
            self.above = np.nextafter(value, self.dtype.type(np.inf))

    def __getitem__(self, key: Any) -> AnyArray:
        values = np.asarray(self.source[key])
        surface = ~np.asarray(self.inner[key])
        is_below = values <= self.threshold
        moved = surface & (is_below != (values <= self.shifted))
        return np.where(moved, np.where(is_below, self.below, self.above), values)


def phase_statistics_steps(
    run: PorosityRun, totals: SweepTotals
) -> Generator[Step, None, tuple[dict[str, Morphometry], dict[str, Findings]]]:
    """Measure the requested statistics of both phases; see `morphometry_steps`."""
    yield StageStarted(message="Reading both phases")
    phases = run.phases(totals.threshold, totals.nonfinite_voxels)
    if run.pool is not None:
        share = partial(processed, run, doing="measuring morphometry")
        phases = replace(phases, share=share, processes=run.pool.per_host + 1)
    return (yield from morphometry_steps(run.config.statistics, phases, totals))


def band_steps(
    run: PorosityRun,
    totals: SweepTotals,
    limits: tuple[float, float],
    measured: Mapping[str, Morphometry],
) -> Generator[Step, None, dict[str, Morphometry]]:
    """Measure the statistics again at both shifted thresholds.

    Yields
    ------
    Step
        Remarks are left out: those at the threshold itself apply.

    Returns
    -------
    dict of Morphometry
        The same results with `Morphometry.bands`.
    """
    shifted = []
    for value in limits:
        again = _at_limit(run, totals, value)
        with StepIterator(again) as iterator:
            for step in iterator:
                if not isinstance(step, WarningIssued):
                    yield step
        shifted.append(iterator.result)
    return {
        name: replace(one, bands=_bands(one, [found[name] for found in shifted]))
        for name, one in measured.items()
    }


def _at_limit(
    run: PorosityRun, totals: SweepTotals, threshold: float
) -> Generator[Step, None, dict[str, Morphometry]]:
    """Label the pores at another threshold, and measure the statistics."""
    other = replace(
        run,
        target=None,
        journal=None,
        counts=SampleCounts(),
        offsets=[],
        resumed_ends=[],
        first_stored=0,
        overview=None,
    )
    if run.inner is not None:
        held = HeldSurface(run.source, run.inner, totals.threshold, threshold)
        other.uncorrected = run.source if run.uncorrected is None else run.uncorrected
        other.plan = replace(run.plan, source=held)
    progress = SweepProgress(len(other.slabs))
    raw = yield from label_steps(other, threshold, (threshold, threshold), progress)
    pores = Pores.of(raw, run.geometry)
    n_pores = other.counts.pores
    shifted = SweepTotals(
        pores,
        raw.small,
        pore_table(pores),
        sample_voxels=other.counts.sample,
        pore_voxels=n_pores,
        pore_voxels_low=n_pores,
        pore_voxels_high=n_pores,
        nonfinite_voxels=totals.nonfinite_voxels,
        threshold=threshold,
    )
    measured, _ = yield from phase_statistics_steps(other, shifted)
    return measured


def _bands(one: Morphometry, shifted: list[Morphometry]) -> dict[str, Band]:
    """Return the lowest and highest value of each quantity that is always known."""
    bands = {}
    for name in one.values:
        values = [found.values[name] for found in (one, *shifted)]
        known = [float(value) for value in values if value is not None]
        if len(known) == len(values):
            bands[name] = (min(known), max(known))
    return bands
