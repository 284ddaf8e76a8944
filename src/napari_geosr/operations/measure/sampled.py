"""Porosity of each random sample of a restoration, at the threshold of a report."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.volume import Volume
from napari_geosr.measure.interval import PorosityInterval, sample_quantiles
from napari_geosr.measure.number_text import percent_range_text
from napari_geosr.operations.measure.deviation import is_deviation, uncertainty_record

if TYPE_CHECKING:
    from napari_geosr.core.types import AnyMapping
    from napari_geosr.measure.reports.report import PorosityReport

#: Maximum difference in porosity between two recorded levels between which the porosity
#: of a sample is interpolated.
_MAX_STEP = 0.05


@dataclass(frozen=True)
class SampledPorosity:
    """Porosities of the samples that agree with a scan.

    Attributes
    ----------
    porosities : tuple of float
        Porosity of the whole volume in each sample.
    mean_image : float or None
        Porosity of the mean of the samples; None if it was measured in a part of the
        volume only, so that it cannot be compared with the samples.
    is_calibrated : bool
        Whether the standard deviations of the samples are calibrated.
    interval : PorosityInterval or None
        Calibrated interval of the porosity, if it was measured.
    """

    porosities: tuple[float, ...]
    mean_image: float | None = None
    is_calibrated: bool = False
    interval: PorosityInterval | None = None

    @property
    def caption(self) -> str:
        """State what the range of the porosities is, and what it is not."""
        spread = f"Spread of {len(self.porosities)} samples"
        if self.mean_image is None:
            spread += " in the whole volume"
        if self.interval is not None and self.interval.porosity is not None:
            nominal = 100 * (self.interval.nominal or 0)
            ends = percent_range_text(self.interval.porosity)
            return f"{spread}. Calibrated {nominal:g} % interval: {ends}."
        if self.is_calibrated:
            return (
                f"{spread}. For the calibrated interval, choose the layer of standard "
                "deviations."
            )
        return f"{spread}, not a calibrated interval."


def with_sample_interval(volume: Volume, report: PorosityReport) -> PorosityReport:
    """Add the calibrated interval of the samples' porosities to a report, if known.

    The report is returned unchanged if it has an interval from standard deviations,
    describes a part of the volume, or has another threshold than that of the
    calibration, which is Otsu's threshold of the mean.

    Parameters
    ----------
    volume : Volume
        The measured volume.
    report : PorosityReport
        Result for this volume.
    """
    found = sampled_porosities(volume, report)
    if report.interval is not None or found is None:
        return report
    record = volume.provenance[-1]["porosity_samples"]
    is_whole = record.get("shape") == list(report.shape)
    is_whole &= report.sample_voxels == math.prod(report.shape)
    if not (is_whole and _is_own_threshold(record, volume, report)):
        return report
    known = uncertainty_record(volume.provenance).get("calibration") or {}
    shift, nominal = known.get("quantile_shift"), known.get("nominal")
    if shift is None or nominal is None:
        return report
    ends = sample_quantiles(found.porosities, nominal, shift)
    spread = float(np.std(found.porosities, ddof=1))
    figures = {
        "porosity_interval": list(ends),
        "porosity_interval_nominal": nominal,
        "porosity_spread": spread,
    }
    return replace(
        report,
        interval=PorosityInterval(spread, ends, None, None, nominal),
        figures={**report.figures, **figures},
    )


def sampled_porosities(
    volume: Volume, report: PorosityReport
) -> SampledPorosity | None:
    """Return the porosity of each sample of which a measured volume is the mean.

    Parameters
    ----------
    volume : Volume
        The measured volume. Its voxels are not used.
    report : PorosityReport
        Result for this volume.

    Returns
    -------
    SampledPorosity or None
        None if the volume is not the mean of samples, or the threshold depends on the
        neighbourhood of a voxel: the record contains only the fraction of voxels below
        a number of grey values.
    """
    history = volume.provenance
    if not history or volume.holds_labels or report.neighbourhood:
        return None
    # Any later operation changes the grey values.
    found = history[-1].get("porosity_samples") or {}
    if not found.get("below_level") or is_deviation(history):
        return None
    shares = _shares(found, volume, report)
    if shares is None:
        return None
    if report.phase == "bright":
        shares = [1 - share for share in shares]
    measured = report.sample_voxels + report.nonfinite_voxels
    is_whole = measured == math.prod(report.shape)
    is_calibrated = bool(uncertainty_record(history).get("calibration"))
    interval = report.interval
    if not is_calibrated or interval is None or interval.nominal is None:
        interval = None
    return SampledPorosity(
        tuple(shares), report.porosity if is_whole else None, is_calibrated, interval
    )


def _shares(
    record: AnyMapping, volume: Volume, report: PorosityReport
) -> list[float] | None:
    """Return the fraction of dark voxels of each sample; None if it is not known."""
    if _is_own_threshold(record, volume, report) and record.get("porosity"):
        return list(record["porosity"])
    # Rounded grey values are below an integer threshold if they were at most half a
    # step above it.
    is_rounded = volume.dtype.kind in "iu"
    at = math.floor(report.threshold) + 0.5 if is_rounded else report.threshold
    levels, below = np.asarray(record["levels"]), np.asarray(record["below_level"])
    next_level = int(np.clip(np.searchsorted(levels, at), 1, len(levels) - 1))
    steps = below[:, next_level] - below[:, next_level - 1]
    if steps.max(initial=0) > _MAX_STEP:
        return None
    return [float(np.interp(at, levels, one)) for one in below]


def _is_own_threshold(
    record: AnyMapping, volume: Volume, report: PorosityReport
) -> bool:
    """Return whether the samples were measured at the threshold of a report."""
    own = record.get("threshold")
    if own is None:
        return False
    levels = record["levels"]
    tolerance = 1.0 if volume.dtype.kind in "iu" else 1e-4 * (levels[-1] - levels[0])
    return bool(abs(own - report.threshold) <= tolerance)
