"""The noise of a scan, measured from the scan alone or from two scans of one object."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.noise import FLOOR, Noise
from napari_geosr.core.steps import ShouldStop, Step, never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise.basis import energies
from napari_geosr.measure.noise.contrast import noise_free_contrast
from napari_geosr.measure.noise.curve import fit_curve
from napari_geosr.measure.noise.quiet import QuietBlocks, find_quiet
from napari_geosr.measure.noise.remarks import doubts, remarks
from napari_geosr.measure.noise.sample import NoiseSample, rescaled, sample_steps

#: Half width of the interval, as a part of the level: at best, and per unit of the
#: doubt about the surest class of grey values.
_BEST, _PER_DOUBT = 0.03, 0.5
#: Deviance from the spectrum of any noise: so much is none in any case, and so much if
#: the surest class of grey values is this uncertain.
_MISFIT, _MISFIT_DIFFERING, _DIFFERING = 0.15, 0.045, 0.3
#: Share of the blocks of a difference of two scans that counts as quiet.
_QUIET_IN_DIFFERENCE = 0.5
#: Quietest share in a scan.
_QUIET = 0.05
#: Quiet blocks that vary by more of the contrast may hold noise as smooth as they are.
_VARIED = 0.025
#: Voxels that a block needs.
_LEAST = 16


def estimate_noise(volume: Volume, *, second: Volume | None = None) -> Noise:
    """Measure the noise of a scan.

    Blocks of a few voxels are read from all over the scan. Their variation is split
    into degrees of polynomials, and the quietest blocks of every grey value are
    described as noise plus smooth structure.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX, in any grey values; numpy, dask or zarr. Only a sample is read.
    second : Volume, optional
        Another scan of the same object with the same voxels and noise of its own.

    Returns
    -------
    Noise
        Level 0 where there is less than 1 % of the contrast; the upper end of its
        interval says what could hide there.

    Raises
    ------
    VolumeError
        If the axes are others, the second scan has another shape, or there are no
        values to measure.

    Notes
    -----
    Choosing quiet blocks by some coefficients and measuring them by others follows
    Ponomarenko et al. (2007) and Colom, Buades and Morel (2014,
    doi:10.1364/JOSAA.31.000863). Structure that is as fine as the noise everywhere,
    and in which no block is flat, counts as noise.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scan = Volume(rng.normal(100.0, 5.0, (12, 48, 48)), "ZYX")
    >>> round(estimate_noise(scan).level)
    5
    """
    return run_to_end(noise_steps(volume, second=second))


def noise_steps(
    volume: Volume,
    *,
    second: Volume | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Noise]:
    """:func:`estimate_noise`, step by step."""
    if second is not None and (
        second.axes != volume.axes or second.shape != volume.shape
    ):
        raise VolumeError(
            f"{second.title} has {second.shape} voxels ({second.axes}) and "
            f"{volume.title} {volume.shape} ({volume.axes}): noise is measured from "
            "two scans with the same voxels. Give two that match."
        )
    sample = yield from sample_steps(volume, second, should_stop)
    if sample is None or should_stop():
        raise Cancelled("Measuring the noise was cancelled.")
    repeated = second is not None
    fraction = _QUIET_IN_DIFFERENCE if repeated else _QUIET
    quiet = None
    sample, unit = rescaled(sample)
    if sample.levels > 4 or (sample.levels == 0 and sample.blocks[0].size >= _LEAST):
        quiet = find_quiet(energies(sample.blocks), sample.greys, fraction=fraction)
    found = _noise(volume, sample, quiet, repeated)
    return found if unit == 1 else found.standardised(0, 1 / unit)


def _is_structure(quiet: QuietBlocks) -> bool:
    """Whether even the quietest blocks vary as structure does, and not as noise."""
    misfit = quiet.spectrum.deviance - 1 / quiet.blocks
    differing = float(quiet.doubts.min()) > _DIFFERING
    return misfit > _MISFIT or (misfit > _MISFIT_DIFFERING and differing)


def _noise(
    volume: Volume, sample: NoiseSample, quiet: QuietBlocks | None, repeated: bool
) -> Noise:
    source = "repeat" if repeated else "scan"
    names = "zyx" if volume.axes == "ZYX" and volume.shape[0] > 1 else "yx"
    if quiet is None:
        contrast = noise_free_contrast(sample, np.zeros_like, (0.0, 0.0, 0.0))
        return Noise(
            level=0.0,
            contrast=contrast,
            greys=(float(np.median(sample.values)),),
            correlation=dict.fromkeys(names, 0.0),
            interval=(0.0, 0.0),
            source=source,
            notes=remarks(volume, sample, None, 0.0, False, False),
        )
    curve = fit_curve(quiet.greys, quiet.variances, quiet.doubts)
    greys, levels = curve.levels()
    level = float(np.sqrt(np.mean(np.interp(sample.greys, greys, levels) ** 2)))
    wide = _BEST + _PER_DOUBT * float(quiet.doubts.min())
    interval = (level * max(0.0, 1 - wide), level * (1 + wide))
    if coarse := sample.is_coarse(level):
        interval = (0.0, max(interval[1], sample.step / 2))
    lags = dict(zip("zyx", quiet.spectrum.lags, strict=True))
    if structured := _is_structure(quiet):
        levels = (0.0,) * len(greys)
    contrast = noise_free_contrast(
        sample,
        lambda places: np.asarray(np.interp(places, greys, levels)),
        quiet.spectrum.lags,
    )
    if structured or not contrast > 0 or level < FLOOR * contrast:
        upper = interval[1]
        if not repeated:
            # Noise as smooth as structure has no fine detail to know it by. It cannot
            # be more than what the quietest blocks vary by.
            spread = float(np.quantile(sample.blocks.std((1, 2, 3)), _QUIET))
            if spread > _VARIED * contrast:
                upper = max(upper, spread)
        interval = (0.0, upper)
        greys, level, levels = greys[:1], 0.0, (0.0,)
    return Noise(
        level=level,
        contrast=contrast,
        greys=greys,
        levels=levels,
        correlation={name: lags[name] for name in names},
        interval=interval,
        source=source,
        notes=remarks(volume, sample, quiet, interval[1], structured, coarse),
        doubts=doubts(sample, quiet, coarse and not structured),
    )
