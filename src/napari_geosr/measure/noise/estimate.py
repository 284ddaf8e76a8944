"""Measures the noise of a scan, from one scan or two scans of the same object."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.noise import FLOOR, Noise, known_noise
from napari_geosr.core.steps import ShouldStop, Step, never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise.anomalies import (
    Outliers,
    anomaly_remarks,
    without_outliers,
)
from napari_geosr.measure.noise.basis import Array, energies
from napari_geosr.measure.noise.contrast import PERCENTILES, contrast_of
from napari_geosr.measure.noise.curve import NEARLY_ALL, NoiseCurve
from napari_geosr.measure.noise.places import noisiest_region, ratios_of_regions
from napari_geosr.measure.noise.quiet import QuietBlocks, quiet_curve
from napari_geosr.measure.noise.reading import EDGE, ScanBlocks, averaged, sample_steps
from napari_geosr.measure.noise.remarks import (
    FILTERED_FACTOR,
    MEDIAN_FILTERED,
    NOT_AVERAGED,
    TOO_SMALL,
    doubts,
    is_median_filtered,
    position_doubts,
    remarks,
)
from napari_geosr.measure.noise.sample import (
    NoiseSample,
    NoiseUnknownError,
    known_from_pair,
    outer_values,
    rescaled,
    usable_sample,
)
from napari_geosr.measure.noise.topics import is_about
from napari_geosr.measure.noise.undetected import smooth_noise, variation_limit
from napari_geosr.measure.noise.uniform import blank_noise_steps, region_noise_steps

#: Fraction of the blocks that count as quiet in the difference of two scans.
_QUIET_IN_DIFFERENCE = 0.5
#: Fraction of the blocks that count as quiet in a scan.
_QUIET = 0.05
#: Largest ratio of the noise level to the standard deviation within a block, for noise
#: that is smooth within blocks: 1.3 to 2 in scans smoothed by 1.2 to 2 voxels.
_SMOOTH_FACTOR = 2.0
#: Minimum number of voxels per block.
_MIN_BLOCK_VOXELS = 16
#: Largest factor by which clipping may reduce the noise: 1.7 if half of the values are
#: clipped.
_CLIPPED_FACTOR = 2.0
#: Ratio of the noise in the noisiest region to that in the least noisy one, above which
#: the noise depends on the position.
_MIN_PLACE_RATIO = 1.4
#: Ratio of the noise level after averaging voxels to the level expected from its
#: correlation, above which the supposed noise may be structure. In scans of rock and
#: phantoms with known noise, the ratio is below 1.25 unless structure contributes.
_MAX_AVERAGED_RATIO = 1.3
#: Correlation of neighbouring voxels, along the axis where it is strongest, below which
#: the supposed noise cannot be structure: a blurred image has no white structure.
_MIN_STRUCTURE_LAG = 0.2
#: Edge lengths of other blocks, in voxels: structure varies more in larger blocks.
_OTHER_EDGES = (4, 5, 8)
#: Maximum ratio of noise levels, in blocks of different sizes, that count as equal.
_MAX_EDGE_RATIO = 1.15
#: Ratio for white noise; it is larger because structure is rarely white.
_MAX_EDGE_RATIO_WHITE = 1.3
#: Ratio of the level after averaging, or in other blocks, to the measured one, above
#: which all of the supposed noise may be structure.
_CLEAR_RATIO = 1.6
#: Number of blocks below which fine texture cannot be distinguished from correlated
#: noise: with so few blocks, too few share a grey value for uniform blocks to be
#: recognised (32³ voxels have 729 blocks).
_MIN_TEXTURE_BLOCKS = 1000
_CANCELLED = "Measuring the noise was cancelled."
#: Number of estimates that are kept. The assessment of a model, the ranking, the
#: restoration and the check of its result need the noise of the same scan, one after
#: another.
_MAX_KNOWN = 32
#: Estimates by the digest of their sample, oldest first.
_known: dict[bytes, Noise] = {}
_lock = threading.Lock()


def estimate_noise(
    volume: Volume,
    *,
    second: Volume | None = None,
    region: Volume | None = None,
    blank: Volume | None = None,
) -> Noise:
    """Measure the noise of a scan.

    Blocks of a few voxels are read from all over the scan. Their variation is
    divided among polynomials of different degrees, and the quietest blocks of every
    grey value are described as noise plus smooth structure.

    Parameters
    ----------
    volume : Volume
        Scan with axes ZYX or YX; numpy, dask or zarr. Only a sample is read.
    second : Volume, optional
        Another scan of the same object, with the same voxels and independent noise.
    region : Volume, optional
        Mask of a region without structure in which to measure: `region_noise_steps`.
    blank : Volume, optional
        Scan without an object in which to measure instead: `blank_noise_steps`.

    Returns
    -------
    Noise
        The level is 0 if it is below 1 % of the contrast; the upper end of the interval
        is then the largest level that could remain undetected.

    Raises
    ------
    VolumeError
        If the axes are not supported, the shapes of the scans differ, or there are no
        values to measure.
    ConfigError
        If more than one of `second`, `region` and `blank` is given.

    Notes
    -----
    Quiet blocks are selected by some coefficients and measured by others, as in
    Ponomarenko et al. (2007) and Colom, Buades and Morel (2014,
    doi:10.1364/JOSAA.31.000863). If structure is as fine as the noise everywhere, so
    that no block is uniform, it counts as noise; there is a remark if averaging
    neighbouring voxels reduces the level too little.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scan = Volume(rng.normal(100.0, 5.0, (12, 48, 48)), "ZYX")
    >>> round(estimate_noise(scan).level)
    5
    """
    steps = noise_steps(volume, second=second, region=region, blank=blank)
    return run_to_end(steps)


def noise_steps(
    volume: Volume,
    *,
    second: Volume | None = None,
    region: Volume | None = None,
    blank: Volume | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Noise]:
    """Run `estimate_noise` step by step.

    Noise in the volume's metadata (see `known_noise`) is returned as it is.
    """
    sources = [each for each in (second, region, blank) if each is not None]
    if len(sources) > 1:
        raise ConfigError(
            "Use a second scan, a region or a blank scan for the noise: only one."
        )
    if region is not None:
        return (yield from region_noise_steps(volume, region, should_stop))
    if blank is not None:
        return (yield from blank_noise_steps(volume, blank, should_stop))
    known_before = known_noise(volume.metadata)
    if second is None and known_before is not None:
        return known_before.noise
    _check_grids(volume, second)
    blocks = yield from sample_steps(volume, second, should_stop)

    def check() -> None:
        """Raise `Cancelled` if the measurement is to stop."""
        if should_stop():
            raise Cancelled(_CANCELLED)

    check()
    if blocks is None:  # `should_stop` was true for a moment
        raise Cancelled(_CANCELLED)
    outer = outer_values(volume)
    key = _key(volume, blocks, outer)
    known = _known.get(key)
    if known is None:
        sample = usable_sample(volume, blocks, outer)
        del blocks  # up to 17 MB
        known, is_certain = _from_sample(volume, sample, second is not None, check)
        known = known_from_pair(known, sample.second)
        is_white = max(known.correlation.values()) < _MIN_STRUCTURE_LAG
        if not (known.level == 0 or second is not None):
            if not is_white and len(sample.greys) < _MIN_TEXTURE_BLOCKS:
                known = _doubted(known, TOO_SMALL, from_zero=True)
            elif not is_certain:
                known = yield from _compared_with_averaged(
                    volume, known, should_stop, check
                )
        with _lock:
            _known[key] = known
            if len(_known) > _MAX_KNOWN:
                del _known[next(iter(_known))]
    return replace(known, correlation=dict(known.correlation))


def _check_grids(volume: Volume, second: Volume | None) -> None:
    if second is None or (second.axes, second.shape) == (volume.axes, volume.shape):
        return
    raise VolumeError(
        f"{second.title} has {second.shape} voxels ({second.axes}) and "
        f"{volume.title} {volume.shape} ({volume.axes}): measuring noise from two "
        "scans requires the same voxel grid in both. Use two scans on the same voxel "
        "grid."
    )


def _key(volume: Volume, blocks: ScanBlocks, outer: Sequence[float]) -> bytes:
    """Return a digest of everything that the estimate depends on."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((volume.axes, volume.shape[0] == 1, outer)).encode())
    for values in (blocks.values, blocks.repeats, blocks.centres):
        if values is not None:
            digest.update(repr((values.dtype, values.shape)).encode())
            digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    return digest.digest()


def _compared_with_averaged(
    volume: Volume, noise: Noise, should_stop: ShouldStop, check: Callable[[], None]
) -> Generator[Step, None, Noise]:
    """Mark the noise as doubtful if averaging voxels reduces it too little.

    The mean of two values with correlation c has (1 + c) / 2 times their variance.
    Structure without uniform regions varies more in the averaged scan, where each block
    covers more structure. If the averaged level is only slightly too high, or the noise
    is white, the noise is accepted if blocks of other sizes give the same level.
    """
    smaller = averaged(volume)
    if smaller is None:
        return noise
    blocks = yield from _read(smaller, EDGE, should_stop, check)
    level = _level(smaller, blocks, check)
    lengths = zip("zyx"[-volume.ndim :], volume.shape, smaller.shape, strict=True)
    halved = [name for name, whole, half in lengths if half < whole]
    left = math.prod((1 + noise.correlation.get(n, 0.0)) / 2 for n in halved) ** 0.5
    if level is not None and level <= _MAX_AVERAGED_RATIO * left * noise.level:
        return noise
    levels = [noise.level]
    largest = max(_OTHER_EDGES)
    if volume.axes == "ZYX" and min(volume.shape) >= largest:
        blocks = yield from _read(volume, largest, should_stop, check)
        found = (_level(volume, blocks.cropped(e), check) for e in _OTHER_EDGES)
        levels += [other for other in found if other is not None]
    is_clear = level is None or level > _CLEAR_RATIO * noise.level
    low, high = min(levels) / noise.level, max(levels) / noise.level
    is_white = max(noise.correlation.values()) < _MIN_STRUCTURE_LAG
    limit = _MAX_EDGE_RATIO_WHITE if is_white else _MAX_EDGE_RATIO
    is_same = 1 / limit < low and high < limit
    if is_same and (is_white or (not is_clear and len(levels) > 1)):
        return noise
    is_clear = is_clear or low < 1 / _CLEAR_RATIO or high > _CLEAR_RATIO
    interval = (min(noise.interval[0], *levels), max(noise.interval[1], *levels))
    noise = replace(noise, interval=interval)
    return _doubted(noise, NOT_AVERAGED, from_zero=is_clear)


def _read(
    volume: Volume, edge: int, should_stop: ShouldStop, check: Callable[[], None]
) -> Generator[Step, None, ScanBlocks]:
    """Read blocks of edge length `edge`; raise `Cancelled` if the run is to stop."""
    blocks = yield from sample_steps(volume, None, should_stop, edge)
    check()
    if blocks is None:  # `should_stop` was true for a moment
        raise Cancelled(_CANCELLED)
    return blocks


def _level(
    volume: Volume, blocks: ScanBlocks, check: Callable[[], None]
) -> float | None:
    """Return the noise level measured in these blocks; None if no block is usable."""
    try:
        sample = usable_sample(volume, blocks)
    except NoiseUnknownError:
        return None
    return _from_sample(volume, sample, False, check)[0].level


def _doubted(noise: Noise, doubt: str, *, from_zero: bool) -> Noise:
    """Add a reason for doubt to the noise; its interval may then begin at 0."""
    low, high = noise.interval
    interval = (0.0 if from_zero else low, high)
    return replace(noise, interval=interval, doubts=(*noise.doubts, doubt))


def _from_sample(
    volume: Volume, sample: NoiseSample, repeated: bool, check: Callable[[], None]
) -> tuple[Noise, bool]:
    """Return the noise of a sample, and whether some regions contain only noise."""
    fraction = _QUIET_IN_DIFFERENCE if repeated else _QUIET
    found = None
    noisiest = 0.0
    sample, zero, unit = rescaled(sample)
    sample, outliers = without_outliers(sample)
    if sample.levels > 4 or (
        sample.levels == 0 and sample.blocks[0].size >= _MIN_BLOCK_VOXELS
    ):
        block_energies = energies(sample.blocks)
        measured = quiet_curve(block_energies, sample, fraction, check)
        if measured is not None:
            quiet, curve = measured
            # Ignore extreme values: they are few, and some are hot or dead voxels.
            curve = curve.extended(*np.percentile(sample.values, NEARLY_ALL).tolist())
            ratios = 1.0, 1.0
            if len(sample.greys) >= _MIN_TEXTURE_BLOCKS:
                ratios = ratios_of_regions(block_energies, sample, quiet, curve, check)
            found = _QuietCurve(quiet, curve, *ratios)
        low, high = np.percentile(sample.values, PERCENTILES)
        floor = FLOOR * float(high - low)
        is_large = len(sample.greys) >= _MIN_TEXTURE_BLOCKS
        is_silent = (
            found is None or found.is_unknown or found.level(sample.greys) < floor
        )
        if is_large and is_silent and floor > 0 and not repeated:
            noisiest = noisiest_region(block_energies, sample, floor, check)
        del block_energies
    check()
    noise = _noise(volume, sample, found, repeated, unit)
    if not sample.is_mostly_clipped:
        noise = _with_exceptions(volume, sample, outliers, noise, noisiest)
    is_certain = found is None or bool(found.quiet.is_uniform.any())
    if (zero, unit) == (0, 1):
        return noise, is_certain
    return noise.standardised(-zero / unit, 1 / unit), is_certain


@dataclass(frozen=True, eq=False)
class _QuietCurve:
    """Quiet blocks, their variance, and the relative noise levels of other regions.

    `weakest` and `strongest` are ratios of standard deviations in individual regions.
    """

    quiet: QuietBlocks
    curve: NoiseCurve
    weakest: float
    strongest: float

    @property
    def is_unknown(self) -> bool:
        """Whether structure cannot be distinguished from noise."""
        return self.quiet.is_structure

    def level(self, greys: Array) -> float:
        """Return the root-mean-square level at these grey values."""
        known, levels = self.curve.levels()
        return float(np.sqrt(np.mean(np.interp(greys, known, levels) ** 2)))

    @property
    def ratios(self) -> tuple[float, float]:
        """Weakest and strongest ratio; 1 where the difference may be due to chance."""
        weakest, strongest = self.weakest, self.strongest
        return (
            weakest if weakest < 1 / _MIN_PLACE_RATIO else 1.0,
            strongest if strongest > _MIN_PLACE_RATIO else 1.0,
        )


def _noise(
    volume: Volume,
    sample: NoiseSample,
    found: _QuietCurve | None,
    repeated: bool,
    unit: float,
) -> Noise:
    """Describe the noise of the sample; `unit` converts it to that of the scan."""
    if found is None:
        return _unmeasured(volume, sample, repeated, unit)
    names = _axis_names(volume)
    quiet = found.quiet
    greys, levels = found.curve.levels()
    level = measured = found.level(sample.greys)
    half = quiet.half_width
    weakest, strongest = found.ratios
    interval = (
        level * max(0.0, min(1 - half, weakest)),
        level * max(1 + half, strongest),
    )
    if sample.has_clipped:
        interval = (level, _CLIPPED_FACTOR * interval[1])
    if coarse := sample.is_coarse(level):
        interval = (0.0, max(level * (1 + half), sample.step / 2))
    if unknown := sample.is_mostly_clipped:  # any level up to the range is possible
        interval = (0.0, float(np.ptp(sample.values)))
    if structured := quiet.is_structure:
        interval = (0.0, level * (1 + half))
        levels = (0.0,) * len(greys)
    contrast = contrast_of(sample, greys, levels, quiet.spectrum.lags)
    smooth = 0.0
    if not (repeated or unknown):
        lags = quiet.spectrum.lags
        smooth = smooth_noise(sample, level, contrast, structured, lags)
    is_silent = not contrast > 0 or level < FLOOR * contrast
    if structured or unknown or is_silent or smooth > 0:
        interval = (0.0, max(interval[1], _SMOOTH_FACTOR * smooth))
        greys, level, levels = greys[:1], 0.0, (0.0,)
    filtered = level > 0 and not repeated and is_median_filtered(quiet.spectrum)
    interval = (interval[0], interval[1] * (FILTERED_FACTOR if filtered else 1.0))
    upper = smooth / (contrast or 1.0)
    # Rare pores or particles lie outside the percentiles that define the contrast.
    is_strong = level > max(contrast, float(np.ptp(sample.greys))) > 0
    uneven: tuple[str, ...] = ()
    if contrast > 0 and not (coarse or structured or unknown):
        stated = (weakest, strongest) if level > 0 else None
        uneven = position_doubts(measured * strongest / contrast, stated)
    return Noise(
        level=level,
        contrast=contrast,
        greys=greys,
        levels=levels,
        correlation={n: quiet.spectrum.lags["zyx".index(n)] for n in names},
        white=quiet.spectrum.white,
        cutoff=quiet.spectrum.cutoff,
        interval=interval,
        source=_source(repeated),
        notes=(
            *remarks(volume, sample, quiet, upper, structured, coarse, unit),
            *([MEDIAN_FILTERED] if filtered else []),
        ),
        doubts=(
            *doubts(
                sample,
                quiet,
                unit if coarse and not structured else 0.0,
                is_strong,
                not structured,
            ),
            *uneven,
        ),
    )


def _unmeasured(
    volume: Volume, sample: NoiseSample, repeated: bool, unit: float
) -> Noise:
    """Return the upper limit of the noise of a sample without quiet blocks."""
    limit = variation_limit(sample)
    coarse = sample.levels > 0 and limit == sample.step / 2
    return Noise(
        level=0.0,
        contrast=contrast_of(sample, (0.0,), (0.0,), (0.0, 0.0, 0.0)),
        greys=(float(np.median(sample.values)),),
        correlation=dict.fromkeys(_axis_names(volume), 0.0),
        interval=(0.0, limit),
        source=_source(repeated),
        notes=remarks(volume, sample, None, 0.0, False, coarse, unit),
        doubts=doubts(sample, None, unit if coarse else 0.0, False, False),
    )


def _axis_names(volume: Volume) -> str:
    return "zyx" if volume.axes == "ZYX" and volume.shape[0] > 1 else "yx"


def _source(repeated: bool) -> str:
    return "repeat" if repeated else "scan"


def _with_exceptions(
    volume: Volume,
    sample: NoiseSample,
    outliers: Outliers,
    noise: Noise,
    noisiest: float,
) -> Noise:
    """Mark the noise as doubtful if some regions or voxels are noisier than stated.

    `noisiest` is the level of a noisy region in a scan without measurable noise; 0 if
    there is no such region.
    """
    found = list(noise.doubts)
    interval, notes = noise.interval, noise.notes
    if noisiest > 0 and noise.level == 0 and noise.contrast > 0:
        if not any(is_about(sentence, "position") for sentence in found):
            found += position_doubts(noisiest / noise.contrast, None)
        interval = (0.0, max(interval[1], noisiest))
        notes = tuple(one for one in notes if not is_about(one, "no uniform region"))
    if 2 * outliers.end_share > sample.clipped and not sample.has_clipped:
        notes = tuple(one for one in notes if not is_about(one, "clipping"))
        found = [one for one in found if not is_about(one, "clipping")]
    n_slices = volume.shape[0] if volume.ndim == 3 else 1
    noise = replace(noise, notes=notes, interval=interval)
    more, seen = anomaly_remarks(sample, n_slices, outliers, noise)
    return replace(noise, doubts=(*found, *more), notes=(*notes, *seen))
