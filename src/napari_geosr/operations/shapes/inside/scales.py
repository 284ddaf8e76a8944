"""Choose the mean and standard deviation by which the grey values are standardised.

If the mean and standard deviation of the training scan are used, the labels depend on
the mask only near its border.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import NoteIssued, ShouldStop, Step, WarningIssued
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.learning.shapes.scan_values import (
    ScanGreyValues,
    scan_values_steps,
)

if TYPE_CHECKING:
    from napari_geosr.models.card import LabelledGreyValues, ModelCard
    from napari_geosr.operations.shapes.config import GreyScale

#: Mean difference between the percentiles of a scan and those of a training scan, in
#: standard deviations of the labelled voxels, up to which their grey values count as
#: the same. Two halves of one scan of cement differ by 0.14; an amplification of the
#: grey values by 5 % changes them by 0.44.
_SAME = 0.25
#: Mean difference between the percentiles of two scans, each standardised, up to which
#: their grey values count as distributed in the same way: the scans then differ only in
#: their units. Two halves of a scan of cement differ by 0.05, those of a scan of bone
#: by 0.09 to 0.26, and cement and bone by 0.86.
_ALIKE = 0.2
#: Difference between the mean of the mask and that expected from the training scan, in
#: standard deviations, above which there is a warning.
_MAX_SHIFT = 0.25
#: Maximum ratio of the standard deviations, in either direction, without a warning.
_MAX_RATIO = 1.25
#: Standard deviation, relative to the mean, up to which grey values count as equal.
_MIN_VARIATION = 1e-9


@dataclass(frozen=True)
class AppliedScale:
    """Mean and standard deviation by which grey values were standardised.

    Attributes
    ----------
    origin : str
        ``"model"``, ``"scan"`` or ``"mask"``; see `SegmentInsideConfig`.
    mean, sd : float
    """

    origin: str
    mean: float
    sd: float

    @property
    def in_words(self) -> str:
        """The scale, for users."""
        where = {
            "model": "of the training scan",
            "scan": "of the training scan, converted to this scan",
            "mask": "of these voxels",
        }[self.origin]
        return f"mean {self.mean:.4g}, standard deviation {self.sd:.4g} ({where})"

    def to_dict(self) -> AnyDict:
        """Return all values by name, for JSON and for the record."""
        return {"from": self.origin, "mean": self.mean, "sd": self.sd}


def applied_scale_steps(
    volume: Volume,
    own: tuple[float, float],
    card: ModelCard,
    choice: GreyScale,
    should_stop: ShouldStop,
) -> Generator[Step, None, AppliedScale]:
    """Choose the grey scale of a segmentation, and warn if labels depend on the mask.

    Parameters
    ----------
    volume : Volume
        Grey values (Z, Y, X).
    own : (float, float)
        Mean and standard deviation of the grey values inside the mask.
    card : ModelCard
    choice : {"auto", "model", "scan", "mask"}
        See `SegmentInsideConfig`; the model has what it needs (`check_grey_scale`).
    should_stop : callable

    Raises
    ------
    VolumeError
        If the grey values to standardise are all equal.
    """
    of_mask = AppliedScale("mask", *own)
    trained = card.training.grey_values
    if not trained:
        if choice == "auto":
            yield WarningIssued(message=_unknown(card))
        _check_contrast(volume, of_mask)
        return of_mask
    scan = yield from scan_values_steps(volume, should_stop)
    if scan is None:
        if choice in ("model", "scan"):
            raise VolumeError(
                f"{volume.title} has the same grey value everywhere, so it cannot be "
                "compared with the training scans of the model."
            )
        _check_contrast(volume, of_mask)
        return of_mask
    nearest = min(trained, key=lambda known: _distance(scan, known))
    distance = _distance(scan, nearest)
    if choice == "model" or (choice == "auto" and distance <= _SAME):
        if distance > _SAME:
            yield WarningIssued(message=_unlike(volume, scan, nearest, card))
        return AppliedScale("model", nearest.mean, nearest.sd)
    alike = min(trained, key=lambda known: _standardised_distance(scan, known))
    converted = AppliedScale("scan", *_converted(scan, alike))
    if choice == "scan":
        return converted
    if choice == "auto" and _standardised_distance(scan, alike) <= _ALIKE:
        yield NoteIssued(message=_other_units(volume, card))
        return converted
    _check_contrast(volume, of_mask)
    if message := _dependence(of_mask, converted):
        yield WarningIssued(message=message)
    elif choice == "auto":
        yield WarningIssued(message=_fallback(volume, card, of_mask, converted))
    return of_mask


def _distance(scan: ScanGreyValues, known: LabelledGreyValues) -> float:
    """Return the mean difference between percentiles, in standard deviations."""
    difference = np.subtract(scan.quantiles, known.scan_quantiles)
    return float(np.abs(difference).mean() / known.sd)


def _standardised_distance(scan: ScanGreyValues, known: LabelledGreyValues) -> float:
    """Return the mean difference between percentiles of standardised scans."""
    one = (np.array(scan.quantiles) - scan.mean) / scan.sd
    other = (np.array(known.scan_quantiles) - known.scan_mean) / known.scan_sd
    return float(np.abs(one - other).mean())


def _converted(scan: ScanGreyValues, known: LabelledGreyValues) -> tuple[float, float]:
    """Convert the scale of a training scan to a scan in other units."""
    ratio = scan.sd / known.scan_sd
    return scan.mean + ratio * (known.mean - known.scan_mean), ratio * known.sd


def _dependence(own: AppliedScale, expected: AppliedScale) -> str:
    """Return a warning if the mask has other grey values than the training labels."""
    mean, sd = expected.mean, expected.sd
    shift, ratio = (own.mean - mean) / sd, own.sd / sd
    if abs(shift) <= _MAX_SHIFT and 1 / _MAX_RATIO <= ratio <= _MAX_RATIO:
        return ""
    return (
        "Grey values are standardised over the segmented voxels, which have other "
        "grey values than the labelled voxels that the model was trained with: mean "
        f"{own.mean:.4g} (expected: {mean:.4g}), standard deviation {own.sd:.4g} "
        f"(expected: {sd:.4g}). The same voxels can get other labels with another mask "
        "or threshold, such as a smaller region. To avoid this, choose the grey scale "
        "model (--grey-scale) or, for a scan in other units, scan."
    )


def _unknown(card: ModelCard) -> str:
    return (
        f"The model {card.name} does not store the grey values of its training scans, "
        "so grey values are standardised over the segmented voxels: the same voxels "
        "can get other labels with another mask or threshold, such as a smaller "
        "region. To avoid this, train the model again."
    )


def _other_units(volume: Volume, card: ModelCard) -> str:
    return (
        f"The grey values of {volume.title} seem to be those of the scans that "
        f"{card.name} was trained on, in other units: they are converted. If the "
        "specimens differ, choose another grey scale (--grey-scale)."
    )


def _fallback(
    volume: Volume, card: ModelCard, own: AppliedScale, expected: AppliedScale
) -> str:
    return (
        f"The grey values of {volume.title} differ from those of the scans that "
        f"{card.name} was trained on, so they are standardised over the segmented "
        f"voxels (mean {own.mean:.4g}, expected: {expected.mean:.4g}; standard "
        f"deviation {own.sd:.4g}, expected: {expected.sd:.4g}). The labels may be "
        "wrong, and another mask or threshold can change them. If the scan differs "
        "only in its units, choose the grey scale scan (--grey-scale); if its grey "
        "values mean the same as in training, choose model."
    )


def _unlike(
    volume: Volume,
    scan: ScanGreyValues,
    known: LabelledGreyValues,
    card: ModelCard,
) -> str:
    return (
        f"The grey values of {volume.title} (mean {scan.mean:.4g}, standard deviation "
        f"{scan.sd:.4g}) differ from those of the scans that {card.name} was trained "
        f"on ({known.scan_mean:.4g}, {known.scan_sd:.4g}), so the labels may be wrong. "
        "If the units differ, choose the grey scale scan (--grey-scale)."
    )


def _check_contrast(volume: Volume, scale: AppliedScale) -> None:
    """Raise `VolumeError` if all grey values inside the mask are equal."""
    if scale.sd <= _MIN_VARIATION * max(abs(scale.mean), 1e-2):
        raise VolumeError(
            f"{volume.title} has the same grey value ({scale.mean:.6g}) at all voxels "
            "of the mask, so nothing can be distinguished there. Check the scan and "
            "its mask."
        )
