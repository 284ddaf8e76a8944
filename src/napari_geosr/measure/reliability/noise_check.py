"""How many voxels of a scan its noise misclassifies: measured as part of a porosity."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    never_stop,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.measure.histogram import GreyHistogram
from napari_geosr.measure.noise import noise_steps
from napari_geosr.measure.reliability.misclassification import (
    Misclassification,
    misclassification,
)

#: Part of a side of the threshold that is constant: it is padding or has no noise.
_CONSTANT = 0.6
#: Planes and squares of pixels in which padding is told from a phase without noise.
_PLANES, _EDGE = 9, 8
#: A square holds a value if this part of it does; part of the squares of a phase.
_HOLDS, _MIXED = 0.1, 0.5


@dataclass(frozen=True)
class NoiseCheck:
    """The noise of a scan, and the voxels it is expected to misclassify.

    Attributes
    ----------
    noise : Noise
    misclassified : Misclassification or None
        None where it is not known: a phase has one grey value, so that what was
        measured in the others is rather their structure.
    """

    noise: Noise
    misclassified: Misclassification | None

    def to_json_dict(self) -> AnyDict:
        """For reports."""
        found = self.misclassified
        return {
            **self.noise.to_json_dict(),
            "misclassified_share": None if found is None else found.share,
        }


def noise_check_steps(
    volume: Volume,
    histogram: GreyHistogram,
    threshold: float,
    phase: str,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, NoiseCheck | None]:
    """Measure the noise of a sample of the scan, and what it does at a threshold.

    None is returned where the noise cannot be measured (hardly any finite voxels).

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX. Only a sample is read.
    histogram : GreyHistogram
        Of the voxels whose porosity is measured.
    threshold : float
    phase : str
        As in `PorosityConfig`.
    """
    yield StageStarted(message="Measuring the noise")
    try:
        with StepIterator(noise_steps(volume, should_stop=should_stop)) as iterator:
            for _ in iterator:
                yield Step()  # its blocks are not those of the measurement
    except VolumeError:
        return None
    noise = iterator.result
    found: Misclassification | None
    found = misclassification(histogram, threshold, noise, phase)
    if found.constant >= _CONSTANT and _is_phase(volume.data, found.ends):
        found = None
    return NoiseCheck(noise, found)


def _is_phase(data: ArrayLike, ends: tuple[float, float]) -> bool:
    """Whether voxels beyond `ends` are all over the sample, not around it."""
    planes = [data]
    if data.ndim == 3:
        chosen = np.linspace(0, data.shape[0] - 1, min(data.shape[0], _PLANES))
        planes = [data[int(z)] for z in chosen.round()]
    mixed = squares = 0
    for plane in planes:
        height, width = (n // _EDGE * _EDGE for n in plane.shape)
        values = np.asarray(plane)[:height, :width]
        outside = (values < ends[0]) | (values > ends[1])
        parts = outside.reshape(height // _EDGE, _EDGE, width // _EDGE, _EDGE)
        share = parts.mean(axis=(1, 3))
        squares += int((share < 1).sum())
        mixed += int(((share < 1) & (share >= _HOLDS)).sum())
    return mixed >= _MIXED * max(1, squares)


def noise_remarks(
    check: NoiseCheck | None, porosity: float, name: str
) -> Iterator[str]:
    """One sentence if noise makes the figures unreliable.

    Parameters
    ----------
    porosity : float
        As measured, 0 … 1.
    """
    found = None if check is None else check.misclassified
    if check is None or found is None:
        return
    if found.spoils_porosity(porosity):
        what = "porosity and pore counts"
    elif found.spoils_counts:
        what = "pore counts and sizes"
    else:
        return
    yield (
        f"About {_percent(found.share)} of the voxels of {name!r} are "
        "expected to be on the wrong side of the threshold because of noise "
        f"({_percent(check.noise.relative)} of the contrast): {what} are unreliable. "
        "Restore the scan first."
    )


def _percent(share: float) -> str:
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.5 else f"{value:.1g} %"
