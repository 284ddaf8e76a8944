"""Checks whether the noise of a scan makes a measurement of porosity unreliable."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.measure.histogram import GreyHistogram
from napari_geosr.measure.noise import noise_steps
from napari_geosr.measure.noise.remarks import UNMEASURED
from napari_geosr.measure.noise.sample import NoiseUnknownError
from napari_geosr.measure.noise.topics import is_about
from napari_geosr.measure.number_text import rough_percent
from napari_geosr.measure.reliability.misclassification import (
    Misclassification,
    misclassification,
    possible_misclassification,
)

#: Minimum fraction of the voxels on one side of the threshold that have the same value,
#: at which this side counts as padding or as free of noise.
_CONSTANT = 0.6
#: Smooth noise is reported in addition to measured noise if the fraction of voxels that
#: it may misclassify is at least this large, and at least `_MIN_POSSIBLE_RATIO` times
#: the fraction expected from measured noise. In real scans without added noise, the
#: fraction is at most 1.2 %.
_MIN_POSSIBLE_SHARE = 0.05
_MIN_POSSIBLE_RATIO = 2.5
#: Number of planes that are examined to tell padding from a phase without noise.
_PLANES = 9
#: Edge length of the squares into which a plane is divided, in pixels.
_SQUARE_EDGE = 8
#: Minimum fraction of constant voxels in a mixed square, which also has other voxels.
_MIN_CONSTANT_SHARE = 0.1
#: Minimum fraction of mixed squares at which the constant values count as a phase of
#: the sample.
_MIN_MIXED_SHARE = 0.5
#: Advice for a scan that is too noisy. A restored scan does not help if its verdict
#: states that its pores cannot be counted.
_ADVICE = (
    "Measure a scan with less noise, or a restored scan, unless its verdict says that "
    "its pores cannot be counted."
)


@dataclass(frozen=True)
class NoiseCheck:
    """The noise of a scan, and the fraction of voxels misclassified because of it.

    Attributes
    ----------
    noise : Noise
    misclassified : Misclassification or None
        Expected misclassification; None if unknown because the noise could not be
        measured, or because one phase has a single grey value, so that the variation
        measured in the other is probably structure.
    possible : Misclassification or None
        The largest misclassification that is compatible with the histogram; given only
        if the noise could not be measured, or if this value is far larger than
        `misclassified`. None if one phase has a single grey value, i.e. no noise.
    """

    noise: Noise
    misclassified: Misclassification | None
    possible: Misclassification | None = None

    def to_json_dict(self) -> AnyDict:
        """Return the results in JSON-serialisable form."""
        wrong, possible = self.misclassified, self.possible
        found: AnyDict = {
            **self.noise.to_json_dict(),
            "misclassified_share": None if wrong is None else wrong.share,
        }
        if possible is not None:
            found["possible_misclassified_share"] = possible.share
        return found


def noise_check_steps(
    volume: Volume,
    histogram: GreyHistogram,
    threshold: float,
    phase: str,
    *,
    warnings: list[str],
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, NoiseCheck | None]:
    """Measure the noise of the scan, and the misclassification at a threshold.

    None is returned if there are too few finite voxels to measure the noise.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX. Only a sample is read.
    histogram : GreyHistogram
        Histogram of the sample.
    threshold : float
    phase : str
        As in `PorosityConfig`.
    warnings : list of str
        Receives the reason if the noise cannot be measured.
    """
    yield StageStarted(message="Measuring the noise")
    try:
        with StepIterator(noise_steps(volume, should_stop=should_stop)) as iterator:
            for _ in iterator:
                yield Step()  # these blocks do not count towards the progress
    except NoiseUnknownError as error:
        warnings.append(str(error))
        yield WarningIssued(message=str(error))
        return None
    noise = iterator.result
    possible: Misclassification | None
    possible = possible_misclassification(histogram, threshold, phase)
    if possible.constant >= _CONSTANT:
        possible = None
    if not noise.is_measured:
        return NoiseCheck(noise, None, possible)
    wrong: Misclassification | None
    wrong = misclassification(histogram, threshold, noise, phase)
    if possible is not None and possible.share < max(
        _MIN_POSSIBLE_SHARE, _MIN_POSSIBLE_RATIO * wrong.share
    ):
        possible = None
    if wrong.constant >= _CONSTANT and _is_phase(volume.data, wrong.ends):
        wrong = None
    return NoiseCheck(noise, wrong, possible)


def _is_phase(data: ArrayLike, ends: tuple[float, float]) -> bool:
    """Whether voxels beyond `ends` lie within the sample rather than around it."""
    planes = [data]
    if data.ndim == 3:
        chosen = np.linspace(0, data.shape[0] - 1, min(data.shape[0], _PLANES))
        planes = [data[int(z)] for z in chosen.round()]
    mixed = squares = 0
    for plane in planes:
        height, width = (n // _SQUARE_EDGE * _SQUARE_EDGE for n in plane.shape)
        values = np.asarray(plane)[:height, :width]
        outside = (values < ends[0]) | (values > ends[1])
        parts = outside.reshape(
            height // _SQUARE_EDGE, _SQUARE_EDGE, width // _SQUARE_EDGE, _SQUARE_EDGE
        )
        share = parts.mean(axis=(1, 3))
        squares += int((share < 1).sum())
        mixed += int(((share < 1) & (share >= _MIN_CONSTANT_SHARE)).sum())
    return mixed >= _MIN_MIXED_SHARE * max(1, squares)


def noise_remarks(
    check: NoiseCheck | None, porosity: float, name: str
) -> Iterator[str]:
    """Yield remarks if noise makes, or may make, the results unreliable.

    Parameters
    ----------
    porosity : float
        The measured porosity, 0 … 1.
    """
    if check is None:
        return
    wrong, possible = check.misclassified, check.possible
    if wrong is not None and (what := _unreliable(wrong, porosity)):
        doubts = [one for one in check.noise.doubts if is_about(one, "fine structure")]
        yield " ".join(
            (
                f"About {rough_percent(wrong.share)} of the voxels of {name!r} are "
                "expected to be on the wrong side of the threshold because of noise "
                f"({rough_percent(check.noise.relative)} of the contrast): {what} are "
                "unreliable.",
                *(doubts or [_ADVICE]),
            )
        )
    if check.noise.is_measured and possible is not None:
        yield (
            f"The grey values of {name!r} are compatible with more noise than was "
            "measured: smooth noise cannot be distinguished from structure, and may "
            f"put up to {rough_percent(possible.share)} of the voxels on the wrong "
            f"side of the threshold. If so, {_unreliable(possible, porosity)} are "
            "unreliable. Inspect the segmentation."
        )
    elif possible is not None and (what := _unreliable(possible, porosity)):
        reasons = (one for one in check.noise.notes if is_about(one, *UNMEASURED))
        yield " ".join(
            (
                f"The noise of {name!r} could not be measured.",
                *reasons,
                "The grey values are compatible with noise that puts "
                f"{rough_percent(possible.share)} of the voxels on the wrong side of "
                f"the threshold: {what} may be unreliable. Inspect the segmentation.",
            )
        )


def _unreliable(wrong: Misclassification, porosity: float) -> str:
    """Return the results that these misclassified voxels make unreliable, if any."""
    if wrong.makes_porosity_unreliable(porosity):
        return "porosity and pore counts"
    return "pore counts and sizes" if wrong.makes_counts_unreliable else ""
