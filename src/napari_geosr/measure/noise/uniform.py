"""Measures noise where there is no structure: in a region, or in a blank scan.

If an object has fine texture everywhere, its noise cannot be distinguished from this
texture. The air around the object has no texture, nor has a scan without an object.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.noise import FLOOR, Noise
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop
from napari_geosr.core.text.counts import counted
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise.basis import Edges, energies
from napari_geosr.measure.noise.contrast import contrast_of
from napari_geosr.measure.noise.curve import NEARLY_ALL, NoiseCurve
from napari_geosr.measure.noise.places import ratios_of_regions
from napari_geosr.measure.noise.quiet import QuietBlocks, quiet_curve
from napari_geosr.measure.noise.reading import (
    ScanBlocks,
    block_edges,
    sample_steps,
)
from napari_geosr.measure.noise.remarks import position_doubts
from napari_geosr.measure.noise.sample import NoiseSample, rescaled, usable_sample
from napari_geosr.measure.number_text import number_text

Places = npt.NDArray[np.intp]

#: Fraction of the blocks from which the noise is measured. The other blocks may contain
#: dust, or the edge of an object.
_QUIET = 0.5
#: Maximum number of blank images that are read.
_MAX_FRAMES = 40
#: Minimum number of blocks: with fewer, the level may be wrong by more than 10 %.
_MIN_BLOCKS = 40
#: Approximate maximum number of blocks.
_MAX_BLOCKS = 10_000
#: Number of planes of a region that are read at once.
_SLAB_DEPTH = 8
#: Maximum number of slabs of the scan that are read for a region.
_MAX_SLABS = 5
#: Number of blocks above which the noise of individual regions is compared.
_MIN_PLACE_BLOCKS = 1000
#: Ratio of noise levels at different positions above which there is a remark.
_MIN_PLACE_RATIO = 1.4
#: Distance of the scan's grey values from those of the region or blank scan, in
#: standard deviations of the noise, above which the noise at these grey values is an
#: assumption.
_FAR = 5.0
_STRUCTURE = (
    "{place} is not uniform: it seems to contain structure as fine as the noise, so "
    "the noise level may be too high."
)
_INDEPENDENT_SLICES = (
    "The blank scan is a set of images, so the noise of adjacent slices is assumed to "
    "be independent."
)
_CANCELLED = "Measuring the noise was cancelled."


def region_noise_steps(
    volume: Volume, region: Volume, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, Noise]:
    """Measure the noise of a scan in a region without structure.

    Parameters
    ----------
    volume : Volume
        Scan with axes ZYX or YX.
    region : Volume
        Mask or labels with the same voxels. The region consists of all voxels that are
        not zero. All planes are read, one after another.

    Returns
    -------
    Noise
        With the contrast of the whole scan.

    Raises
    ------
    VolumeError
        If the shapes differ, or the region is too small or uniform in every block.
    Cancelled
        If `should_stop` returns True.
    """
    if (region.axes, region.shape) != (volume.axes, volume.shape):
        raise VolumeError(
            f"{region.title} has {region.shape} voxels ({region.axes}) and "
            f"{volume.title} {volume.shape} ({volume.axes}): a region for the noise "
            "must have the voxel grid of the scan. Draw it on the scan."
        )
    blocks = yield from _region_blocks_steps(volume, region, should_stop)
    title = f"The region {region.title}"
    return (yield from _noise_steps(volume, volume, blocks, title, should_stop))


def blank_noise_steps(
    volume: Volume, blank: Volume, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, Noise]:
    """Measure the noise of a scan in a blank scan, which shows no object.

    Parameters
    ----------
    volume : Volume
        Scan with axes ZYX or YX.
    blank : Volume
        A scan recorded and processed in the same way, but without an object; for an
        image, one or more blank images, along Z or T. If they differ in brightness,
        the noise is measured as a function of the grey value.

    Returns
    -------
    Noise
        With the contrast of the scan.

    Raises
    ------
    VolumeError
        If the axes are not supported, or the blank scan is too small or constant.
    Cancelled
        If `should_stop` returns True.
    """
    frames = _frames(blank, is_flat=_depth(volume) == 1)
    parts = []
    for frame in frames:
        blocks = yield from sample_steps(frame, None, should_stop)
        if blocks is None:
            raise Cancelled(_CANCELLED)
        parts.append(blocks.limited(_MAX_BLOCKS // len(frames)))
    blocks = ScanBlocks(
        np.concatenate([part.values for part in parts]),
        None,
        np.concatenate([part.centres for part in parts]),
    )
    title = f"The blank scan {blank.title}"
    noise = yield from _noise_steps(volume, frames[0], blocks, title, should_stop)
    if "z" in noise.correlation and _depth(frames[0]) == 1:
        noise = replace(noise, notes=(*noise.notes, _INDEPENDENT_SLICES))
    return noise


def _frames(blank: Volume, *, is_flat: bool) -> list[Volume]:
    """Return a blank scan as a single volume or, for images, as a list of images."""
    if blank.axes == "TYX" or (blank.axes == "ZYX" and is_flat):
        blank = blank if blank.axes == "ZYX" else blank.as_slices()
        n = blank.shape[0]
        chosen = np.unique(np.linspace(0, n - 1, min(n, _MAX_FRAMES)).round())
        return [
            replace(
                blank,
                data=np.asarray(blank.data[int(i)]),
                axes="YX",
                voxel_size=blank.voxel_size[-2:],
                origin=blank.origin[-2:],
            )
            for i in chosen
        ]
    return [blank]


def _noise_steps(
    volume: Volume,
    uniform: Volume,
    blocks: ScanBlocks,
    title: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, Noise]:
    """Return the noise of `blocks` of the volume `uniform`, as that of the scan."""

    def check() -> None:
        if should_stop():
            raise Cancelled(_CANCELLED)

    sample = None
    if len(blocks.values) >= _MIN_BLOCKS:
        sample = usable_sample(uniform, blocks)
    n_blocks = len(blocks.values if sample is None else sample.greys)
    if sample is None or n_blocks < _MIN_BLOCKS:
        raise VolumeError(
            f"{title} has only {counted(n_blocks, 'block')} of "
            f"{' × '.join(map(str, blocks.values.shape[1:]))} voxels that can be used, "
            f"but at least {_MIN_BLOCKS} are needed to measure the noise: choose a "
            "larger one."
        )
    found = yield from sample_steps(volume, None, should_stop)
    if found is None:
        raise Cancelled(_CANCELLED)
    scan = usable_sample(volume, found)
    del found
    sample, zero, unit = rescaled(sample)
    greys = (scan.greys - zero) / unit
    scan = replace(scan, greys=greys, values=(scan.values - zero) / unit)
    energy = energies(sample.blocks)
    measured = quiet_curve(energy, sample, _QUIET, check)
    if measured is None:
        raise VolumeError(
            f"The grey values of {title[:1].lower()}{title[1:]} do not vary, so it "
            "contains no noise that could be measured."
        )
    noise = _described(scan, sample, energy, measured, title, check)
    names = "zyx" if volume.axes == "ZYX" and volume.shape[0] > 1 else "yx"
    known = {name: noise.correlation[name] for name in names}
    noise = replace(noise, correlation=known)
    return noise.standardised(-zero / unit, 1 / unit)


def _described(
    scan: NoiseSample,
    sample: NoiseSample,
    energy: Any,
    measured: tuple[QuietBlocks, NoiseCurve],
    title: str,
    check: Callable[[], None],
) -> Noise:
    quiet, curve = measured
    weakest, strongest = 1.0, 1.0
    if len(sample.greys) >= _MIN_PLACE_BLOCKS:
        weakest, strongest = ratios_of_regions(energy, sample, quiet, curve, check)
    stated = (
        weakest if weakest < 1 / _MIN_PLACE_RATIO else 1.0,
        strongest if strongest > _MIN_PLACE_RATIO else 1.0,
    )
    curve = curve.extended(*np.percentile(scan.values, NEARLY_ALL).tolist())
    greys, levels = curve.levels()
    level = float(np.sqrt(np.mean(np.interp(scan.greys, greys, levels) ** 2)))
    contrast = contrast_of(scan, greys, levels, quiet.spectrum.lags)
    half = quiet.half_width
    interval = (
        level * max(0.0, min(1 - half, stated[0])),
        level * max(1 + half, stated[1]),
    )
    doubts: tuple[str, ...] = ()
    if contrast > 0:
        doubts = position_doubts(level * strongest / contrast, stated)
    if quiet.is_structure:
        interval = (0.0, interval[1])
        doubts = (*doubts, _STRUCTURE.format(place=title))
    notes = _assumption(scan, sample, curve, level, title)
    if level < FLOOR * contrast:
        greys, level, levels, interval = greys[:1], 0.0, (0.0,), (0.0, interval[1])
    return Noise(
        level=level,
        contrast=contrast,
        greys=greys,
        levels=levels,
        correlation=dict(zip("zyx", quiet.spectrum.lags, strict=True)),
        white=quiet.spectrum.white,
        cutoff=quiet.spectrum.cutoff,
        interval=interval,
        source="uniform",
        notes=notes,
        doubts=doubts,
    )


def _assumption(
    scan: NoiseSample,
    sample: NoiseSample,
    curve: NoiseCurve,
    level: float,
    title: str,
) -> tuple[str, ...]:
    """Return a note if the scan has grey values at which no noise was measured."""
    if curve.is_line:  # extrapolated by the statistics of photons
        return ()
    low, high = np.percentile(sample.greys, (1, 99))
    darkest, brightest = np.percentile(scan.greys, (1, 99))
    if darkest > low - _FAR * level and brightest < high + _FAR * level:
        return ()
    middle = number_text(float(np.median(sample.greys)))
    return (
        f"{title} has grey values around {middle}. At the other grey values of the "
        "scan, the noise is assumed to be equally strong.",
    )


def _region_blocks_steps(
    volume: Volume, region: Volume, should_stop: ShouldStop
) -> Generator[Step, None, ScanBlocks]:
    """Read blocks of the scan that lie completely in the region."""
    edges = block_edges(volume)
    slabs = [
        slice(start, start + _SLAB_DEPTH)
        for start in range(0, _depth(volume), _SLAB_DEPTH)
    ]
    inside: dict[int, Places] = {}
    for done, slab in enumerate(slabs, 1):
        if should_stop():
            raise Cancelled(_CANCELLED)
        corners = _corners_inside(_planes(region, slab) != 0, edges)
        if corners.size:
            inside[slab.start] = corners
        yield BlockDone(done, len(slabs))
    starts = list(inside)
    if len(starts) > _MAX_SLABS:
        evenly = np.linspace(0, len(starts) - 1, _MAX_SLABS).round().astype(int)
        starts = [starts[i] for i in evenly]
    rng = np.random.default_rng(0)
    values, centres = [np.empty((0, *edges))], [np.empty((0, 3))]
    lengths = np.array([_depth(volume), *volume.shape[-2:]])
    for start in starts:
        if should_stop():
            raise Cancelled(_CANCELLED)
        corners = inside[start]
        limit = -(-_MAX_BLOCKS // len(starts))
        if len(corners) > limit:
            corners = corners[np.sort(rng.choice(len(corners), limit, replace=False))]
        planes = _planes(volume, slice(start, start + _SLAB_DEPTH))
        values.append(sliding_window_view(planes, edges)[tuple(corners.T)])
        middles = corners + np.array([start, 0, 0]) + np.array(edges) / 2
        centres.append(middles / lengths)
    return ScanBlocks(
        np.concatenate(values[1:] or values), None, np.concatenate(centres)
    )


def _depth(volume: Volume) -> int:
    return volume.shape[0] if volume.ndim == 3 else 1


def _planes(volume: Volume, slab: slice) -> AnyArray:
    """Read planes, shape (Z, Y, X)."""
    if volume.ndim == 2:
        return np.asarray(volume.data[:, :])[None]
    return np.asarray(volume.data[slab])


def _corners_inside(mask: npt.NDArray[np.bool_], edges: Edges) -> Places:
    """Return the first corners of blocks in the mask that overlap by half."""
    if any(n < edge for n, edge in zip(mask.shape, edges, strict=True)):
        return np.empty((0, 3), np.intp)
    # Whole edges are combined axis by axis, which needs less memory than whole blocks.
    for axis, edge in enumerate(edges):
        step = max(1, edge // 2)
        starts = np.arange(0, mask.shape[axis] - edge + 1, step)
        parts = [np.take(mask, starts + i, axis) for i in range(edge)]
        mask = np.logical_and.reduce(parts)
    steps = [max(1, edge // 2) for edge in edges]
    return np.asarray(np.argwhere(mask) * np.array(steps), np.intp)
