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
    from napari_geosr.measure.reports.report import PorosityReport


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

    A report with an interval from standard deviations, or of a part of the volume, is
    returned unchanged.

    Parameters
    ----------
    volume : Volume
        The measured volume.
    report : PorosityReport
        Result for this volume.
    """
    found = sampled_porosities(volume, report)
    if report.interval is not None or found is None or found.mean_image is None:
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
    shares = [
        float(np.interp(report.threshold, found["levels"], below))
        for below in found["below_level"]
    ]
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
