"""Sentences on what limits an estimate of noise."""

from __future__ import annotations

import numpy as np

from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise.quiet import QuietBlocks
from napari_geosr.measure.noise.sample import NoiseSample

#: Fewer blocks than this give a rough estimate.
_FEW_BLOCKS = 200
#: Noise that is more alike between neighbours than this was smoothed.
_SMOOTHED = 0.72
#: Shares of voxels that are worth a sentence.
_UNKNOWN, _PADDED, _CLIPPED = 1e-3, 0.02, 2e-3
#: Share of clipped voxels from which their noise, which is weaker, matters.
_MUCH_CLIPPED = 0.05


def remarks(
    volume: Volume,
    sample: NoiseSample,
    quiet: QuietBlocks | None,
    upper: float,
    structured: bool,
    coarse: bool,
) -> tuple[str, ...]:
    """What a person should know about the estimate."""
    found = []
    is_constant = sample.levels == 1 or not np.ptp(sample.values) > 0
    if is_constant:
        found.append(
            "All voxels have the same grey value: there is nothing to measure."
        )
    elif 0 < sample.levels <= 4:
        found.append(
            f"There are only {sample.levels} different grey values, as in a segmented "
            "volume: it has no noise that could be measured."
        )
    elif coarse and not structured:
        found.append(
            f"Grey values are rounded to steps of {sample.step:.3g}, which is coarse "
            f"for this noise: it may be anything below {0.5 * sample.step:.2g}."
        )
    if structured:
        found.append(
            "There is no uniform region: even the quietest places vary as structure "
            f"does. The noise is below {upper:.3g}, and how far below is not known."
        )
    if sample.clipped > _CLIPPED and not (is_constant or 0 < sample.levels <= 4):
        found.append(_clipped(sample))
    if sample.unknown > _UNKNOWN:
        found.append(
            f"{sample.unknown:.0%} of the sampled voxels are NaN or infinite and were "
            "excluded."
        )
    if sample.padded > _PADDED:
        found.append(
            f"{sample.padded:.0%} of the sampled blocks are constant, as padding "
            "around a sample is; they were excluded."
        )
    if len(sample.greys) < _FEW_BLOCKS:
        found.append(
            f"Only {len(sample.greys)} small blocks could be used: the estimate is "
            "rough."
        )
    if volume.axes == "YX" or volume.shape[0] == 1:
        found.append(
            "Measured in a single slice: correlation between slices is not known."
        )
    if quiet is not None and not structured:
        names = "zyx"
        smooth = [
            name.upper()
            for name, lag in zip(names, quiet.spectrum.lags, strict=True)
            if lag > _SMOOTHED
        ]
        if smooth:
            found.append(
                f"Along {' and '.join(smooth)} the noise has hardly any fine detail: "
                "the scan was smoothed, enlarged or compressed, and its noise is hard "
                "to tell from texture."
            )
    return tuple(found)


def doubts(
    sample: NoiseSample, quiet: QuietBlocks | None, coarse: bool
) -> tuple[str, ...]:
    """What should be known by whoever sees the level alone."""
    found = []
    if sample.clipped > _MUCH_CLIPPED and quiet is not None:
        found.append(_clipped(sample))
    if coarse:
        found.append("Its noise is lost in the steps between grey values.")
    return tuple(found)


def _clipped(sample: NoiseSample) -> str:
    return (
        f"{sample.clipped:.1%} of the voxels are clipped at an end of the grey scale. "
        "They were excluded from the estimate, and noise elsewhere may be stronger "
        "than measured."
    )
