"""Measures noise where there is no structure: in a region, or in a blank scan.

If an object has fine texture everywhere, its noise cannot be distinguished from this
texture. The air around the object has no texture, nor has a scan without an object.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
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
from napari_geosr.measure.noise.basis import (
    SMOOTH_DEGREE,
    Edges,
    degrees,
    energies,
)
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
#: Number of planes of a stack that are compared with a blank image.
_MAX_PLANES = 5
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
#: Distance of the scan's grey values from those of the region or blank scan, as a
#: fraction of the range of the scan, above which a note states that the noise at these
#: grey values is an assumption.
_NEAR = 0.1
#: Distance up to which the photon noise of a region is extrapolated, as a multiple of
#: the range of its grey values. A slight gradient in a region may look like photon
#: noise.
_REGION_REACH = 1.0
#: Quantile of the blocks of the scan that show the largest possible noise at their grey
#: value: noise is in all blocks, and structure only adds to it.
_LOW_QUANTILE = 0.25
#: Mean energy of pure noise in the blocks of this quantile, relative to all blocks.
_ENERGY_OF_QUANTILE = 0.9
#: Ratio of a noise level to the largest one that is possible in the scan, above which
#: it cannot be the noise level of the scan.
_MAX_EXCESS = 1.3
#: If this ratio is exceeded at all grey values, the two volumes do not belong together.
#: A doubt is reported if the variation of the scan exceeds the noise level by this
#: factor.
_UNRELATED = 3.0
#: Minimum number of blocks in a class of grey values for this comparison.
_CLASS_BLOCKS = 40
_MAX_CLASSES = 10
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
    steps = _noise_steps(
        volume, volume, blocks, title, should_stop, reach=_REGION_REACH
    )
    return (yield from steps)


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
    blocks = _joined(parts)
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
        return [_plane(blank, int(i)) for i in chosen]
    return [blank]


def _noise_steps(
    volume: Volume,
    uniform: Volume,
    blocks: ScanBlocks,
    title: str,
    should_stop: ShouldStop,
    *,
    reach: float = math.inf,
) -> Generator[Step, None, Noise]:
    """Return the noise of `blocks` of the volume `uniform`, as that of the scan.

    `reach` limits the extrapolation of photon noise, as a multiple of the range of grey
    values in the blocks.
    """

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
    own = scan
    if scan.blocks.shape[1:] != sample.blocks.shape[1:]:
        own = yield from _plane_sample_steps(volume, should_stop)
        own = replace(own, greys=(own.greys - zero) / unit)
    quiet, curve = measured[0], _plain_curve(*measured)
    low, high = np.percentile(sample.greys, (1, 99))
    ends = np.percentile(scan.values, NEARLY_ALL)
    farthest = reach * (high - low)
    curve = curve.extended(
        float(max(ends[0], low - farthest)), float(min(ends[1], high + farthest))
    )
    curve, doubts = _plausible(curve, own, quiet, unit, title)
    noise = _described(scan, sample, energy, (quiet, curve), title, check)
    noise = replace(noise, doubts=(*noise.doubts, *doubts))
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
    notes = _assumption(scan, sample, curve, title)
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


def _plain_curve(quiet: QuietBlocks, curve: NoiseCurve) -> NoiseCurve:
    """Return the curve, or a constant if it does not follow the statistics of photons.

    Blocks with dust or with the edge of an object may be the only ones with their grey
    value; the curve there is not that of noise.
    """
    if curve.is_line:
        return curve
    used = (
        quiet.is_uniform if quiet.is_uniform.any() else np.ones(len(quiet.greys), bool)
    )
    variance = float(np.median(quiet.variances[used]))
    return NoiseCurve(np.array([np.median(quiet.greys[used])]), np.array([variance]))


def _plausible(
    curve: NoiseCurve, scan: NoiseSample, quiet: QuietBlocks, unit: float, title: str
) -> tuple[NoiseCurve, tuple[str, ...]]:
    """Limit the noise to what the scan itself allows at its grey values.

    Raises
    ------
    VolumeError
        If the scan varies much less than the noise everywhere.
    """
    edges = scan.blocks.shape[1:]
    fine = degrees((edges[0], edges[1], edges[2])) > SMOOTH_DEGREE
    energy = energies((scan.blocks / unit).astype(np.float32))[:, fine].mean(1)
    expected = float(quiet.spectrum.noise[fine].mean()) * curve.variance(scan.greys)
    ratios = energy / np.maximum(expected, np.finfo(np.float64).tiny)
    order = np.argsort(scan.greys, kind="stable")
    n_classes = min(_MAX_CLASSES, max(1, len(order) // _CLASS_BLOCKS))
    classes = np.array_split(order, n_classes)
    places = np.array([np.median(scan.greys[one]) for one in classes])
    lows = np.array([np.quantile(ratios[one], _LOW_QUANTILE) for one in classes])
    lows /= _ENERGY_OF_QUANTILE
    what = f"{title[:1].lower()}{title[1:]}"
    if lows.max() < 1 / _UNRELATED**2:
        raise VolumeError(
            f"The noise of {what} is more than {_UNRELATED:g} times as strong as all "
            "variation of the scan. Were both recorded and processed in the same way, "
            "with the same units of the grey values?"
        )
    if lows.min() > _UNRELATED**2:
        factor = number_text(float(np.sqrt(lows.min())))
        return curve, (
            f"Even the most uniform parts of the scan vary {factor} times as much as "
            f"{what}. Check that both were recorded and processed in the same way.",
        )
    is_excess = lows < 1 / _MAX_EXCESS**2
    if not is_excess.any():
        return curve, ()
    variances = curve.variance(places) * np.where(is_excess, lows, 1.0)
    keep = np.r_[True, np.diff(places) > 0]
    limited = NoiseCurve(places[keep], variances[keep])
    greys = number_text(float(places[np.argmin(lows)]))
    factor = number_text(float(np.sqrt(1 / lows.min())))
    return limited, (
        f"At grey values around {greys}, the scan varies less than the noise that was "
        f"measured in {what} (by a factor of {factor}). The noise level was "
        "therefore reduced to this variation; the actual noise may be even weaker.",
    )


def _plane_sample_steps(
    volume: Volume, should_stop: ShouldStop
) -> Generator[Step, None, NoiseSample]:
    """Read blocks of single planes of a scan, like those of a blank image."""
    n = volume.shape[0]
    parts = []
    for i in np.unique(np.linspace(0, n - 1, min(n, _MAX_PLANES)).round().astype(int)):
        found = yield from sample_steps(_plane(volume, int(i)), None, should_stop)
        if found is None:
            raise Cancelled(_CANCELLED)
        parts.append(found.limited(_MAX_BLOCKS // _MAX_PLANES))
    return usable_sample(_plane(volume, n // 2), _joined(parts))


def _plane(volume: Volume, index: int) -> Volume:
    """Return a plane of a stack as an image."""
    return replace(
        volume,
        data=np.asarray(volume.data[index]),
        axes="YX",
        voxel_size=volume.voxel_size[-2:],
        origin=volume.origin[-2:],
    )


def _joined(parts: Sequence[ScanBlocks]) -> ScanBlocks:
    return ScanBlocks(
        np.concatenate([part.values for part in parts]),
        None,
        np.concatenate([part.centres for part in parts]),
    )


def _assumption(
    scan: NoiseSample,
    sample: NoiseSample,
    curve: NoiseCurve,
    title: str,
) -> tuple[str, ...]:
    """Return a note if the scan has grey values at which no noise was measured."""
    low, high = np.percentile(sample.greys, (1, 99))
    darkest, brightest = np.percentile(scan.greys, (1, 99))
    if curve.is_line:  # extrapolated using the statistics of photons
        low, high = min(low, float(curve.greys[0])), max(high, float(curve.greys[-1]))
    margin = high - low + _NEAR * (brightest - darkest)
    if darkest > low - margin and brightest < high + margin:
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
    z, y, x = (max(1, edge // 2) for edge in edges)
    inside = yield from _corners_steps(region, edges, (z, y, x), should_stop)
    if sum(map(len, inside.values())) < _MIN_BLOCKS:  # thin, or few: count every block
        inside = yield from _corners_steps(region, edges, (1, 1, 1), should_stop)
    starts = list(inside)
    if len(starts) > _MAX_SLABS:
        evenly = np.linspace(0, len(starts) - 1, _MAX_SLABS).round().astype(int)
        if sum(len(inside[starts[i]]) for i in evenly) >= _MIN_PLACE_BLOCKS:
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
        planes = _planes(volume, slice(start, start + _SLAB_DEPTH + edges[0] - 1))
        values.append(sliding_window_view(planes, edges)[tuple(corners.T)])
        middles = corners + np.array([start, 0, 0]) + np.array(edges) / 2
        centres.append(middles / lengths)
    return ScanBlocks(
        np.concatenate(values[1:] or values), None, np.concatenate(centres)
    )


def _corners_steps(
    region: Volume, edges: Edges, steps: Edges, should_stop: ShouldStop
) -> Generator[Step, None, dict[int, Places]]:
    """Return the first corners of blocks in the region, relative to their slab.

    Blocks may extend beyond the slab in which they begin.
    """
    starts = range(0, _depth(region), _SLAB_DEPTH)
    inside: dict[int, Places] = {}
    for done, start in enumerate(starts, 1):
        if should_stop():
            raise Cancelled(_CANCELLED)
        slab = slice(start, start + _SLAB_DEPTH + edges[0] - 1)
        corners = _corners_inside(_planes(region, slab) != 0, edges, steps)
        if corners.size:
            inside[start] = corners
        yield BlockDone(done, len(starts))
    return inside


def _depth(volume: Volume) -> int:
    return volume.shape[0] if volume.ndim == 3 else 1


def _planes(volume: Volume, slab: slice) -> AnyArray:
    """Read planes, shape (Z, Y, X)."""
    if volume.ndim == 2:
        return np.asarray(volume.data[:, :])[None]
    return np.asarray(volume.data[slab])


def _corners_inside(mask: npt.NDArray[np.bool_], edges: Edges, steps: Edges) -> Places:
    """Return the first corners of blocks in the mask, at multiples of `steps`."""
    if any(n < edge for n, edge in zip(mask.shape, edges, strict=True)):
        return np.empty((0, 3), np.intp)
    # Whole edges are combined axis by axis, which needs less memory than whole blocks.
    for axis, (edge, step) in enumerate(zip(edges, steps, strict=True)):
        starts = np.arange(0, mask.shape[axis] - edge + 1, step)
        parts = [np.take(mask, starts + i, axis) for i in range(edge)]
        mask = np.logical_and.reduce(parts)
    return np.asarray(np.argwhere(mask) * np.array(steps), np.intp)
