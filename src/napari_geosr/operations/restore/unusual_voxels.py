"""Warns about missing, infinite, hot or extreme voxels before a restoration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.measure.number_text import number_text, percent_text

if TYPE_CHECKING:
    from napari_geosr.inference.intensity import IntensityStatistics

#: A warning is given if the smallest difference that a result can represent exceeds
#: this value, in standard deviations of the input.
_COARSE = 0.02


def refuse_nonfinite(
    volume: Volume, statistics: IntensityStatistics, policy: str
) -> None:
    """Raise `VolumeError` for NaN or infinite voxels if `policy` is ``"refuse"``."""
    if policy == "refuse":
        raise VolumeError(
            f"{volume.title} has {_count_nonfinite(statistics)}, and 'NaN and Inf' is "
            "set to refuse such volumes. Choose mean or zero, or repair the volume."
        )


def _count_nonfinite(statistics: IntensityStatistics) -> str:
    text = f"{statistics.n_nan} NaN and {statistics.n_inf} infinite voxels"
    if statistics.sampled:
        text = f"at least {text} (not every plane was examined)"
    return text


def doubts(
    volume: Volume,
    statistics: IntensityStatistics,
    *,
    nonfinite: str,
    labels: bool,
) -> Iterator[str]:
    """Yield sentences on how a run will treat unusual voxels.

    Parameters
    ----------
    volume : Volume
    statistics : IntensityStatistics
        Statistics of that volume.
    nonfinite : {"mean", "zero"}
        Replacement for NaN and infinity in the model's input.
    labels : bool
        Whether the result holds labels.
    """
    title = volume.title
    if statistics.n_nan or statistics.n_inf:
        seen = "zero"
        if nonfinite == "mean":
            seen = "the mean of the other voxels"
        kept = "get labels like all other voxels" if labels else "stay NaN"
        yield (
            f"{title} has {_count_nonfinite(statistics)}. They {kept} in the result; "
            f"the model receives {seen} in their place."
        )
    yield from _hot_voxels(statistics, title, labels=labels)
    yield from _far_voxels(statistics, title)
    largest = np.float32(max(abs(statistics.minimum), abs(statistics.maximum)))
    step = float(np.spacing(largest))
    if step > _COARSE * statistics.std and not labels:
        yield (
            f"The grey values of {title} are large compared with their standard "
            f"deviation: {step:g} is the smallest difference that a float32 result "
            f"can represent near {float(largest):g}, and the standard deviation is "
            f"{statistics.std:g}. Subtract a constant from the voxels first."
        )


def _far_voxels(statistics: IntensityStatistics, title: str) -> Iterator[str]:
    """Warn if extreme voxels leave hardly any contrast between the other voxels."""
    far = statistics.far
    if far is not None:
        low, high = (number_text(value) for value in far.usual)
        share = percent_text(far.share) if far.share else "A few"
        yield (
            f"{share} of the voxels of {title} have extreme grey values; all others "
            f"range from {low} to {high}. After scaling for the model, the others have "
            "hardly any contrast, so the restoration is unreliable. If the extreme "
            "values mark missing voxels, replace them with NaN first."
        )


def _hot_voxels(
    statistics: IntensityStatistics, title: str, *, labels: bool
) -> Iterator[str]:
    """Yield a sentence on the number and treatment of hot or dead voxels."""
    if statistics.crowd_share:
        yield (
            f"About {percent_text(statistics.crowd_share)} of the voxels of {title} "
            "look like hot or dead voxels: isolated, with grey values far from all the "
            "others. Such voxels are replaced only if they make up at most 0.1 % of "
            "the volume, so here the model receives them and the restoration is "
            "unreliable. First replace them, and only them, with the median of their "
            "neighbours: a median filter over the whole scan would blur its noise, "
            "which could then no longer be measured. Alternatively, remove them during "
            "the reconstruction (--zingers)."
        )
    if statistics.hot is None or not statistics.hot.n:
        return
    n, several = statistics.hot.n, statistics.hot.n > 1
    bound = "At least " if statistics.sampled else ""
    low, high = (number_text(value) for value in statistics.hot.usual)
    their, them = ("their", "them") if several else ("its", "it")
    result = (
        f"{'they keep' if several else 'it keeps'} {their} grey value in the result"
    )
    if labels:
        result = "they get labels" if several else "it gets a label"
        result += " like all other voxels"
    yield (
        f"{bound}{n} voxel{'s' if several else ''} of {title} "
        f"{'have grey values' if several else 'has a grey value'} far from all the "
        f"others (nearly all of which range from {low} to {high}) and unlike {their} "
        "neighbours: "
        f"{'hot or dead voxels' if several else 'a hot or dead voxel'}. The model "
        f"receives the median of the voxels around {them} instead, and {result}."
    )
