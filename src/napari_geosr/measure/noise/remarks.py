"""Sentences about a measurement of noise, for the user."""

from __future__ import annotations

import numpy as np

from napari_geosr.core.noise import FLOOR, Noise
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise.quiet import QuietBlocks
from napari_geosr.measure.noise.sample import NoiseSample
from napari_geosr.measure.noise.spectrum import Spectrum
from napari_geosr.measure.noise.topics import Remark, Topic, is_about
from napari_geosr.measure.noise.undetected import SMOOTHED
from napari_geosr.measure.number_text import rough_percent

#: Number of blocks below which the estimate is called rough.
_MIN_BLOCKS = 200
#: Fraction of unknown voxels above which a remark is made.
_MAX_UNKNOWN_SHARE = 1e-3
#: Fraction of padded voxels above which a remark is made.
_MAX_PADDED_SHARE = 0.02
#: Fraction of clipped voxels above which a remark is made.
_MAX_CLIPPED_SHARE = 2e-3
#: Fraction of clipped voxels above which the reduction of noise by clipping matters.
_MUCH_CLIPPED = 0.05
#: Message if averaging neighbouring voxels hardly reduces the supposed noise.
NOT_AVERAGED = Remark(
    "What was measured as noise may be fine structure: it decreases less than noise "
    "does when neighbouring voxels are averaged. The true noise level may be much "
    "lower.",
    "fine structure",
)
#: Message if there are too few blocks to recognise fine texture.
TOO_SMALL = Remark(
    "What was measured as noise may be fine structure: the scan is too small to tell. "
    "The true noise level may be much lower.",
    "fine structure",
)
#: Message about noise with a spectrum like that of a median-filtered scan.
MEDIAN_FILTERED = Remark(
    "The noise is only partly blurred, as in a scan to which a median filter was "
    "applied. If the scan was filtered in this way, the noise may be up to twice as "
    "strong as measured.",
    "median filter",
)
#: Minimum correlation of adjacent voxels in the noise of a filtered scan; it is 0.37 to
#: 0.55 after a median filter over 3 × 3 (× 3) voxels.
_FILTERED_LAG = 0.35
#: Range of the white fraction of such noise; it is 0.04 to 0.15 after a median filter,
#: and 0 after a Gaussian filter or if the detector blurs the image.
_FILTERED_WHITE = (0.04, 0.2)
#: Factor by which the noise of a median-filtered scan may be stronger than measured.
FILTERED_FACTOR = 2.0
#: Topics of remarks that explain why noise could not be measured.
UNMEASURED: tuple[Topic, ...] = ("no uniform region", "smooth variation")


def remarks(
    volume: Volume,
    sample: NoiseSample,
    quiet: QuietBlocks | None,
    upper: float,
    structured: bool,
    coarse: bool,
    unit: float = 1.0,
) -> tuple[str, ...]:
    """Return notes for the user about the estimate.

    Parameters
    ----------
    volume : Volume
    sample : NoiseSample
    quiet : QuietBlocks or None
        The most uniform blocks; None if there are none.
    upper : float
        Variation of the most uniform regions that may be noise, as a fraction of the
        contrast; 0 if the noise was measured.
    structured : bool
        Whether even the quietest blocks contain structure.
    coarse : bool
        Whether grey values are rounded to steps as large as the noise.
    unit : float
        Grey values of the scan per grey value of the sample.
    """
    found = []
    is_constant = sample.levels == 1 or not np.ptp(sample.values) > 0
    if is_constant:
        found.append(
            "All voxels have the same grey value: there is nothing to measure."
        )
    elif 0 < sample.levels <= 4:
        found.append(
            f"There are only {sample.levels} different grey values, as in a segmented "
            "volume, in which noise would not be visible."
        )
    elif coarse and not structured:
        found.append(_coarse(unit * sample.step))
    if structured and upper > 0:
        found.append(
            Remark(
                "No region is uniform: even the most uniform ones contain structure, "
                "from which noise cannot be distinguished.",
                "no uniform region",
            )
        )
    elif upper > 0:
        found.append(
            Remark(
                "Even the most uniform regions vary by "
                f"{rough_percent(upper)} of the contrast, without fine detail: this is "
                "either structure or smooth noise, as in a filtered or enlarged scan.",
                "smooth variation",
            )
        )
    if sample.clipped > _MAX_CLIPPED_SHARE:
        if quiet is not None:
            found.append(_clipped(sample))
        elif sample.has_clipped and not (is_constant or 0 < sample.levels <= 4):
            found.append(_hidden(sample))
    if sample.extreme > 0:
        found.append(
            f"{rough_percent(sample.extreme)} of the sampled voxels have values far "
            "outside the range of all others and were excluded."
        )
    if sample.unknown > _MAX_UNKNOWN_SHARE:
        found.append(
            f"{100 * sample.unknown:.0f} % of the sampled voxels are NaN or infinite "
            "and were excluded."
        )
    if sample.padded > _MAX_PADDED_SHARE:
        found.append(
            f"{100 * sample.padded:.0f} % of the sampled blocks are constant, as "
            "padding around a sample is; they were excluded."
        )
    if len(sample.greys) < _MIN_BLOCKS and not is_constant:
        count = len(sample.greys)
        blocks = "one small block" if count == 1 else f"{count} small blocks"
        effect = "the estimate is rough" if quiet is not None else "too few to measure"
        found.append(f"Only {blocks} could be used: {effect}.")
    if quiet is None:  # there is no estimate to comment on
        return tuple(found)
    if volume.axes == "YX" or volume.shape[0] == 1:
        found.append(
            "The noise was measured in a single slice, so its correlation between "
            "slices is unknown."
        )
    return tuple(found)


def is_median_filtered(spectrum: Spectrum) -> bool:
    """Whether the noise may come from a scan to which a median filter was applied.

    Such a filter preserves edges in the noise, so the spectrum is not that of blurred
    noise.
    """
    low, high = _FILTERED_WHITE
    return (
        spectrum.cutoff is None
        and max(spectrum.lags) >= _FILTERED_LAG
        and low <= spectrum.white <= high
    )


def limit_text(noise: Noise) -> str:
    """Return the upper limit of noise too weak to be measured, or an empty string.

    Examples
    --------
    >>> limit_text(Noise(level=0.0, contrast=100.0, interval=(0.0, 0.8)))
    'below 1 % of the contrast'
    >>> limit_text(Noise(level=0.0, contrast=100.0, interval=(0.0, 30.0)))
    ''
    """
    in_parts = any(is_about(doubt, "position") for doubt in noise.doubts)
    is_limited = in_parts and not any(is_about(n, *UNMEASURED) for n in noise.notes)
    if noise.is_measured or is_limited:
        return f"below {rough_percent(noise.bound)} of the contrast"
    return ""


def doubts(
    sample: NoiseSample,
    quiet: QuietBlocks | None,
    coarse_unit: float,
    strong: bool,
    is_measured: bool,
) -> tuple[str, ...]:
    """Return notes that matter even if only the noise level is shown.

    Parameters
    ----------
    sample, quiet
        As in `remarks`.
    coarse_unit : float
        Grey values of the scan per grey value of the sample, if they are rounded to
        steps as large as the noise; otherwise 0.
    strong : bool
        Whether the noise exceeds the contrast.
    is_measured : bool
        Whether the noise could be distinguished from structure.
    """
    is_clipped = sample.clipped > _MUCH_CLIPPED and quiet is not None
    found = [_clipped(sample)] if is_clipped else []
    if coarse_unit > 0:
        found.append(_coarse(coarse_unit * sample.step))
    if strong:
        found.append(
            "The noise is stronger than the contrast of the scan: most of its "
            "structure cannot be recovered."
        )
    if quiet is not None and is_measured:
        names = "zyx"
        smooth = [
            name.upper()
            for name, lag in zip(names, quiet.spectrum.lags, strict=True)
            if lag > SMOOTHED
        ]
        if smooth:
            axes = " and ".join(filter(None, (", ".join(smooth[:-1]), smooth[-1])))
            found.append(
                f"Along {axes} the noise has hardly any fine detail: "
                "the scan was smoothed, enlarged or compressed, and its noise is hard "
                "to distinguish from texture."
            )
    return tuple(found)


def position_doubts(
    strongest: float, stated: tuple[float, float] | None
) -> tuple[str, ...]:
    """Return sentences about noise that is not equally strong everywhere.

    Parameters
    ----------
    strongest : float
        Noise of the noisiest region, as a fraction of the contrast.
    stated : (float, float) or None
        Noise of the least noisy and of the noisiest region as multiples of the stated
        level; 1 if they do not differ. None if no level is stated.
    """
    if stated is None:
        if strongest < FLOOR:
            return ()
        return (
            Remark(
                "The noise depends on the position: it is too weak to be measured in "
                f"some regions, and about {rough_percent(strongest)} of the contrast "
                "in others.",
                "position",
            ),
        )
    low, high = stated
    parts = []
    if high > 1:
        parts.append(
            f"in some regions it is {high:.1f} times as strong as stated, so that some "
            "of it remains there"
        )
    if low < 1:
        parts.append(
            f"in some regions it is only {low:.1f} times as strong as stated, so that "
            "structure may be removed there"
        )
    if not parts:
        return ()
    text = f"The noise depends on the position: {'; '.join(parts)}."
    return (Remark(text, "position"),)


def _coarse(step: float) -> str:
    return Remark(
        f"Grey values are rounded to steps of {step:.3g}, which are too coarse for "
        f"this noise: its level may be anything below {0.5 * step:.2g}.",
        "rounding",
    )


def _hidden(sample: NoiseSample) -> str:
    """Describe voxels at the ends of the grey scale if nothing else varies.

    They may be clipped, or uniform materials of a volume without noise.
    """
    return Remark(
        f"{100 * sample.clipped:.1f} % of the voxels have the lowest or the highest "
        "grey value. If the scan is clipped (saturated) there, its noise is hidden and "
        "may be stronger.",
        "clipping",
    )


def _clipped(sample: NoiseSample) -> str:
    if sample.is_mostly_clipped:
        effect = "They are everywhere, so the noise cannot be measured."
    elif sample.has_clipped:
        effect = (
            "They are everywhere, so they could not be excluded: the noise is higher "
            "than measured, perhaps up to twice as high."
        )
    else:
        effect = (
            "They were excluded from the estimate; the noise elsewhere may be higher "
            "than measured."
        )
    return Remark(
        f"{100 * sample.clipped:.1f} % of the voxels are clipped at an end of the grey "
        f"scale. {effect}",
        "clipping",
    )
